"""A campaign of any length, made in seconds: a ledger with a real chain of checksums; its commits, refs and notes.

What an experiment is like is drawn from a fixed seed: one in a hundred is kept, six crash with a log's tail, three
break a rule, one in five is run twice, one in three leaves a learning. Texts are as long as agents write them.
"""

import hashlib
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ralph.adapters.git_command import IDENTITY
from ralph.adapters.ledger import encode
from ralph.events import (
    AgentEnded,
    Briefed,
    CampaignOpened,
    Committed,
    Entry,
    Event,
    Judged,
    Refused,
    RunEnded,
    RunStarted,
    Scored,
    Settled,
    SupervisorStarted,
    SupervisorStopped,
)
from ralph.model import (
    AgentOutcome,
    CrashKind,
    JsonValue,
    Learning,
    Outcome,
    Verdict,
)

CAMPAIGN = "scale"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SIGMA = 0.0005
CONSTANTS: dict[str, JsonValue] = {f"train.py:CONSTANT_{n}": float(n + 1) for n in range(24)}
IDEAS = ("warm-up", "weight decay", "dropout", "matrix learning rate", "rotary base", "head size", "window", "softcap")
WHYS = ("the gradients are noisy", "memory is short", "the tables overfit", "the schedule ends too early")
TAIL = "\n".join(f'  File "train.py", line {n}, in step\n    loss = model(x, y).mean() / accumulate' for n in range(12))
TOML = """\
[arena]
name = "lab"
editable = ["train.py"]

[run]
command = "python train.py"
budget_s = 300
device = "none"

[score]
mode = "reported"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What one experiment will be: `kind` is its verdict, `base` the experiment that it starts from."""

    id: int
    kind: Verdict
    base: int
    constant: str
    value: float
    score: float


def drawn(experiments: int, seed: int = 5) -> Iterator[Drawn]:
    """Every experiment but the baseline."""
    rng, incumbent, truth = random.Random(seed), 0, 1.0
    for id_ in range(1, experiments + 1):
        draw, constant = rng.random(), rng.choice(list(CONSTANTS))
        score = truth + abs(rng.gauss(0.0, 6 * SIGMA))
        if draw < 0.06:
            kind = Verdict.CRASH
        elif draw < 0.09:
            kind = Verdict.INVALID
        elif draw < 0.10:
            kind, truth = Verdict.KEEP, truth - 0.002 / (1 + incumbent / 500)
            score = truth
        else:
            kind = Verdict.DISCARD
        yield Drawn(id=id_, kind=kind, base=incumbent, constant=constant, value=round(rng.random(), 6), score=score)
        if kind is Verdict.KEEP:
            incumbent = id_


def write_ledger(path: Path, experiments: int, opened: CampaignOpened, commits: Mapping[int, str]) -> int:
    """Make the ledger of an ended campaign; its size in bytes. `commits` are by experiment."""
    link, seq, at = "", 0, BEGIN
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for seconds, event in _told(experiments, opened, commits):
            at, seq = at + timedelta(seconds=seconds), seq + 1
            line, link = encode(Entry(seq=seq, at=at, event=event), link)
            file.write(line)
        return file.tell()


def _told(experiments: int, opened: CampaignOpened, commits: Mapping[int, str]) -> Iterator[tuple[float, Event]]:
    yield 0.0, opened
    yield 1.0, SupervisorStarted(pid=1, host="lab", version="0", sandbox="none")
    for number in (1, 2, 3):
        yield from _run(0, number, 1.0 + number * SIGMA)
    yield 0.0, Judged(id=0, verdict=Verdict.KEEP, reason="baseline")
    yield 0.1, Settled(id=0)
    for one in drawn(experiments):
        yield from _experiment(one, commits)
    yield 0.1, SupervisorStopped(status=0, reason=f"{experiments} experiments are done")


def _experiment(one: Drawn, commits: Mapping[int, str]) -> Iterator[tuple[float, Event]]:
    id_, base, words = one.id, commits[one.base], words_of(one)
    attempts, rule = 3 if one.kind is Verdict.INVALID else 1, "prepare.py changed; only train.py may"
    for attempt in range(1, attempts + 1):
        yield 0.1, Briefed(id=id_, base=base, agent="tuner", attempt=attempt, why="shares: tuner has had its share")
        yield 25.0, AgentEnded(id=id_, attempt=attempt, outcome=AgentOutcome.PROPOSED, reason="", seconds=25.0)
        if one.kind is Verdict.INVALID:
            yield (
                0.1,
                Refused(id=id_, attempt=attempt, reason=rule, hypothesis=words),
            )
    if one.kind is Verdict.INVALID:
        yield 0.0, Judged(id=id_, verdict=Verdict.INVALID, reason=rule)
    else:
        yield 0.2, _committed(one, commits[id_], words)
        yield from _measured(one)
    yield 0.2, Settled(id=id_)


def words_of(one: Drawn) -> str:
    """A hypothesis as an agent would put it."""
    idea, why = IDEAS[one.id % len(IDEAS)], WHYS[one.id % len(WHYS)]
    return (
        f"{one.constant.rpartition(':')[2]} = {one.value:g} with more {idea}, because {why} at {one.id}; expect -0.001"
    )


