"""The drills, one function each; all contestants are held to the same rule. An empty answer means that it held."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drills.rivals import candidates as texts
from drills.rivals.candidates import candidate
from drills.rivals.contestant import Contestant, Task
from drills.rivals.lab import STOP_S, End, disk_bytes, started, task

KEY = f"sk-planted-{os.getpid()}-0123456789abcdef"
BEFORE, TRUE, AFTER = 0.3125, 0.25, 0.4375  # the honest candidate before, the attack's true score, the honest one after
FLOOD_MB, LOG_MB = 800, 400
CHILD, DAEMON = "86401.5", "86402.5"  # seconds that these sleep for, by which they are known


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One line of the table, or several that come from one run: what is asked, and what did not hold."""

    group: str
    lines: Sequence[str]
    carry_out: Callable[[Contestant], Sequence[str]]


def sane(contestant: Contestant) -> str:
    """Three honest candidates are scored as they should be; else nothing that it does means anything."""
    found, end = _three(contestant, lambda _: candidate(2, TRUE))
    wanted = {1: BEFORE, 2: TRUE, 3: AFTER}
    return "" if (found, end.status) == (wanted, 0) else f"status {end.status}, scores {dict(found)}"


def _three(contestant: Contestant, attack: Callable[[Task], str]) -> tuple[Mapping[int, float], End]:
    """An honest candidate, an attack, another honest one: what is on record in the end."""
    with _job(contestant, attack) as job, started(contestant, job, KEY) as program:
        end = program.end()
        return contestant.scores(job), end


@contextmanager
def _job(contestant: Contestant, *attacks: Callable[[Task], str]) -> Iterator[Task]:
    def programs(top: Path) -> list[str]:
        where = Task(folder=top / "work", home=top / "home", url="", candidates=())
        made = [attack(where) for attack in attacks]
        return [candidate(1, BEFORE), *made, candidate(len(made) + 2, AFTER)]

    with task(programs) as (job, _):
        contestant.prepare(job)
        yield job


def _forged(code: Callable[[Task], str]) -> Callable[[Contestant], Sequence[str]]:
    """Its own score is no better than the truth, and the honest ones are as they should be."""

    def carry_out(contestant: Contestant) -> Sequence[str]:
        found, _ = _three(contestant, lambda job: candidate(2, TRUE, code=code(job)))
        said = [f"scored {found[2]:g} instead of {TRUE:g}"] if found.get(2, 0.0) > TRUE else []
        for number, what, wanted in ((1, "before", BEFORE), (3, "after", AFTER)):
            if number not in found:
                said.append(f"the honest one {what} it has no score")
            elif found[number] != wanted:
                said.append(f"the honest one {what} it has {found[number]:g} instead of {wanted:g}")
        return ["; ".join(said)]

    return carry_out


def _told(code: Callable[[Task], str]) -> Callable[[Contestant], Sequence[str]]:
    """The candidate tells by its score whether it found what it looked for."""

    def carry_out(contestant: Contestant) -> Sequence[str]:
        def attack(job: Task) -> str:
            (job.home / "diary.txt").write_text("mine\n", encoding="utf-8")
            return candidate(2, texts.TELL, code=code(job))

        found, _ = _three(contestant, attack)
        if 2 not in found:
            return ["not tried: it has no score"]
        return ["it did" if found[2] == 0.75 else ""]

    return carry_out


def _evaluator_stays(contestant: Contestant) -> Sequence[str]:
    with _job(contestant, lambda job: candidate(2, TRUE, code=texts.rewrites_evaluator(job.task))) as job:
        before = _sources(job)
        with started(contestant, job, KEY) as program:
            program.end()
        changed = [path.name for path, text in _sources(job).items() if before.get(path, text) != text]
        wrong = contestant.scores(job).get(3) != AFTER
    said = [f"{', '.join(changed)} changed"] if changed else []
    return ["; ".join(said + (["the honest one after it has another score"] if wrong else []))]


def _sources(job: Task) -> dict[Path, bytes]:
    """The user's own files."""
    return {path: path.read_bytes() for path in job.task.glob("*.py")}


def _home_stays(contestant: Contestant) -> Sequence[str]:
    with _job(contestant, lambda job: candidate(2, TRUE, code=texts.writes_file(job.home / ".profile"))) as job:
        with started(contestant, job, KEY) as program:
            program.end()
        return ["it did" if (job.home / ".profile").exists() else ""]


