"""What the supervisor needs of the world, as protocols. Each has a real implementation and a scripted one that ships.

Processes are *jobs*: `start` returns at once, `poll` answers None until the job's whole process tree is gone. `remains`
answers with the result of a job that finished before this supervisor came, so that a restart never repeats a finished
one; `start` first removes whatever an unfinished one left, processes included.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from ralph.events import AgentEnded, Entry, Event, RunEnded, Scored
from ralph.model import Change, Document, EarlyStop, Learning, Proposal

T_co = TypeVar("T_co", covariant=True)


class Clock(Protocol):
    """Time. Durations come from `monotonic`, the record from `utc`."""

    def utc(self) -> datetime:
        """Now, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never backwards."""
        ...

    def slept(self) -> float:
        """Seconds for which the machine was suspended since it booted; `monotonic` stands still meanwhile."""
        ...


class Ledger(Protocol):
    """The append-only record of events."""

    def append(self, event: Event, *, durable: bool = True) -> Entry:
        """Write `event` behind the others, then return its entry; with `durable` they all are by then."""
        ...

    def sync(self) -> None:
        """Make durable what is not yet."""
        ...

    def entries(self) -> Iterator[Entry]:
        """All entries, oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """How far a run says it is: its stage (set-up, training, export), for how many seconds, its last step and loss.

    `waits_for` says who has its device, as long as it has not begun for that.
    """

    stage: str
    stage_s: float
    step: int | None = None
    loss: float | None = None
    waits_for: str = ""


