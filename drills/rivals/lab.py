"""One run of a contestant, watched from outside."""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.rivals.contestant import Contestant, Task
from ralph.adapters.process import become_subreaper
from tests.provider.replies import Reply, Request
from tests.provider.server import Provider

WHOLE_S = 240.0  # no run of a few candidates should last longer
STOP_S = 45.0  # and none should take longer to stop
GRACE_S = 5.0  # what lives so long after its program is a survivor
ANSWER = """\
<NAME>
candidate
</NAME>

<DESCRIPTION>
The next one.
</DESCRIPTION>

<CODE>
```python
{text}```
</CODE>
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a program ended.

    Attributes:
        status: its exit status, negative if a signal ended it; None if it had to be killed because it did not end.
        seconds: from the start, or from the signal that was sent to it.
        survivors: the command lines of processes that began under it and lived on.
    """

    status: int | None
    seconds: float
    survivors: tuple[str, ...]


@contextmanager
def task(candidates: Callable[[Path], Sequence[str]]) -> Iterator[tuple[Task, Provider]]:
    """A folder, a home and a server that hands out the candidates in turn, as a model would that is asked for code."""
    with tempfile.TemporaryDirectory(prefix="drill-", ignore_cleanup_errors=True) as name:
        folder, home = Path(name, "work"), Path(name, "home")
        (folder / "task").mkdir(parents=True)
        home.mkdir()
        programs = candidates(Path(name))
        script = [Reply(text=ANSWER.format(text=text)) for text in programs]

        def answer(request: Request) -> Reply:
            return script[min(request.number, len(script) - 1)]

        with Provider(answer) as server:
            yield Task(folder=folder, home=home, url=server.url, candidates=programs), server


@contextmanager
def started(contestant: Contestant, job: Task, key: str, *, again: bool = False) -> Iterator["Program"]:
    """The program, running. Nothing of it lives behind this."""
    become_subreaper()  # orphans become our children: nothing that began under it is out of sight
    environment = {"PATH": os.environ["PATH"], "HOME": str(job.home), "OPENAI_API_KEY": key, "RALPH_NO_PICTURE": "1"}
    identity = {f"GIT_{who}_{what}": "drill" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    with (job.folder / "said.txt").open("ab") as said:
        process = subprocess.Popen(
            contestant.argv(job, again=again),
            cwd=job.task,
            env=environment | identity,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield Program(process)
    finally:
        _end_all()


class Program:
    """A contestant at work."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._since = time.monotonic()

    def until(self, true: Callable[[], bool], limit_s: float = WHOLE_S) -> bool:
        """Wait for something of it; whether it came before the program ended."""
        ends = time.monotonic() + limit_s
        while not true():
            if self._process.poll() is not None or time.monotonic() > ends:
                return true()
            _pause(0.02)
        return True

    def signal(self, number: int) -> None:
        """To its first process alone, as `kill` does."""
        self._since = time.monotonic()
        self._process.send_signal(number)

    def end(self, limit_s: float = WHOLE_S) -> End:
        """Its end, and who lived on."""
        try:
            status: int | None = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        seconds = time.monotonic() - self._since
        if status is None:
            self._process.kill()
            self._process.wait()
        ends = time.monotonic() + GRACE_S
        while _descendants() and time.monotonic() < ends:
            _pause(0.05)
        return End(status=status, seconds=seconds, survivors=tuple(_descendants().values()))


def disk_bytes(folder: Path) -> int:
    """What its files take."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _descendants() -> dict[int, str]:
    """Everything below this process that is alive, with its command line; the dead among our children are reaped."""
    _reap()
    parents, words = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            words[int(entry.name)] = (
                (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            )
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            parents[int(entry.name)] = int(parent)
    found: dict[int, str] = {}
    waiting = {os.getpid()}
    while waiting:
        waiting = {pid for pid, parent in parents.items() if parent in waiting and pid not in found}
        found |= {pid: words[pid] for pid in waiting}
    return found


def _end_all() -> None:
    while left := _descendants():
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _pause(0.02)


def _reap() -> None:
    while True:
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is None:
                return
        except ChildProcessError:
            return


def _pause(seconds: float) -> None:
    select.select([], [], [], seconds)
