"""Run the arena's `[data] command` in its own kill domain and show its progress to whoever starts the loop."""

import os
import select
import sys
from pathlib import Path

from ralph.adapters.data import PreparedData, read_prepared
from ralph.adapters.domains import Domains, Start, log_of, read_log, shell
from ralph.adapters.home import homes
from ralph.config import Config
from ralph.core.crash import tail
from ralph.errors import ConfigError
from ralph.layout import Layout

LOOK_S = 0.1


def prepare(layout: Layout, config: Config, device: str, domains: Domains) -> PreparedData | None:
    """Prepare the data, or find that it is prepared; None in an arena that needs none.

    Raises:
        ConfigError: with the end of the command's output, when it fails.
    """
    if not config.data.command:
        return None
    folder = domains.fresh(layout.state / "prepare")
    layout.data.mkdir(parents=True, exist_ok=True)
    child = domains.start(
        Start(
            folder=folder,
            argv=shell(config.data.command),
            cwd=layout.arena,
            env={
                "RALPH_DATA_DIR": str(layout.data),
                "RALPH_DEVICE": device,
            },
            arena_env=config.run.env,
            writable=(layout.data,),
            visible=homes(),  # the user's program, which may collect the user's texts
            network=True,
        )
    )
    shown = 0
    try:
        while (exit_ := child.poll()) is None:
            select.select([child.fileno()], [], [], LOOK_S)
            shown = _show(log_of(folder), shown, layout.arena)
        _show(log_of(folder), shown, layout.arena)
    except KeyboardInterrupt:
        child.kill("interrupted")
        select.select([child.fileno()], [], [], 10)
        raise
    finally:
        child.close()
    log = read_log(folder)
    if not exit_.ok:
        raise ConfigError(f"preparing the data failed ({config.data.command}):\n{tail(log)}")
    lines = log.rstrip().splitlines()
    return read_prepared(layout.arena / (lines[-1].strip() if lines else "missing"))


def _show(log: Path, shown: int, arena: Path) -> int:
    """Copy what is new in the log to the terminal; the last line, the name of a file, is for us and stays out."""
    with log.open("rb") as file:
        file.seek(shown)
        data = file.read()
    last = data[data.rstrip(b"\n").rfind(b"\n") + 1 :]
    if (arena / os.fsdecode(last.strip(b"\0\r\n "))).is_file():
        data = data[: -len(last)]
    if data and sys.stderr.isatty():
        os.write(sys.stderr.fileno(), data)
    return shown + len(data)