class Job(Protocol[T_co]):
    """One process tree at work."""

    def news(self) -> News | None:
        """How far it is, where that is known; for people to look at, believed in nothing."""
        ...

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when `poll` should be asked again; None if it can be asked at once."""
        ...

    def poll(self) -> T_co | None:
        """The result once everything is over, else None."""
        ...

    def stop(self, reason: str) -> None:
        """Ask for its end. Returns at once; the result follows through `poll`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOrder:
    """What one agent is started with: its worktree, the file with all it may know, the facts for those that compute.

    `usd_left` and `tokens_left` are what it may spend; None is no cap.
    """

    id: int
    attempt: int
    agent: str
    tree: str
    brief: Path | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    usd_left: float | None = None
    tokens_left: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """One run of `commit`, checked out at `tree`, on the device of this lane, which may be open for one prepared."""

    id: int
    run: int
    seed: int
    commit: str
    tree: str
    lane: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreOrder:
    """Score what run `run` of experiment `id` left: on the validation split, or with `audit`, the number of the
    attempt, on the audit split.
    """

    id: int
    run: int
    seed: int
    commit: str
    audit: int = 0
    lane: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a device does at one moment, and for whom; None is what it does not tell.

    `at_s` is monotonic. Sums of seconds since some moment of the past, on a CPU: `own_s` that the run's processes
    computed, `busy_s` that anybody did on the cores that the run may use, `stolen_s` that a hypervisor gave to other
    machines, `waited_s` that the run's threads were ready and had no core, `throttled_s` that heat slowed the cores.
    `slowed` are reasons for which it runs slower than it could that are no business of the run (heat, a weak power
    supply); `capped`, those that belong to it (its power limit). `others` are foreign processes at work on a device
    that a run should have for itself; `early`, those of the processes that wait for it that are at work there before
    their turn. `unwatched` says why nothing could be seen.
    """

    at_s: float
    own_s: float | None = None
    busy_s: float | None = None
    stolen_s: float | None = None
    waited_s: float | None = None
    throttled_s: float | None = None
    cores: int = 0
    temperature_c: float | None = None
    clock_mhz: float | None = None
    memory_used_bytes: int | None = None
    slowed: tuple[str, ...] = ()
    capped: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    early: tuple[int, ...] = ()
    unwatched: str = ""


class Device(Protocol):
    """What runs are carried out on, one at a time. Whatever cannot be told is no reason to stop."""

    name: str
    sample_s: float

    def lease(self) -> str:
        """Take it for this supervisor. Empty; else who has it: "pid 7 has". Never waits; again changes nothing."""
        ...

    def release(self) -> None:
        """Give it back; nothing happens if it was not taken."""
        ...

    def taken(self) -> str:
        """Who holds its memory though no run of ours is at work, in words; empty when it is free."""
        ...

    def sample(self, root: int | None, waiting: Sequence[int] = ()) -> Sample:
        """Look at it now; the run is process `root` and what is below it, and each of `waiting` is another that should
        not be there yet. Raises DeviceError when it is lost.
        """
        ...


class Agents(Protocol):
    """Starts agents.

    A standby is a process in its final kill domain that has imported what it will need and read nothing of the
    campaign. It serves the one order that it was started for, if that comes; else it is ended.
    """

    def stand_by(self, order: AgentOrder) -> None:
        """Have a standby for an order that is expected next, without its brief; does nothing where it gains nothing."""
        ...

    def dismiss(self) -> None:
        """End the standby; nothing of it is left afterwards."""
        ...

    def remains(self, order: AgentOrder) -> AgentEnded | None:
        """How it ended, if it did before a restart."""
        ...

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        """Start the agent of this order."""
        ...

    def proposal(self, order: AgentOrder) -> Proposal:
        """What it handed back. Raises RefusedError with the reason when it is not usable."""
        ...


class Runner(Protocol):
    """Carries out runs. The process of a run may be started before its device is free: as far as the arena allows."""

    def remains(self, order: RunOrder) -> RunEnded | None:
        """How it ended, if it did before a restart. A process that was prepared and never had its device left none."""
        ...

    def prepare(self, order: RunOrder) -> None:
        """Start the process of this run early: as far as the arena allows, at least up to its command.

        Its checkout is in use from then on. Once more changes nothing; another order of the same experiment and run
        takes its place.
        """
        ...

    def prepared(self, order: RunOrder) -> bool:
        """Whether the process of this very order was started early: then its checkout is in use, and stays."""
        ...

    def drop(self, order: RunOrder | None = None) -> None:
        """End what was prepared for `order`, or all that was prepared; nothing of it is left afterwards, nor on disk.

        Whether there is such a thing or not.
        """
        ...

    def start(self, order: RunOrder) -> Job[RunEnded]:
        """Start the run: with the process prepared for this very order if there is one, else with a new one."""
        ...

    def curve(self, order: RunOrder) -> tuple[float | None, ...]:
        """Its loss so far, as `RunEnded.curve` will have it, by its own word; empty if it logs none."""
        ...

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        """Put on record that it is to be stopped, or spared: its `RunEnded` says so, also after a restart."""
        ...


class Scorer(Protocol):
    """Turns what a run left into a score, from the sealed copy made at the campaign's start."""

    def broken_seal(self) -> str:
        """What differs in the sealed copy, in words; empty when all is as it was. What differed is put right."""
        ...

    def remains(self, order: ScoreOrder) -> Scored | None:
        """What it said, if it did before a restart. A process that was prepared and never released said nothing."""
        ...

    def prepare(self, order: ScoreOrder) -> None:
        """Start its process early, where it may: it imports, and touches neither artifact nor data nor device.

        Once more changes nothing; another order on the same artifact takes its place.
        """
        ...

    def drop(self, order: ScoreOrder | None = None) -> None:
        """End what was prepared for `order`, or all that was prepared; nothing of it is left afterwards, nor on disk.

        Whether there is such a thing or not.
        """
        ...

    def start(self, order: ScoreOrder) -> Job[Scored]:
        """Start scoring: with the process prepared for this very order if it still lives, else with a new one."""
        ...


class Repo(Protocol):
    """The repository. The user's checkout, index and untracked files are never touched."""

    def open_campaign(self, campaign: str, base: str) -> None:
        """Make the campaign's branch at `base`; nothing happens if it is there already."""
        ...

    def checkout(self, name: str, commit: str) -> Path:
        """A fresh worktree of `commit`; whatever was under that name before is gone."""
        ...

    def discard(self, name: str) -> None:
        """Remove a worktree; nothing happens if there is none."""
        ...

    def examine(self, name: str, base: str) -> Change:
        """What the worktree changes against `base`. Raises RefusedError naming the rule that it breaks."""
        ...

    def draft(self, name: str, base: str) -> str:
        """What the worktree changes in the editable files, as a diff of bounded length; empty if it cannot be read."""
        ...

    def pin(self, ref: str, commit: str) -> None:
        """Point `ref` at `commit`."""
        ...

    def rebase(self, commit: str, onto: str) -> Change:
        """What `commit` changes against its parent, made on `onto`. Raises RefusedError if it does not apply there."""
        ...

    def commit(self, change: Change, base: str, message: str, ref: str) -> str:
        """Commit `change` on `base` and pin it under `ref`; the same again if it is there already."""
        ...

    def advance(self, campaign: str, old: str, new: str) -> None:
        """Move the campaign's branch from `old` to `new` by compare-and-set. Raises MovedBranchError."""
        ...

    def note(self, commit: str, text: str) -> None:
        """Set the verdict note of `commit`."""
        ...

    def history(self, commit: str, limit: int) -> Sequence[str]:
        """One line per commit of the incumbent's branch, newest first, with its note."""
        ...

    def files(self, commit: str) -> Mapping[str, str]:
        """Text of the editable files at `commit`, by path relative to the arena."""
        ...

    def diff(self, old: str, new: str) -> str:
        """A unified diff of the editable files."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """The human's words at one moment: program.md, and the lines of learnings.md that are not ours."""

    program: str
    lines: tuple[str, ...] = ()
    learnings: tuple[str, ...] = ()


