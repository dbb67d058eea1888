"""A laboratory in memory: scripted agents, runs, scores, repository and time. A night takes a second.

A plan says for each experiment what its agent does and what the change is truly worth; the scorer adds seeded noise.
The same plan and seeds give the same ledger.
"""

import heapq
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from ralph.core import pruning
from ralph.core.curves import POINTS, Curve
from ralph.errors import MovedBranchError, RefusedError
from ralph.events import AgentEnded, Entry, Event, RunEnded, Scored
from ralph.model import AgentOutcome, Change, CrashKind, EarlyStop, JsonValue, Learning, Outcome, Proposal
from ralph.ports import AgentOrder, Job, News, RunOrder, ScoreOrder, Signals

T = TypeVar("T")
AUDIT_OFFSET = 0.05  # no two texts are equally hard
AUDIT_SEED = 2**40  # the noise of an audit is its own


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one experiment's agent proposes. `effect` is added to the base's true score; `refuse` breaks a rule.

    `conflicts`: its change applies to no other base. On the audit split the effect is `audit_effect`, where that
    differs. Without a `meaning` it is an idea that nobody has had.
    """

    effect: float = 0.0
    audit_effect: float | None = None
    hypothesis: str = "a scripted change"
    learnings: tuple[Learning, ...] = ()
    lines_delta: int = 0
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    meaning: str = ""
    replicates: int | None = None
    agent: AgentOutcome = AgentOutcome.PROPOSED
    refuse: str = ""
    crash: CrashKind | None = None
    outcome: Outcome = Outcome.OK
    tail: str = ""
    conflicts: bool = False


class LabClock:
    """Time that moves only when somebody waits."""

    def __init__(self, start: datetime = datetime(2026, 3, 8, 22, 0, tzinfo=UTC)) -> None:
        self.start, self.seconds, self.asleep_s = start, 0.0, 0.0

    def utc(self) -> datetime:
        """The laboratory's hour."""
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Seconds since the laboratory opened."""
        return self.seconds

    def slept(self) -> float:
        """As long as the test lets it."""
        return self.asleep_s


class MemoryLedger:
    """A ledger without a disk."""

    def __init__(self, clock: LabClock) -> None:
        self._clock = clock
        self.log: list[Entry] = []
        self.lasting = 0

    def append(self, event: Event, *, durable: bool = True) -> Entry:
        """Remember `event`; `lasting` is how many of all would outlive a power cut."""
        entry = Entry(seq=len(self.log) + 1, at=self._clock.utc(), event=event)
        self.log.append(entry)
        if durable:
            self.sync()
        return entry

    def sync(self) -> None:
        """All of them."""
        self.lasting = len(self.log)

    def entries(self) -> Iterator[Entry]:
        """Everything so far."""
        return iter(list(self.log))


class TimedJob(Generic[T]):
    """A job whose result is known and whose end is a moment of the laboratory's clock."""

    def __init__(self, clock: LabClock, seconds: float, result: T) -> None:
        self._clock, self._result = clock, result
        self.due = clock.seconds + seconds

    def fileno(self) -> int | None:
        """There is nothing to select on."""
        return None

    def news(self) -> News | None:
        """There is none."""
        return None

    def poll(self) -> T | None:
        """The result once its time has come."""
        return self._result if self._clock.seconds >= self.due else None

    def stop(self, reason: str) -> None:
        """End at once."""
        del reason
        self.due = self._clock.seconds


@dataclass(slots=True, kw_only=True)
class Lab:
    """Every process port of one laboratory. `plan` answers for each experiment id.

    `provider` may end an agent in the plan's place, at this hour of the laboratory: a usage limit, an empty purse.
    `usd` and `tokens` are what each agent that proposes has spent. `busy` says who disturbs a run's device at an hour.
    `curve` is the loss that a run logs at a share of its `budget_s`; without it none log any.
    """

    plan: Callable[[int], Plan]
    provider: Callable[[AgentOrder, datetime], AgentEnded | None] | None = None
    busy: Callable[[RunOrder, datetime], str] | None = None
    curve: Callable[[RunOrder, float], float] | None = None
    usd: float = 0.0
    tokens: int = 0
    clock: LabClock = field(default_factory=LabClock)
    sigma: float = 0.0005
    baseline: float = 1.0
    agent_s: float = 25.0
    run_s: float = 325.0
    budget_s: float = 300.0
    setup_s: float = 0.0  # of run_s; a run that is prepared has it behind it by its start, as far as there was time
    export_s: float = 0.0  # the last of run_s
    score_s: float = 5.0
    import_s: float = 0.0  # of score_s; likewise, of a scorer that is prepared
    started: list[str] = field(default_factory=list)
    expected: AgentOrder | None = None  # whose agent stands by
    signals: Signals = field(default_factory=Signals)
    true: dict[str, float] = field(default_factory=dict)
    audited: dict[str, float] = field(default_factory=dict)

    def audit_truth(self, commit: str) -> float:
        """The true score of a commit on the audit split, where the baseline is a little worse."""
        return self.audited.get(commit, self.baseline + AUDIT_OFFSET)

    def truth(self, commit: str) -> float:
        """The true score of a commit."""
        return self.true.get(commit, self.baseline)


