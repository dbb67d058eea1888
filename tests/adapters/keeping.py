"""What the tests of kill domains share: starting payloads, waiting with a deadline, looking for survivors."""

import os
import re
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ralph.adapters.process import Child, Command, Exit, spawn

PAYLOADS = Path(__file__).with_name("misbehaving.py")
PATIENCE_S = 60.0  # never waited for on a machine that works, however loaded


def until(condition: Callable[[], Any], what: str) -> None:
    """Poll until the condition holds; fail after `PATIENCE_S`."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"still waiting for: {what}"
        select.select([], [], [], 0.005)


def payload(kind: str, folder: Path) -> tuple[str, ...]:
    """A program of misbehaving.py; the folder among its arguments marks all its processes."""
    return (sys.executable, "-I", "-S", str(PAYLOADS), kind, str(folder))


def command(folder: Path, argv: tuple[str, ...], **options: Any) -> Command:
    folder.mkdir(exist_ok=True)
    environment = options.pop("env", {"PATH": os.environ["PATH"]})
    return Command(argv=argv, cwd=folder, env=environment, folder=folder, log=folder / "log.txt", **options)


def end_of(child: Child) -> Exit:
    """Wait for the end as the supervisor does: selector first, then poll."""
    end = time.monotonic() + PATIENCE_S
    while (result := child.poll()) is None:
        assert time.monotonic() < end, "the payload does not end"
        select.select([child], [], [], 0.5)
    child.close()
    return result


def is_ready(folder: Path) -> bool:
    log = folder / "log.txt"
    return log.exists() and b"ready" in log.read_bytes()


def run(folder: Path, kind: str, *, kill: str = "", **options: Any) -> Exit:
    """Start a misbehaving payload, wait until it is in place, perhaps kill it, and return its end."""
    child = spawn(command(folder, payload(kind, folder), **options))
    if kill:
        until(lambda: is_ready(folder), f"{kind} to be ready")
        child.kill(kill)
    return end_of(child)


def as_supervisor(act: Callable[[], object]) -> int:
    """Let a forked copy of this process be the supervisor; its pid. It ends with status 0 if `act` returns."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def die(_child: Child) -> None:
    """End by kill -9, holding on to the child until then: without a reference its control channel would close."""
    os.kill(os.getpid(), signal.SIGKILL)


def living() -> dict[int, bytes]:
    """All processes but zombies, with their command lines; a kernel thread has none and is left out."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if line and state not in b"ZX":
                found[int(entry.name)] = line
    return found


@contextmanager
def nothing_survives(folder: Path, *, within_s: float = 0.0) -> Iterator[None]:
    """Fail if a process lives afterwards that has to do with `folder`: at once, or when nobody waits for it, soon.

    It has to do with it if it mentions it in its command line or environment, works in it, or has a file of it open.
    """
    try:
        yield
    finally:
        end = time.monotonic() + within_s
        while (left := ours(folder)) and time.monotonic() < end:
            select.select([], [], [], 0.005)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"survivors: {left}"


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process lead to; those that it closes meanwhile are not among them."""
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(os.readlink(each))  # noqa: PTH115 - not all are paths
    return found


def ours(folder: Path) -> dict[int, bytes]:
    return {pid: line for pid, line in living().items() if pid != os.getpid() and _belongs(pid, line, folder)}


def _belongs(pid: int, line: bytes, folder: Path) -> bool:
    name = re.compile(re.escape(os.fsencode(folder)) + rb"(?!\w)")
    if name.search(line):
        return True
    entry = Path(f"/proc/{pid}")
    try:
        links = [os.readlink(entry / "cwd"), *open_files(pid)]  # noqa: PTH115 - as texts
        return any(name.search(text) for text in ((entry / "environ").read_bytes(), *map(os.fsencode, links)))
    except OSError:
        return False