class Papers(Protocol):
    """The files that humans and agents read."""

    def guidance(self) -> Guidance:
        """What the human says now, and the learnings on file."""
        ...

    def learn(self, campaign: str, id: int, learnings: Sequence[Learning], marks: Sequence[str] = ()) -> None:  # noqa: A002
        """Append these, and our lines `marks`, to learnings.md unless they are there; no other byte changes."""
        ...

    def brief(self, id: int, attempt: int, text: str) -> Path:  # noqa: A002 - the word of the ledger
        """Store what an agent will know."""
        ...

    def record(self, id: int, row: Mapping[str, object], line: str) -> None:  # noqa: A002
        """Add one verdict to history.jsonl (`row`) and results.tsv (`line`), once per experiment id."""
        ...

    def remember(self, document: Document) -> None:
        """Make an experiment known to those who ask what was tried; once more changes nothing."""
        ...

    def progress(self, text: str) -> None:
        """Replace progress.md."""
        ...

    def picture(self, data: Mapping[str, object]) -> None:
        """Redraw the picture, some time soon, in a process of its own."""
        ...

    def log(self, text: str) -> None:
        """Add to the supervisor's own log."""
        ...

    def tidy(self, id: int, keep_artifact: bool) -> None:  # noqa: A002
        """Drop what nobody needs of an experiment that is over: homes, caches, artifacts of the discarded."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What people asked for since the last look."""

    stop: bool = False
    stop_now: bool = False
    pause: bool = False
    by: str = ""


class Control(Protocol):
    """Signals, files and time: how the outside reaches the loop."""

    def read(self) -> Signals:
        """The wishes in force."""
        ...

    def wait(self, jobs: Iterable[Job[object]], timeout_s: float) -> None:
        """Sleep until a job has news, somebody wishes something, or the time is over."""
        ...


class Watcher(Protocol):
    """Who looks on: a terminal, a log. `every_s` is how often it wants to look while nothing happens."""

    every_s: float

    def event(self, entry: Entry) -> None:
        """Something was recorded."""
        ...

    def tick(self, news: News | None) -> None:
        """The loop is about to wait; `news` is what the run in flight says."""
        ...


class Disk(Protocol):
    """Room for what the loop writes."""

    def shortage(self) -> str:
        """Why nothing may begin for want of room, in words; empty while there is enough."""
        ...

    def relieve(self) -> bool:
        """Give up the reserve, so that last words can be written; whether there was one."""
        ...


def _nowhere(point: str) -> None:
    """Pass every named point of the loop by."""


def _nothing() -> None:
    """Nothing is to be made ready for a restart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All ports together, chosen once by the front. `reach` is told each named point of the loop, for crash drills.
    `keep` is called when an experiment is settled and when the loop is over: now and then it makes a restart fast.

    `scorer_imports` are the stages of a run in which its scorer may import what it needs: on a GPU, which that does not
    disturb, from the beginning of training on. The picture is drawn at most every `picture_every_s` seconds, since that
    disturbs runs on a CPU; while nothing happens progress.md is written every `report_every_s`, so that it says how far
    a run has come.
    """

    clock: Clock
    ledger: Ledger
    repo: Repo
    agents: Agents
    runner: Runner
    scorer: Scorer
    papers: Papers
    control: Control
    watcher: Watcher
    disk: Disk
    reach: Callable[[str], None] = _nowhere
    keep: Callable[[], None] = _nothing
    picture_every_s: float = 60.0
    scorer_imports: frozenset[str] = frozenset({"export"})
    report_every_s: float = 30.0
    pid: int = 0
    host: str = ""
    version: str = ""
    sandbox: str = "none"
