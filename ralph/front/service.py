"""`ralph service`: a systemd user unit that starts this folder's loop, keeps it alive and lets its runs finish."""

import getpass
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ralph.adapters.files import write_atomic
from ralph.adapters.systemd import MARK, SYSTEMCTL_S, Unit, systemctl, unit_folder
from ralph.config import load
from ralph.errors import ConfigError
from ralph.front.look import supervisor_alive
from ralph.layout import Layout

ENDING_S = 120  # beside the run in hand: killed trees, the last picture, what git and the disk take
SHOWN = ("ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts", "StatusText", "UnitFileState")
WANTS = "default.target.wants"
LINGER = Path("/var/lib/systemd/linger")


def unit_of(layout: Layout) -> Unit:
    """The unit that this folder would get now."""
    return Unit(
        root=layout.root,
        program=(sys.executable, "-m", "ralph", "loop"),
        stop_s=round(longest_in_hand_s(layout)) + ENDING_S,
        # a user's manager knows neither the PATH of a login shell nor where its CUDA is
        environment={"PATH": os.environ.get("PATH", os.defpath)},
    )


def longest_in_hand_s(layout: Layout) -> float:
    """Seconds until what is in flight is over: an agent that thinks, or a run with its scoring, on either device."""
    configs = [load(layout.arena_toml, device=device) for device in (None, "cpu")]
    runs = [c.run.setup_s + c.run.budget_s + c.run.export_s + 2 * c.run.grace_s + c.score.timeout_s for c in configs]
    return max(*runs, configs[0].agent.timeout_s)


def install(layout: Layout) -> Iterator[str]:
    """Write the unit and start it; what was done and what is left to type, in sentences. May be repeated.

    Raises:
        ConfigError: when a file that is not ours has that name.
    """
    unit = unit_of(layout)
    path = _place(unit)
    changed = _ours(path) != unit.text()
    if changed:
        write_atomic(path, unit.text())
    yield f"{'written' if changed else 'as it was'}: {path}"
    commands = ("daemon-reload",), ("enable", "--now", "--no-block", unit.name)
    for number, words in enumerate(commands):
        answer = systemctl(*words)
        if not answer.ok:
            left = " && ".join(f"systemctl --user {shlex.join(each)}" for each in commands[number:])
            yield f"systemd did not take it ({answer.text}). Where your user manager runs, type: {left}"
            return
    yield f"enabled and started; see `ralph service status`, or `journalctl --user -u {unit.name}`"
    if not (LINGER / getpass.getuser()).exists():
        yield "it ends with your last login, unless you type: loginctl enable-linger"


def uninstall(layout: Layout) -> Iterator[str]:
    """Stop the unit, which finishes the run in hand, and remove exactly what `install` wrote.

    Raises:
        ConfigError: when the file of that name is not ours.
    """
    unit = unit_of(layout)
    path = _place(unit)
    if not _ours(path):
        yield f"not installed: there is no {path}"
        return
    if supervisor_alive(layout):
        yield "it stops after the run in hand; `ralph stop --now` in another terminal does not wait for that"
    answer = systemctl("disable", "--now", unit.name, timeout_s=unit.stop_s + SYSTEMCTL_S)
    if not answer.ok:
        yield f"systemd did not stop it ({answer.text}); if a loop is at work here, end it with `ralph stop`"
    link = path.parent / WANTS / path.name  # what `enable` makes and `disable` takes away
    if link.is_symlink():
        link.unlink()
    path.unlink()
    yield f"removed: {path}"
    if answer.ok:
        systemctl("daemon-reload")


def status(layout: Layout) -> dict[str, Any]:
    """The unit as it is on disk and as the manager sees it. `current`: it says what `install` would write now."""
    unit = unit_of(layout)
    path = _place(unit)
    text = _ours(path)
    view: dict[str, Any] = {
        "unit": unit.name,
        "file": str(path),
        "installed": bool(text),
        "current": _settings(text) == _settings(unit.text()),
        "loop_alive": supervisor_alive(layout),
        "manager": None,
        "problem": "",
    }
    answer = systemctl("show", f"--property={','.join(SHOWN)}", unit.name)
    if answer.ok:
        view["manager"] = dict(line.partition("=")[::2] for line in answer.text.splitlines())
    else:
        view["problem"] = answer.text
    return view


def told(view: dict[str, Any]) -> list[str]:
    """A status in sentences."""
    if not view["installed"]:
        said = [f"not installed: there is no {view['file']}"]
    else:
        said = [f"installed: {view['file']}"]
        if not view["current"]:
            said.append("it is not what would be written now; bring it up to date with `ralph service install`")
    manager = view["manager"]
    if manager is None:
        said.append(f"systemd does not answer: {view['problem']}")
    elif view["installed"]:
        state = f"{manager.get('ActiveState')} ({manager.get('SubState')}), {manager.get('UnitFileState')}"
        ended = f", last exit status {manager.get('ExecMainStatus')}" if manager.get("ActiveState") != "active" else ""
        said.append(f"{state}, restarted {manager.get('NRestarts')} times{ended}")
        if manager.get("StatusText"):
            said.append(manager["StatusText"])
    said.append("a supervisor is at work in this folder" if view["loop_alive"] else "no supervisor is at work here")
    return said


def _settings(text: str) -> list[str]:
    """What a unit says but for the environment, which depends on who asks."""
    return [line for line in text.splitlines() if not line.startswith("Environment=")]


def _place(unit: Unit) -> Path:
    return unit_folder(os.environ) / unit.name


def _ours(path: Path) -> str:
    """The text of our unit; empty when there is none. Raises ConfigError for a file of somebody else."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return ""
    if not text.startswith(MARK):
        raise ConfigError(f"{path} was not written by `ralph service install`; move it away first")
    return text