class LabAgents:
    """Agents that follow the plan."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def remains(self, order: AgentOrder) -> AgentEnded | None:
        """Nothing outlives a laboratory."""
        del order
        return None

    def stand_by(self, order: AgentOrder) -> None:
        """Only say so."""
        self._lab.expected = order

    def dismiss(self) -> None:
        """Nobody waits."""
        self._lab.expected = None

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        """Think for a while."""
        lab, plan = self._lab, self._lab.plan(order.id)
        lab.started.append(f"agent {order.id}.{order.attempt} {order.agent}")
        if lab.provider and (away := lab.provider(order, lab.clock.utc())) is not None:
            return TimedJob(lab.clock, away.seconds, away)
        ended = AgentEnded(
            id=order.id,
            attempt=order.attempt,
            outcome=plan.agent,
            reason=f"{plan.agent}",
            seconds=lab.agent_s,
            usd=lab.usd,
            tokens=lab.tokens,
        )
        return TimedJob(lab.clock, lab.agent_s, ended)

    def proposal(self, order: AgentOrder) -> Proposal:
        """The plan's words."""
        plan = self._lab.plan(order.id)
        return Proposal(hypothesis=plan.hypothesis, learnings=plan.learnings, replicates=plan.replicates)


class LabRun(TimedJob[RunEnded]):
    """A run that logs as planned while it trains, and can be ended before its time. `go_s` is when training begins."""

    def __init__(self, lab: Lab, result: RunEnded, marks: Mapping[tuple[int, int], EarlyStop]) -> None:
        super().__init__(lab.clock, result.seconds, result)
        self._lab, self._began, self._marks = lab, lab.clock.seconds, marks
        self.go_s = self._began + result.setup_s

    @property
    def turns(self) -> list[float]:
        """When it has news, besides its end."""
        go = [self.go_s] if self._lab.curve else []
        return go + ([self.due - self._lab.export_s] if self._lab.export_s else [])

    def news(self) -> News | None:
        """For how long it has exported, or, if it logs anything, trained."""
        now, exports = self._lab.clock.seconds, self.due - self._lab.export_s
        if self._lab.export_s and now >= exports:
            return News(stage="export", stage_s=now - exports)
        if self._lab.curve is None or not 0 <= now - self.go_s < self._lab.budget_s:
            return None
        return News(stage="training", stage_s=now - self.go_s)

    def poll(self) -> RunEnded | None:
        """The planned end, or that of a run that was stopped."""
        ended = super().poll()
        early = self._marks.get((ended.id, ended.run)) if ended else None
        if ended is None or early is None or early.spared or ended.disturbed:
            return replace(ended, early=early) if ended else None
        took = self.due - self._began
        stopped = replace(ended, outcome=Outcome.STOPPED, crash=None, reason=pruning.reason(early), early=early)
        return replace(stopped, curve=(), seconds=took, train_s=self.due - self.go_s)