def _committed(one: Drawn, commit: str, words: str) -> Committed:
    text = f"{IDEAS[one.id % 8]} moved the score by {one.value:g} where {WHYS[one.id % 4]} around #{one.id}"
    evidence = tuple(range(max(0, one.id - 3), one.id))
    return Committed(
        id=one.id,
        commit=commit,
        hypothesis=words,
        expected="-0.001",
        learnings=(Learning(text=text, evidence=evidence),) if one.id % 3 == 0 else (),
        constants={one.constant: one.value},
        meaning=hashlib.sha256(b"%d" % one.id).hexdigest(),
    )


def _measured(one: Drawn) -> Iterator[tuple[float, Event]]:
    id_ = one.id
    if one.kind is Verdict.CRASH:
        yield 0.1, RunStarted(id=id_, run=1, seed=1000 * id_ + 1, for_id=id_)
        said = f"torch.OutOfMemoryError: CUDA out of memory, tried to allocate {one.value:g} GiB"
        ended = RunEnded(
            id=id_, run=1, outcome=Outcome.CRASH, crash=CrashKind.OUT_OF_MEMORY, reason=said, tail=TAIL, seconds=41.0
        )
        yield 41.0, ended
        yield 0.0, Judged(id=id_, verdict=Verdict.CRASH, reason=said, crash=CrashKind.OUT_OF_MEMORY)
        return
    for number in range(1, 3 if id_ % 5 == 0 else 2):
        yield from _run(id_, number, one.score + (number - 1) * SIGMA)
    delta = one.score - 1.0
    reason = f"{abs(delta):.4f} against #{one.base} with {id_ % 5} repeats, beyond noise at a false-keep rate of 0.05"
    yield 0.0, Judged(id=id_, verdict=one.kind, reason=reason, delta=delta, delta_se=SIGMA, against=one.base)


def _run(id_: int, number: int, score: float) -> Iterator[tuple[float, Event]]:
    yield 0.1, RunStarted(id=id_, run=number, seed=1000 * id_ + number, for_id=id_)
    record: dict[str, JsonValue] = {"device_name": "H100", "device_clock_mhz": 1980.0, "device_temperature_c": 61.0}
    ended = RunEnded(
        id=id_, run=number, outcome=Outcome.OK, setup_s=9.0, train_s=300.0, export_s=2.0, seconds=311.5,
        peak_bytes=44 * 2**30, record=record,
    )  # fmt: skip
    yield 312.0, ended
    yield 6.0, Scored(id=id_, run=number, outcome=Outcome.OK, score=score, seconds=6.0)


# --- git


def program_of(text: float) -> str:
    """An editable file of some size."""
    return "\n".join([f"VALUE = {text!r}", *(f"CONSTANT_{n} = {float(n + 1)}" for n in range(24)), ""])


def write_repo(folder: Path, experiments: int) -> dict[int, str]:
    """Commits, refs and notes of such a campaign in a new repository; the commits by experiment."""
    git(folder, "init", "-q", "-b", "main")
    marks = folder / ".git" / "marks"
    git(folder, "fast-import", "--quiet", f"--export-marks={marks}", stdin=_imported(experiments))
    rows = (line.split() for line in marks.read_text().splitlines())
    commits = {int(mark[1:]) - 1: sha for mark, sha in rows}
    git(folder, "checkout", "-q", "-f", "main")
    return commits


def _imported(experiments: int) -> bytes:
    """A stream for `git fast-import`: mark n + 1 is experiment n."""
    out = [_commit("refs/heads/main", 1, "", "the arena", program_of(0.0), b"arena.toml")]
    out.append(f"reset refs/ralph/{CAMPAIGN}/experiments/0\nfrom :1\n\n".encode())
    noted = [(1, "keep: baseline")]
    incumbent = 0
    for one in drawn(experiments):
        if one.kind is Verdict.INVALID:
            continue
        ref = f"refs/ralph/{CAMPAIGN}/experiments/{one.id}"
        out.append(_commit(ref, one.id + 1, f"from :{one.base + 1}\n", words_of(one), program_of(one.value)))
        noted.append((one.id + 1, f"{one.kind}: {words_of(one)}"))
        incumbent = one.id if one.kind is Verdict.KEEP else incumbent
    out.append(f"reset refs/heads/ralph/{CAMPAIGN}\nfrom :{incumbent + 1}\n\n".encode())
    out.append(b"commit refs/notes/ralph\n" + _by() + _data("notes"))
    out += [b"N inline :%d\n%b" % (mark, _data(text)) for mark, text in noted]
    return b"".join(out)


def _commit(ref: str, mark: int, parent: str, words: str, text: str, toml: bytes = b"") -> bytes:
    head = f"commit {ref}\nmark :{mark}\n".encode() + _by() + _data(words) + parent.encode()
    extra = b"M 100644 inline arena.toml\n" + _data(TOML) if toml else b""
    program = b"M 100644 inline program.md\n" + _data("Make it better.\n") if toml else b""
    return head + b"M 100644 inline train.py\n" + _data(text) + extra + program + b"\n"


def _by() -> bytes:
    return b"committer ralph <ralph@localhost> 1767225600 +0000\n"


def _data(text: str) -> bytes:
    raw = text.encode()
    return b"data %d\n%b\n" % (len(raw), raw)


def git(folder: Path, *args: str, stdin: bytes = b"") -> str:
    """One git command in a folder."""
    done = subprocess.run(["git", "-C", str(folder), *args], input=stdin, capture_output=True, check=True, env=_env())
    return done.stdout.decode()


def _env() -> dict[str, str]:
    return {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": "/dev/null"}