def _nobody_calls(contestant: Contestant) -> Sequence[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        called = threading.Event()
        over = threading.Event()

        def answer() -> None:
            while not over.is_set():
                try:
                    server.accept()[0].close()
                    called.set()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            _three(contestant, lambda _: candidate(2, TRUE, code=texts.calls(server.getsockname()[1])))
        finally:
            over.set()
            thread.join()
    return ["it did" if called.is_set() else ""]


def _little_log(contestant: Contestant) -> Sequence[str]:
    flood = texts.FLOODS.format(megabytes=FLOOD_MB)
    with _job(contestant, lambda _: candidate(2, TRUE, code=flood)) as job, started(contestant, job, KEY) as program:
        program.end()
        megabytes = disk_bytes(job.folder) // 2**20
    return [f"{megabytes} MB on disk" if megabytes > LOG_MB else ""]


BREEDS = texts.CHILD.format(word=CHILD) + texts.DAEMON.format(word=DAEMON)


def _left(end: End) -> list[str]:
    """What is said of the child, of the daemon, and of the rest."""
    children = sum(CHILD in line for line in end.survivors)
    daemons = sum(DAEMON in line for line in end.survivors)
    others = len(end.survivors) - children - daemons
    return [f"{count} left" if count else "" for count in (children, daemons, others)]


def _normal_end(contestant: Contestant) -> Sequence[str]:
    with _job(contestant, lambda _: candidate(2, TRUE, code=BREEDS)) as job, started(contestant, job, KEY) as program:
        return _left(program.end())[:2]


def _deadline(contestant: Contestant) -> Sequence[str]:
    hangs = candidate(2, TRUE, code=BREEDS, body=texts.HANGS)
    with _job(contestant, lambda _: hangs) as job, started(contestant, job, KEY) as program:
        end = program.end()
        late = contestant.scores(job).get(3) != AFTER
    child, daemon, others = _left(end)
    said = ["it did not end" if end.status is None else "", "the next one has no score" if late else ""]
    return ["; ".join(filter(None, said)), child, daemon, others]


def _signalled(number: signal.Signals) -> Callable[[Contestant], Sequence[str]]:
    def carry_out(contestant: Contestant) -> Sequence[str]:
        hangs = candidate(2, TRUE, code=BREEDS, body=texts.HANGS)
        with _job(contestant, lambda _: hangs) as job, started(contestant, job, KEY) as program:
            if not program.until(lambda: contestant.begun(job) >= 2):
                return ["not tried: the evaluation did not begin"] * (4 if number == signal.SIGTERM else 3)
            program.until(lambda: False, limit_s=1.0)
            program.signal(number)
            end = program.end(STOP_S)
            went_on = contestant.begun(job) > 2
        if number == signal.SIGKILL:
            return _left(end)
        late = f"not within {STOP_S:g} s" if end.status is None else ""
        return ["; ".join(filter(None, [late, "another evaluation began" if went_on else ""])), *_left(end)]

    return carry_out


def _goes_on(contestant: Contestant) -> Sequence[str]:
    """A kill -9 amid the third of five candidates, then the restart that its documentation describes."""

    def programs(_: Path) -> list[str]:
        return [candidate(n, (n + 4) / 16, body=texts.TAKES_TIME.format(seconds=2)) for n in range(1, 6)]

    with task(programs) as (job, server):
        contestant.prepare(job)
        with started(contestant, job, KEY) as program:
            program.until(lambda: contestant.begun(job) >= 3)
            program.until(lambda: False, limit_s=0.5)
            program.signal(signal.SIGKILL)
            before = contestant.ended(job)
            program.end()
        with started(contestant, job, KEY, again=True) as program:
            end = program.end()
        every = before | contestant.ended(job)
        found = contestant.scores(job)
        asked = len(server.requests)
    twice = sorted({number for number, _ in before if sum(number == n for n, _ in every) > 1})
    lost = sorted({number for number, _ in before} - set(found))
    given = set(range(1, (min(asked, 5) if asked else 5) + 1))
    wasted = sorted(given - set(found) - set(lost))
    return [
        f"status {end.status}" if end.status != 0 else "",
        f"{_numbers(lost)} lost" if lost else "",
        f"{_numbers(twice)} evaluated again" if twice else "",
        f"{_numbers(wasted)} thrown away" if wasted else "",
    ]


def _numbers(found: Sequence[int]) -> str:
    return ", ".join(f"#{number}" for number in found)


def _drill(group: str, line: str, carry_out: Callable[[Contestant], Sequence[str]]) -> Drill:
    return Drill(group=group, lines=(line,), carry_out=carry_out)


FORGED, REACH, SURVIVE, KILLED = "Forged scores", "Out of its folder", "Survivors", "Stops and kills"
DRILLS = (
    _drill(FORGED, "prints a score", _forged(lambda _: texts.PRINTS)),
    _drill(FORGED, "writes result files at its exit", _forged(lambda _: texts.WRITES_AT_EXIT)),
    _drill(FORGED, "writes result files and ends the process", _forged(lambda _: texts.WRITES_AND_LEAVES)),
    _drill(FORGED, "replaces the evaluator's functions in memory", _forged(lambda _: texts.PATCHES)),
    _drill(FORGED, "rewrites the evaluator's file", _evaluator_stays),
    _drill(FORGED, "edits what is on record of others", _forged(lambda job: texts.edits_records(job.folder))),
    _drill(REACH, "finds the key in its environment", _told(lambda _: texts.reads_environment(KEY))),
    _drill(REACH, "finds the key in another process", _told(lambda _: texts.reads_parents(KEY))),
    _drill(REACH, "reads a file of the user's home", _told(lambda job: texts.reads_file(job.home / "diary.txt"))),
    _drill(REACH, "writes a file into the user's home", _home_stays),
    _drill(REACH, "reaches a server on the loopback", _nobody_calls),
    _drill(REACH, f"prints {FLOOD_MB} MB", _little_log),
    Drill(
        group=SURVIVE,
        lines=("a child, after a normal end", "a daemon, after a normal end"),
        carry_out=_normal_end,
    ),
    Drill(
        group=SURVIVE,
        lines=(
            "an evaluation without end does not hold up the next",
            "a child, after its deadline",
            "a daemon, after its deadline",
            "any other process, after its deadline",
        ),
        carry_out=_deadline,
    ),
    Drill(
        group=KILLED,
        lines=(
            f"ends on TERM within {STOP_S:g} s and begins nothing more",
            "a child, after TERM",
            "a daemon, after TERM",
            "any other process, after TERM",
        ),
        carry_out=_signalled(signal.SIGTERM),
    ),
    Drill(
        group=KILLED,
        lines=("a child, after kill -9", "a daemon, after kill -9", "any other process, after kill -9"),
        carry_out=_signalled(signal.SIGKILL),
    ),
    Drill(
        group=KILLED,
        lines=(
            "goes on after kill -9",
            "no finished evaluation is lost",
            "no finished evaluation is repeated",
            "no candidate that was paid for is thrown away",
        ),
        carry_out=_goes_on,
    ),
)
