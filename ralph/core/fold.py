"""The state of a campaign is a fold of its ledger: replaying the same events gives the same state, always.

`State` is the one value here that changes in place, by `apply` alone, so that folding a hundred thousand
experiments stays linear; everything it holds is frozen, but for the shelf of experiments and the table of programs.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import assert_never

from ralph.core import audited, curves
from ralph.core import transitions as tr
from ralph.core.audited import Audits
from ralph.core.lineage import descend
from ralph.core.meanings import Meanings
from ralph.core.shelf import Shelf
from ralph.core.statistics import UNKNOWN, Noise, mean
from ralph.core.weather import Weather, weather_after
from ralph.errors import LedgerError
from ralph.events import (
    AgentEnded,
    Audited,
    AuditStarted,
    Briefed,
    CampaignOpened,
    Committed,
    Entry,
    Judged,
    LaneWaits,
    Paused,
    Rebased,
    Refused,
    Resumed,
    RunEnded,
    RunStarted,
    Scored,
    Settled,
    StopRequested,
    SupervisorStarted,
    SupervisorStopped,
)
from ralph.model import (
    AgentOutcome,
    ArenaRecord,
    Cost,
    CrashKind,
    Experiment,
    JsonValue,
    Phase,
    Run,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """A run on its lane, from its start to its score: which experiment's, and its number."""

    owner: int
    run: int