class LabRunner:
    """Runs that take their time and end as planned. One that is prepared has a shorter set-up."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._marks: dict[tuple[int, int], EarlyStop] = {}
        self._go_s: dict[tuple[int, int], float] = {}
        self._waiting: dict[RunOrder, float] = {}  # since when

    def remains(self, order: RunOrder) -> RunEnded | None:
        """Nothing outlives a laboratory."""
        del order
        return None

    def prepare(self, order: RunOrder) -> None:
        """Import and build from now on."""
        if order not in self._waiting:
            self._take(order)
            self._lab.started.append(f"prepare {order.id}.{order.run}")
            self._waiting[order] = self._lab.clock.seconds

    def prepared(self, order: RunOrder) -> bool:
        """Whether it waits."""
        return order in self._waiting

    def drop(self, order: RunOrder | None = None) -> None:
        """Forget it, or all of them."""
        for waiting in [each for each in self._waiting if order in (None, each)]:
            self._lab.started.append(f"drop {waiting.id}.{waiting.run}")
            del self._waiting[waiting]

    def _take(self, order: RunOrder) -> float | None:
        """Since when it waits, which it does no longer, and neither does another of its experiment and run."""
        since = self._waiting.pop(order, None)
        for other in [each for each in self._waiting if (each.id, each.run) == (order.id, order.run)]:
            self.drop(other)
        return since

    def start(self, order: RunOrder) -> Job[RunEnded]:
        """Train for a while."""
        lab, plan = self._lab, self._lab.plan(order.id)
        since = self._take(order)
        spared_s = 0.0 if since is None else min(lab.setup_s, lab.clock.seconds - since)
        lab.started.append(f"run {order.id}.{order.run}")
        crashed = plan.crash is not None and order.id != 0
        outcome = Outcome.CRASH if crashed else (plan.outcome if order.id else Outcome.OK)
        disturbed = lab.busy(order, lab.clock.utc()) if lab.busy else ""
        if disturbed:
            crashed, outcome = False, Outcome.VOID
        ended = RunEnded(
            id=order.id,
            run=order.run,
            outcome=outcome,
            curve=self._logged(order, lab.budget_s),
            crash=plan.crash if crashed else None,
            reason=disturbed or (f"scripted: {plan.crash or plan.outcome}" if outcome is not Outcome.OK else ""),
            disturbed=disturbed,
            tail=plan.tail if crashed else "",
            seconds=lab.run_s - spared_s,
            setup_s=lab.setup_s - spared_s,
            train_s=lab.run_s - lab.setup_s,
            peak_bytes=2**30,
        )
        run = LabRun(lab, ended, self._marks)
        self._go_s[(order.id, order.run)] = run.go_s
        return run

    def curve(self, order: RunOrder) -> Curve:
        """What it has logged by now."""
        return self._logged(order, self._lab.clock.seconds - self._go_s[(order.id, order.run)])

    def mark(self, order: RunOrder, early: EarlyStop) -> None:
        """Remember it until the run is over."""
        self._marks[(order.id, order.run)] = early

    def _logged(self, order: RunOrder, seconds: float) -> Curve:
        lab = self._lab
        if lab.curve is None:
            return ()
        shares = [point / POINTS for point in range(1, POINTS + 1)]
        return tuple(lab.curve(order, share) if share * lab.budget_s <= seconds else None for share in shares)


class LabScorer:
    """The truth plus noise that depends on the seed alone. One that is prepared has imported by its start."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._waiting: dict[ScoreOrder, float] = {}  # since when

    def broken_seal(self) -> str:
        """A laboratory's seal holds."""
        return ""

    def remains(self, order: ScoreOrder) -> Scored | None:
        """Nothing outlives a laboratory."""
        del order
        return None

    def prepare(self, order: ScoreOrder) -> None:
        """Import from now on."""
        if order not in self._waiting:
            self._lab.started.append(f"prepare score {order.id}.{order.run}")
            self._waiting[order] = self._lab.clock.seconds

    def drop(self, order: ScoreOrder | None = None) -> None:
        """Forget it, or all of them."""
        for waiting in [each for each in self._waiting if order in (None, each)]:
            self._lab.started.append(f"drop score {waiting.id}.{waiting.run}")
            del self._waiting[waiting]

    def start(self, order: ScoreOrder) -> Job[Scored]:
        """Score with noise."""
        lab = self._lab
        since = self._waiting.pop(order, lab.clock.seconds)
        score_s = lab.score_s - min(lab.import_s, lab.clock.seconds - since)
        lab.started.append(f"{'audit' if order.audit else 'score'} {order.id}.{order.run}")
        noise = random.Random(order.seed + (AUDIT_SEED if order.audit else 0)).gauss(0.0, lab.sigma)
        truth = lab.audit_truth(order.commit) if order.audit else lab.truth(order.commit)
        scored = Scored(id=order.id, run=order.run, outcome=Outcome.OK, score=truth + noise, seconds=score_s)
        return TimedJob(lab.clock, score_s, scored)


