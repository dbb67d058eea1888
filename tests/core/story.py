"""A campaign told event by event, through the real events and the real fold."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone

from ralph.core.fold import State, fold
from ralph.errors import ExitStatus
from ralph.events import (
    AgentEnded,
    Briefed,
    CampaignOpened,
    Committed,
    Entry,
    Event,
    Judged,
    Paused,
    Refused,
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
    CrashKind,
    Direction,
    Experiment,
    JsonValue,
    Learning,
    Outcome,
    ScoreMode,
    Superseded,
    Verdict,
)

EVENING = datetime(2026, 11, 22, 22, 31, 0, tzinfo=UTC)
HERE = timezone(timedelta(hours=1), "CET")
CONSTANTS: Mapping[str, JsonValue] = {
    "train.py:DEPTH": 8,
    "train.py:DEVICE_BATCH_SIZE": 128,
    "train.py:EMBEDDING_LR": 0.6,
    "train.py:MATRIX_LR": 0.04,
    "train.py:WARMUP_RATIO": 0.0,
    "train.py:WEIGHT_DECAY": 0.2,
    "train.py:WINDOW_PATTERN": "SSSL",
}
GIB = 2**30


class Story:
    """A campaign so far: `entries` are its ledger, `state` the fold of them, `at` the hour."""

    def __init__(
        self, *, direction: Direction = Direction.MIN, metric: str = "val_bpb", budget_s: float = 300.0
    ) -> None:
        self.arena = ArenaRecord(
            name="charlm",
            metric=metric,
            direction=direction,
            mode=ScoreMode.SEALED,
            hash="5a" * 32,
            device="cuda:0",
            budget_s=budget_s,
            parts={"budget_s": str(budget_s)},
        )
        self.at = EVENING
        self.entries: list[Entry] = []
        self.state = State()
        self.sigma = 0.0005

    @property
    def morning(self) -> datetime:
        """The hour in the zone of the person who reads."""
        return self.at.astimezone(HERE)

    def tell(self, event: Event, after_s: float = 0.0) -> None:
        """`after_s` seconds later this happened."""
        self.at += timedelta(seconds=after_s)
        entry = Entry(seq=len(self.entries) + 1, at=self.at, event=event)
        self.entries.append(entry)
        self.state.apply(entry)

    def folded(self) -> State:
        """The state as a restart would see it."""
        return fold(self.entries)

    def start(self) -> "Story":
        """A supervisor takes the folder; the first one opens the campaign."""
        if not self.entries:
            opened = CampaignOpened(campaign="nov23", arena=self.arena, base="b" * 40, constants=CONSTANTS)
            self.tell(opened)
        self.tell(SupervisorStarted(pid=4242, host="box", version="0.1", sandbox="bwrap"), after_s=1.0)
        return self

    def stop(self, reason: str = "86 experiments are done", status: ExitStatus = ExitStatus.DONE) -> "Story":
        """It ends on purpose."""
        self.tell(SupervisorStopped(status=int(status), reason=reason), after_s=0.5)
        return self

    def ask_to_stop(self, by: str = "ralph stop") -> None:
        """Somebody asks for the end after the run in hand."""
        self.tell(StopRequested(now=False, by=by))

    def pause(self, by: str = "ralph pause") -> None:
        """Somebody asks for a pause."""
        self.tell(Paused(by=by))

    def brief(self, agent: str = "claude", guidance: Sequence[str] = ()) -> int:
        """The next experiment's agent begins to think."""
        id_, incumbent = len(self.state.experiments), self.state.incumbent
        base = incumbent.commit if incumbent else self.state.base
        self.tell(Briefed(id=id_, base=base, agent=agent, guidance=tuple(guidance)), after_s=0.3)
        return id_

    def refuse(self, id_: int, reason: str, seconds: float = 20.0) -> None:
        """Its proposal breaks a rule, and a fresh agent gets a further attempt."""
        e = self.state.experiments[id_]
        self._think(id_, seconds, 0.0, 0)
        self.tell(Refused(id=id_, attempt=e.attempt, reason=reason), after_s=0.1)

    def again(self, id_: int) -> None:
        """A fresh agent is briefed for the same experiment."""
        e = self.state.experiments[id_]
        self.tell(Briefed(id=id_, base=e.base, agent=e.agent, attempt=e.attempt + 1), after_s=0.1)

    def propose(
        self,
        hypothesis: str,
        *,
        agent: str = "claude",
        guidance: Sequence[str] = (),
        constants: Mapping[str, JsonValue] | None = None,
        lines_delta: int = 0,
        seconds: float = 25.0,
        usd: float = 0.05,
        tokens: int = 22_000,
        learnings: Sequence[Learning] = (),
        supersedes: Sequence[Superseded] = (),
    ) -> int:
        """An agent is briefed, thinks, and its candidate is committed."""
        id_ = self.brief(agent, guidance)
        self._think(id_, seconds, usd, tokens)
        committed = Committed(
            id=id_,
            commit=f"{id_:07x}{'c' * 33}",
            hypothesis=hypothesis,
            expected="-0.001",
            learnings=tuple(learnings),
            supersedes=tuple(supersedes),
            lines_delta=lines_delta,
            constants=constants or {},
        )
        self.tell(committed, after_s=0.2)
        return id_

    def _think(self, id_: int, seconds: float, usd: float, tokens: int) -> None:
        attempt = self.state.experiments[id_].attempt
        ended = AgentEnded(
            id=id_,
            attempt=attempt,
            outcome=AgentOutcome.PROPOSED,
            reason="",
            seconds=seconds,
            usd=usd,
            tokens=tokens,
        )
        self.tell(ended, after_s=seconds + 0.2)

    def begin_run(self, id_: int, for_id: int | None = None) -> int:
        """A run is on the device."""
        number = len(self.state.experiments[id_].runs) + 1
        whose = id_ if for_id is None else for_id
        self.tell(RunStarted(id=id_, run=number, seed=1000 * id_ + number, for_id=whose), after_s=0.2)
        return number

    def run(self, id_: int, score: float, for_id: int | None = None, se: float | None = None) -> None:
        """One good run with its score."""
        number, train_s = self.begin_run(id_, for_id), self.arena.budget_s
        self.tell(
            RunEnded(
                id=id_,
                run=number,
                outcome=Outcome.OK,
                setup_s=9.0,
                train_s=train_s,
                export_s=2.0,
                seconds=train_s + 11.5,
                peak_bytes=44 * GIB,
            ),
            after_s=train_s + 12.0,
        )
        self.tell(Scored(id=id_, run=number, outcome=Outcome.OK, score=score, se=se, seconds=6.0), after_s=6.3)

    def fail(self, id_: int, outcome: Outcome, reason: str, crash: CrashKind | None = None, tail: str = "") -> None:
        """One run that ends badly."""
        number = self.begin_run(id_)
        ended = RunEnded(id=id_, run=number, outcome=outcome, crash=crash, reason=reason, tail=tail, seconds=41.0)
        self.tell(ended, after_s=41.5)

    def judge(
        self, id_: int, verdict: Verdict, reason: str, crash: CrashKind | None = None, settled: bool = True
    ) -> int:
        """The verdict, compared with the incumbent where there are scores, and its effects."""
        e, incumbent = self.state.experiments[id_], self.state.incumbent
        delta, se, against = None, None, None
        if id_ and incumbent and verdict in (Verdict.KEEP, Verdict.DISCARD):
            delta, against = mean_score(e) - mean_score(incumbent), incumbent.id
            se = self.sigma * (1 / len(e.scores) + 1 / len(incumbent.scores)) ** 0.5
        judged = Judged(id=id_, verdict=verdict, reason=reason, crash=crash, delta=delta, delta_se=se, against=against)
        self.tell(judged)
        if settled:
            self.tell(Settled(id=id_), after_s=0.4)
        return id_

    def baseline(self, *scores: float) -> "Story":
        """Experiment 0, with one run per score."""
        for score in scores:
            self.run(0, score)
        self.judge(0, Verdict.KEEP, "baseline")
        return self

    def keep(
        self,
        hypothesis: str,
        *scores: float,
        reason: str = "clearly better",
        constants: Mapping[str, JsonValue] | None = None,
        guidance: Sequence[str] = (),
        agent: str = "claude",
        lines_delta: int = 0,
        remeasured: Sequence[float] = (),
    ) -> int:
        """An experiment that becomes the incumbent; `remeasured` are runs of the old incumbent for its sake."""
        id_ = self.propose(hypothesis, constants=constants, guidance=guidance, agent=agent, lines_delta=lines_delta)
        for score in scores:
            self.run(id_, score)
        incumbent = self.state.incumbent
        for score in remeasured if incumbent else ():
            assert incumbent is not None
            self.run(incumbent.id, score, for_id=id_)
        return self.judge(id_, Verdict.KEEP, reason)

    def discard(
        self,
        hypothesis: str,
        *scores: float,
        reason: str = "clearly worse",
        constants: Mapping[str, JsonValue] | None = None,
        guidance: Sequence[str] = (),
        agent: str = "claude",
    ) -> int:
        """An experiment that moves nothing."""
        id_ = self.propose(hypothesis, constants=constants, guidance=guidance, agent=agent)
        for score in scores:
            self.run(id_, score)
        return self.judge(id_, Verdict.DISCARD, reason)

    def crash(
        self,
        hypothesis: str,
        kind: CrashKind = CrashKind.OUT_OF_MEMORY,
        reason: str = "torch.OutOfMemoryError: CUDA out of memory, tried to allocate 6.25 GiB",
        constants: Mapping[str, JsonValue] | None = None,
        agent: str = "claude",
    ) -> int:
        """An experiment whose run fails."""
        id_ = self.propose(hypothesis, constants=constants, agent=agent)
        self.fail(id_, Outcome.CRASH, reason, kind, tail=f"Traceback (most recent call last):\n{reason}")
        return self.judge(id_, Verdict.CRASH, reason, kind)

    def invalid(self, reason: str = "prepare.py changed; only train.py may") -> int:
        """An experiment that broke a rule three times; it has no commit."""
        id_ = self.brief()
        self.refuse(id_, reason)
        for _ in range(2):
            self.again(id_)
            self.refuse(id_, reason)
        return self.judge(id_, Verdict.INVALID, reason)

    def void(self, hypothesis: str, reason: str = "the device was throttled (thermal) for 41 s") -> int:
        """An experiment that the machine spoilt three times."""
        id_ = self.propose(hypothesis)
        for _ in range(3):
            self.fail(id_, Outcome.VOID, reason)
        return self.judge(id_, Verdict.VOID, reason)


def mean_score(e: Experiment) -> float:
    score = e.score
    assert score is not None, f"experiment {e.id} has no score to compare"
    return score