@dataclass(slots=True, kw_only=True)
class State:
    """All that the ledger says. Experiments are in `experiments` by id; `open_ids` are those not settled yet.

    Of `supervised_s`, the seconds that a supervisor was alive, `busy_s` had something in flight; for `hidden_s` of
    these an agent thought while a run or its scoring went on, and for `limited_s` there was nothing to do but wait
    for a provider. `since` says when an open experiment entered its phase. `touched` are the constants that any
    candidate changed; `lineage` are all constants of the latest incumbents, by commit; `meanings` says who was the
    first to try a program, or the first after one whose verdict was void, which says nothing about it. By agent:
    `spent`; `weather`, while its provider sends it away; `exhausted`, why its budget allows no call more (the last
    two until the human starts the loop again). `lane_waits` says who has the device that the next run should have;
    `disturbed_runs` were void because theirs was not theirs alone, the last `disturbed_by`. `at_work` are the runs that
    have a lane, by the experiment for which they are made; `kept_as` finds the baseline and what was kept by commit;
    `staleness` counts verdicts, and keeps among them, by how old the proposal was.
    """

    campaign: str = ""
    arena: ArenaRecord | None = None
    base: str = ""
    opened: datetime | None = None
    seq: int = 0
    last_at: datetime | None = None
    experiments: Shelf = field(default_factory=Shelf)
    open_ids: list[int] = field(default_factory=list)
    incumbent_id: int | None = None
    keeps: list[int] = field(default_factory=list)
    kept_as: dict[str, int] = field(default_factory=dict)
    lanes: int = 1
    at_work: dict[int, Hand] = field(default_factory=dict)
    last_run_s: float = 0.0  # what the last good run took
    agent_ends: dict[str, int] = field(default_factory=dict)
    agent_seconds: dict[str, float] = field(default_factory=dict)
    staleness: dict[int, tuple[int, int]] = field(default_factory=dict)
    challengers: int = 0  # candidates that this incumbent has seen off
    counts: Counter[Verdict] = field(default_factory=Counter)
    crashes: Counter[CrashKind] = field(default_factory=Counter)
    agent_counts: Counter[str] = field(default_factory=Counter)
    guidance: dict[str, int] = field(default_factory=dict)
    guidance_at: dict[str, datetime] = field(default_factory=dict)
    failures_in_row: int = 0
    failed_at: datetime | None = None
    paused: bool = False
    paused_by: str = ""
    paused_at: datetime | None = None
    stop_requested: StopRequested | None = None
    running: bool = False
    stopped: SupervisorStopped | None = None
    stopped_at: datetime | None = None
    session_started: datetime | None = None
    supervised_s: float = 0.0
    busy_s: float = 0.0
    hidden_s: float = 0.0
    since: dict[int, datetime] = field(default_factory=dict)
    run_s: float = 0.0
    score_s: float = 0.0
    agent_s: float = 0.0
    limited_s: float = 0.0
    usd: float = 0.0
    tokens: int = 0
    spent: dict[str, Cost] = field(default_factory=dict)
    weather: dict[str, Weather] = field(default_factory=dict)
    exhausted: dict[str, str] = field(default_factory=dict)
    train_s: float = 0.0
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    lane_waits: str = ""
    disturbed_runs: int = 0
    disturbed_by: str = ""
    touched: set[str] = field(default_factory=set)
    meanings: Meanings = field(default_factory=Meanings)
    lineage: dict[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    audits: Audits = field(default_factory=Audits)
    past: curves.Past = field(default_factory=curves.Past)
    memo: dict[str, object] = field(default_factory=dict, compare=False, repr=False)  # what follows from all this
    _squares: float = 0.0
    _dof: int = 0
    _scores: dict[int, tuple[float, ...]] = field(default_factory=dict)

    @property
    def incumbent(self) -> Experiment | None:
        """The experiment to beat; None before the baseline has a verdict."""
        return None if self.incumbent_id is None else self.experiments[self.incumbent_id]

    @property
    def baseline(self) -> Experiment | None:
        """Experiment 0."""
        return self.experiments.get(0)

    @property
    def noise(self) -> Noise:
        """Sigma of one run, pooled over every commit that was run more than once."""
        return Noise(sigma=math.sqrt(max(0.0, self._squares) / self._dof), dof=self._dof) if self._dof else UNKNOWN

    @property
    def begun(self) -> int:
        """Experiments begun, the baseline apart."""
        return max(0, len(self.experiments) - 1)

    @property
    def judged(self) -> int:
        """Experiments with a verdict, the baseline apart."""
        return sum(self.counts.values())

    def open(self) -> list[Experiment]:
        """Experiments in flight, oldest first."""
        return [self.experiments[i] for i in self.open_ids]

    def run_of(self, hand: Hand) -> Run:
        """The run that has a lane."""
        return self._run(self._get(hand.owner), hand.run)

    def resolved_constants(self, id: int) -> dict[str, JsonValue]:  # noqa: A002 - the word of the ledger
        """All known constants of an experiment: those of its base, changed by its own."""
        e = self.experiments[id]
        return {**self.lineage.get(e.base, self.constants), **e.constants}

    def apply(self, entry: Entry) -> None:
        """Take one more entry into account. Raises LedgerError when it cannot follow what came before."""
        event, at = entry.event, entry.at
        if self.running and self.last_at is not None and not isinstance(event, SupervisorStarted):
            self._spend(max(0.0, (at - self.last_at).total_seconds()))
        self.seq, self.last_at = entry.seq, at
        match event:
            case CampaignOpened():
                self._open(event, at)
            case SupervisorStarted() | SupervisorStopped() | StopRequested() | Paused() | Resumed():
                self._control(event, at)
            case Briefed():
                self._brief(event, at)
            case AgentEnded() | Refused() | Committed() | Rebased():
                self._propose(event, at)
            case RunStarted() | RunEnded() | Scored():
                self._measure(event, at)
            case LaneWaits():
                self.lane_waits = event.reason
            case AuditStarted() | Audited():
                self._audit(event)
            case Judged():
                self._judge(event, at)
            case Settled():
                self._owe(self._change(event.id, phase=Phase.DONE))
                self.open_ids.remove(event.id)
                self.since.pop(event.id, None)
                for old in self.experiments.let_go_of_old({self.incumbent_id, *self.audits.wanted}):
                    self._scores.pop(old, None)
            case _:
                assert_never(event)

    @property
    def working(self) -> bool:
        """Whether something is in flight. What waits to be decided does not count during a pause, or for a provider."""
        if self.audits.at_work is not None or self.at_work:
            return True
        return any(not (e.phase is Phase.DECIDE and (self.paused or e.postponed)) for e in self.open())

    @property
    def sent_away(self) -> bool:
        """Whether there is nothing to do but wait for a provider."""
        return not self.paused and not self.working and any(e.postponed for e in self.open())

    @property
    def thinking_ahead(self) -> bool:
        """Whether an agent thinks while a run, its scoring or an audit goes on."""
        taken = self.audits.at_work is not None or bool(self.at_work)
        return taken and any(e.phase is Phase.AGENT for e in self.open())

    def _spend(self, seconds: float) -> None:
        """Account for the time since the last entry, by what was in flight during it."""
        self.supervised_s += seconds
        if self.working:
            self.busy_s += seconds
        if self.thinking_ahead:
            self.hidden_s += seconds
        if self.sent_away:
            self.limited_s += seconds

    def _open(self, event: CampaignOpened, at: datetime) -> None:
        self.campaign, self.arena, self.base, self.opened = event.campaign, event.arena, event.base, at
        self.constants = event.constants
        self._mean(event.meaning, 0)
        self.experiments[0] = Experiment(id=0, base=event.base, commit=event.base, started=at, phase=Phase.DECIDE)
        self.kept_as[event.base] = 0
        self.open_ids.append(0)
        self.since[0] = at

    def _mean(self, meaning: str, id: int) -> None:  # noqa: A002 - the word of the ledger
        if not meaning:
            return
        first = self.meanings.get(meaning)
        if first is None or self.experiments.rows.verdict(first) is Verdict.VOID:
            self.meanings[meaning] = id

    def _control(
        self, event: SupervisorStarted | SupervisorStopped | StopRequested | Paused | Resumed, at: datetime
    ) -> None:
        match event:
            case SupervisorStarted():
                if self.session_started is None or self.stopped is not None:
                    self.session_started = at
                self.running, self.stopped, self.stopped_at, self.stop_requested = True, None, None, None
                self.lane_waits, self.lanes = "", event.lanes
                self.exhausted.clear()  # the budget may be another one now
                if self.session_started == at:
                    self.failures_in_row = 0
                    self.weather.clear()
            case SupervisorStopped():
                self.running, self.stopped, self.stopped_at, self.lane_waits = False, event, at, ""
            case StopRequested():
                self.stop_requested = event
            case Paused():
                self.paused, self.paused_by, self.paused_at = True, event.by, at
            case Resumed():
                self.paused, self.paused_by, self.paused_at = False, "", None
            case _:
                assert_never(event)

    def _brief(self, event: Briefed, at: datetime) -> None:
        for line in event.guidance:
            self.guidance.setdefault(line, event.id)
            self.guidance_at.setdefault(line, at)
        if event.id not in self.experiments:
            self.experiments[event.id] = Experiment(id=event.id, base=event.base, agent=event.agent, started=at)
            self.open_ids.append(event.id)
            self.since[event.id] = at
            self.agent_counts[event.agent] += 1
        was = self._get(event.id)
        if was.agent != event.agent:
            self.agent_counts[was.agent] -= 1
            self.agent_counts[event.agent] += 1
        self._put(tr.briefed(was, event, self.judged))

    def _propose(self, event: AgentEnded | Refused | Committed | Rebased, at: datetime) -> None:
        was = self._get(event.id)
        match event:
            case AgentEnded():
                self._count_agent(event, was.agent, at)
                self._put(tr.agent_ended(was, event))
            case Refused():
                self._put(tr.refused(was, event))
            case Committed():
                self.touched.update(event.constants)
                self._mean(event.meaning, event.id)
                self._put(tr.committed(was, event))
            case Rebased():
                self._mean(event.meaning, event.id)
                self._put(tr.rebased(was, event))
                self.past = curves.after_rebase(self.past, event.id)
            case _:
                assert_never(event)

    def _count_agent(self, event: AgentEnded, agent: str, at: datetime) -> None:
        self.agent_s += event.seconds
        self.agent_ends[agent] = self.agent_ends.get(agent, 0) + 1
        self.agent_seconds[agent] = self.agent_seconds.get(agent, 0.0) + event.seconds
        self.usd += event.usd
        self.tokens += event.tokens
        self.spent[agent] = self.spent.get(agent, Cost()).plus(event.usd, event.tokens)
        if event.outcome is AgentOutcome.LIMITED:
            self.weather[agent] = weather_after(event, at, self.weather.get(agent))
        else:
            self.weather.pop(agent, None)
        if event.outcome is AgentOutcome.BUDGET:
            self.exhausted[agent] = event.reason

    def _measure(self, event: RunStarted | RunEnded | Scored, at: datetime) -> None:
        was, self.lane_waits = self._get(event.id), ""
        match event:
            case RunStarted():
                self.audits = replace(self.audits, last=False)
                self._put(tr.run_started(was, event, at, self.judged))
                self.at_work[event.for_id] = Hand(owner=event.id, run=event.run)
                self._enter(event.for_id, Phase.RUN)
            case RunEnded():
                self.run_s += event.seconds
                self.train_s += event.train_s
                if event.disturbed:
                    self.disturbed_runs, self.disturbed_by = self.disturbed_runs + 1, event.disturbed
                run = self._run(was, event.run)
                self._put(tr.with_run(was, tr.run_ended(run, event)))
                phase = tr.phase_after(event)
                if phase is Phase.SCORE:
                    self.last_run_s = event.seconds
                else:
                    self.at_work.pop(run.for_id, None)
                self._enter(run.for_id, phase)
                self.past = curves.after_run(self.past, event, self.kept_as.get(was.base))
            case Scored():
                self.score_s += event.seconds
                run = self._run(was, event.run)
                self.at_work.pop(run.for_id, None)
                self._owe(self._put(tr.with_run(was, tr.scored(run, event))))
                self._enter(run.for_id, Phase.DECIDE)
                self._remember_noise(event.id)
            case _:
                assert_never(event)

    def _enter(self, id: int, phase: Phase) -> None:  # noqa: A002 - the word of the ledger
        """The experiment for which a run is made is in this phase; one that is settled stays so."""
        if id in self.open_ids:
            self._change(id, phase=phase)

    def _audit(self, event: AuditStarted | Audited) -> None:
        self._run(self._get(event.id), event.run)
        match event:
            case AuditStarted():
                self.audits = audited.started(self.audits, event)
            case Audited():
                self.score_s += event.seconds
                self.audits = audited.ended(self.audits, event)
            case _:
                assert_never(event)

    def _owe(self, e: Experiment) -> None:
        if self.arena is not None and self.arena.audit:
            self.audits = audited.owe(self.audits, e)

    def _judge(self, event: Judged, at: datetime) -> None:
        now = self._put(tr.judged(self._get(event.id), event, at))
        rival = self.kept_as.get(now.base)
        self.past = curves.after_verdict(self.past, now, None if rival is None else self._get(rival), self.arena)
        if event.id != 0:
            self.counts[event.verdict] += 1
            kept = event.verdict is Verdict.KEEP
            many, keeps = self.staleness.get(now.stale, (0, 0))
            self.staleness[now.stale] = (many + 1, keeps + kept)
        if event.crash is not None:
            self.crashes[event.crash] += 1
        if event.id != 0 and now.scores and event.verdict in (Verdict.KEEP, Verdict.DISCARD):
            if event.verdict is Verdict.KEEP:
                self.challengers = 0
            elif event.against in (None, self.incumbent_id):
                self.challengers += 1
        if event.verdict is Verdict.KEEP:
            self.incumbent_id = event.id
            self.kept_as[now.commit] = event.id
            descend(self.lineage, self.constants, now)
            if event.id != 0:
                self.keeps.append(event.id)
        if now.verdict in (Verdict.KEEP, Verdict.DISCARD):
            self.failures_in_row = 0
        else:
            self.failures_in_row += 1
            self.failed_at = at

    def _remember_noise(self, id: int) -> None:  # noqa: A002 - the word of the ledger
        """Keep the pooled sum of squares up to date without looking at every experiment again."""
        before, after = self._scores.get(id, ()), self.experiments[id].scores
        self._squares += _squares(after) - _squares(before)
        self._dof += max(0, len(after) - 1) - max(0, len(before) - 1)
        self._scores[id] = after

    def _get(self, id: int) -> Experiment:  # noqa: A002
        try:
            return self.experiments[id]
        except KeyError:
            raise LedgerError(f"entry {self.seq} speaks of experiment {id}, which never began") from None

    def _run(self, experiment: Experiment, number: int) -> Run:
        for run in experiment.runs:
            if run.number == number:
                return run
        raise LedgerError(f"entry {self.seq} speaks of run {number} of experiment {experiment.id}, which never began")

    def _change(self, id: int, **fields: object) -> Experiment:  # noqa: A002
        return self._put(replace(self._get(id), **fields))  # type: ignore[arg-type]

    def _put(self, e: Experiment) -> Experiment:
        if e.phase is not self._get(e.id).phase and self.last_at is not None:
            self.since[e.id] = self.last_at
        self.experiments[e.id] = e
        return e


def _squares(scores: tuple[float, ...]) -> float:
    if len(scores) < 2:
        return 0.0
    centre = mean(scores)  # exact for equal scores, so that a deterministic arena has no noise at all
    return sum((s - centre) ** 2 for s in scores)


def fold(entries: Iterable[Entry], state: State | None = None) -> State:
    """Replay a whole ledger; or its end, on the state of what stands before."""
    state = State() if state is None else state
    for entry in entries:
        state.apply(entry)
    return state