class LabRepo:
    """A repository of names: commit `c12` is experiment 12's, on whatever base it was given."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.branches: dict[str, str] = {}
        self.refs: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.trees: dict[str, str] = {}

    def open_campaign(self, campaign: str, base: str) -> None:
        """Make the branch."""
        self.branches.setdefault(campaign, base)

    def checkout(self, name: str, commit: str) -> Path:
        """Remember what lies there."""
        self.trees[name] = commit
        return Path(name)

    def discard(self, name: str) -> None:
        """Forget it."""
        self.trees.pop(name, None)

    def examine(self, name: str, base: str) -> Change:
        """The plan's change, or its refusal."""
        del base
        plan = self._lab.plan(int(name.split("-", maxsplit=1)[0]))
        if plan.refuse:
            raise RefusedError(plan.refuse)
        return _change(plan, name)

    def draft(self, name: str, base: str) -> str:
        """A diff in name only."""
        return f"diff {base} {name}"

    def pin(self, ref: str, commit: str) -> None:
        """Remember a ref."""
        self.refs[ref] = commit

    def rebase(self, commit: str, onto: str) -> Change:
        """The plan's change, wherever it is; or its conflict."""
        del onto
        plan = self._lab.plan(number := _number(commit))
        if plan.conflicts:
            raise RefusedError("its change of train.py does not apply there")
        return replace(_change(plan, f"{number}-agent"), meaning="")

    def commit(self, change: Change, base: str, message: str, ref: str) -> str:
        """Name the commit and its true worth."""
        del message
        lab, number = self._lab, _number(change.tree)
        commit = f"c{number}-{len(lab.true)}" if ref in self.refs else f"c{number}"
        plan = lab.plan(number)
        lab.true[commit] = lab.truth(base) + plan.effect
        on_audit = plan.effect if plan.audit_effect is None else plan.audit_effect
        lab.audited[commit] = lab.audit_truth(base) + on_audit
        self.refs[ref] = commit
        return commit

    def advance(self, campaign: str, old: str, new: str) -> None:
        """Compare and set."""
        if self.branches[campaign] not in (old, new):
            raise MovedBranchError(f"{campaign} is at {self.branches[campaign]}, not at {old}")
        self.branches[campaign] = new

    def note(self, commit: str, text: str) -> None:
        """Remember a note."""
        self.notes[commit] = text

    def history(self, commit: str, limit: int) -> Sequence[str]:
        """The notes, newest first."""
        del commit
        return [f"{c} {text}" for c, text in reversed(list(self.notes.items())[-limit:])]

    def files(self, commit: str) -> Mapping[str, str]:
        """One small file."""
        return {"train.py": f"# {commit}\nLEARNING_RATE = 0.1\n"}

    def diff(self, old: str, new: str) -> str:
        """Names only."""
        return f"-{old}\n+{new}\n"


def _number(name: str) -> int:
    """The experiment of a commit or a worktree."""
    return int(name.removeprefix("c").partition("-")[0])


def _change(plan: Plan, tree: str) -> Change:
    return Change(
        tree=tree,
        files=("train.py",),
        lines_added=max(0, plan.lines_delta),
        lines_removed=max(0, -plan.lines_delta),
        constants=plan.constants,
        meaning=plan.meaning,
    )


class LabControl:
    """Waiting moves the clock to the next moment at which something happens."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def read(self) -> Signals:
        """The wishes that the test set."""
        return self._lab.signals

    def wait(self, jobs: Iterable[Job[object]], timeout_s: float) -> None:
        """Jump to the earliest end, or other news of a run."""
        lab, clock = self._lab, self._lab.clock
        dues = [job.due for job in jobs if isinstance(job, TimedJob)]
        if lab.curve or lab.export_s:
            turns = (turn for job in jobs if isinstance(job, LabRun) for turn in job.turns)
            dues += [turn for turn in turns if turn > clock.seconds]
        clock.seconds = max(clock.seconds, min([*heapq.nsmallest(1, dues), clock.seconds + timeout_s]))


class LabDisk:
    """As full as the test says."""

    def __init__(self) -> None:
        self.short = ""
        self.relieved = 0

    def shortage(self) -> str:
        """The words that the test set."""
        return self.short

    def relieve(self) -> bool:
        """Count how often it was asked."""
        self.relieved += 1
        return self.relieved == 1


class SilentWatcher:
    """Nobody looks on."""

    every_s = 3600.0

    def event(self, entry: Entry) -> None:
        """Say nothing."""

    def tick(self, news: News | None) -> None:
        """Say nothing."""
