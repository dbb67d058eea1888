"""The nouns: small frozen values that every layer shares. No behaviour beyond what follows from their own fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

JsonValue = str | int | float | bool | None


class Direction(StrEnum):
    """Which way the metric improves."""

    MIN = "min"
    MAX = "max"

    @property
    def sign(self) -> float:
        """+1 where lower is better, -1 where higher is: `sign * score` is always to be minimised."""
        return 1.0 if self is Direction.MIN else -1.0


class ScoreMode(StrEnum):
    """Where a score comes from; the ledger says so for each campaign."""

    SEALED = "sealed"
    REPORTED = "reported"
    COMMAND = "command"


class Verdict(StrEnum):
    """How an experiment ends."""

    KEEP = "keep"
    DISCARD = "discard"
    CRASH = "crash"
    INVALID = "invalid"  # broke a rule
    VOID = "void"  # our fault or the machine's: says nothing about the idea


class CrashKind(StrEnum):
    """Why a run or its scoring failed."""

    EXCEPTION = "exception"
    OUT_OF_MEMORY = "out of memory"
    NAN = "nan"
    NO_ARTIFACT = "no artifact"
    NO_SCORE = "no score"
    DEADLINE = "deadline"
    KILLED = "killed"
    MEMORY_LIMIT = "memory limit"
    PROCESS_LIMIT = "process limit"
    DISK_LIMIT = "disk limit"
    OUTPUT_LIMIT = "output limit"


class Outcome(StrEnum):
    """How one run, or the scoring of one, ended."""

    OK = "ok"
    CRASH = "crash"
    INVALID = "invalid"
    VOID = "void"
    STOPPED = "stopped"  # a run that was hopeless, ended before its time


class AgentOutcome(StrEnum):
    """How one agent process ended."""

    PROPOSED = "proposed"
    NOTHING = "nothing"  # ended by itself without a usable proposal.json
    DEADLINE = "deadline"
    FAILED = "failed"  # could not be started, or was killed
    LIMITED = "limited"  # a provider's usage limit or outage: weather, not a failure
    BUDGET = "budget"  # its next call could have passed a budget


class Phase(StrEnum):
    """Where an experiment stands between brief and verdict."""

    AGENT = "agent"
    COMMIT = "commit"
    DECIDE = "decide"
    RUN = "run"
    SCORE = "score"
    SETTLE = "settle"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaRecord:
    """What a campaign is fought in, as its ledger remembers it.

    `parts` maps each thing the hash covers to its own hash or value, so that a change can be named. `audit` says
    whether there is a second held-out split, on which what is kept is scored once more.
    """

    name: str
    metric: str
    direction: Direction
    mode: ScoreMode
    hash: str
    device: str
    budget_s: float
    parts: Mapping[str, str] = field(default_factory=dict)
    audit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """One line of what was learnt, with the experiments that show it."""

    text: str
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A learning that is wrong by now: `#12` for what the agent of experiment 12 wrote, or its text; and why it is."""

    learning: str
    because: str = ""
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What an agent hands back beside its edit of the worktree. `replicates` asks for an old experiment once more."""

    hypothesis: str
    expected: str = ""
    learnings: tuple[Learning, ...] = ()
    supersedes: tuple[Superseded, ...] = ()
    replicates: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a candidate changes against its base: the tree to commit and what is worth knowing about it.

    `constants` holds only the module-level constants whose value differs from the base, as `file:NAME`. Two candidates
    of one `meaning` differ at most in comments, layout and the spelling of numbers.
    """

    tree: str
    files: tuple[str, ...]
    lines_added: int
    lines_removed: int
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    meaning: str = ""

    @property
    def lines_delta(self) -> int:
        """Lines added minus lines removed: negative is simpler."""
        return self.lines_added - self.lines_removed


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What is remembered of one experiment for those who ask. Of `diff` only changed lines and names of files."""

    id: int
    verdict: str
    reason: str = ""
    score: float | None = None
    delta: float | None = None
    delta_se: float | None = None
    agent: str = ""
    hypothesis: str = ""
    learnings: tuple[str, ...] = ()
    diff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """Why a run was to be ended at a share of its budget: its loss was further `behind` the incumbent's than `allowed`.

    `expected` is by how much its score would have differed from the incumbent's, as those did that looked alike, in the
    metric's own sign. `spared`: it went on to the end all the same, as a spot check.
    """

    share: float
    behind: float
    allowed: float
    expected: float | None = None
    spared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One timed execution with one seed on one lane, as far as it has come. Seconds are wall clock; bytes are bytes.

    `disturbed` says what spoilt it, if its device was not its own; `device`, what was seen of the device meanwhile;
    `early`, why it was to be stopped before its time.
    """

    number: int
    seed: int
    for_id: int
    started: datetime
    lane: int = 0
    outcome: Outcome | None = None
    crash: CrashKind | None = None
    reason: str = ""
    tail: str = ""
    setup_s: float = 0.0
    train_s: float = 0.0
    export_s: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    disturbed: str = ""
    device: Mapping[str, JsonValue] = field(default_factory=dict)
    early: EarlyStop | None = None
    scored: Outcome | None = None
    score: float | None = None
    score_se: float | None = None
    score_s: float = 0.0

    @property
    def failed(self) -> bool:
        """True when it ended, or was scored, as anything but ok."""
        return any(o not in (None, Outcome.OK) for o in (self.outcome, self.scored))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What calls to a provider cost: dollars as far as prices are known, and tokens read and written."""

    usd: float = 0.0
    tokens: int = 0

    def plus(self, usd: float, tokens: int) -> "Cost":
        """This and more."""
        return Cost(usd=self.usd + usd, tokens=self.tokens + tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An attempt that was refused, for the agent that is to repair it: `commit` or `diff` hold what it changed.

    `tail` is the end of the log when its run crashed in the set-up; `moved`, that another incumbent was kept meanwhile,
    to which it does not apply.
    """

    attempt: int
    reason: str
    hypothesis: str = ""
    diff: str = ""
    commit: str = ""
    tail: str = ""
    moved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One idea from brief to verdict. Experiment 0 is the baseline and has no agent; `why` it was this agent.

    `scores` are those of its good runs, in the order they were run. `postponed`: its agent met a usage limit, an outage
    or the end of its budget and is to be asked again. The first `drafted_runs` runs are those of refused drafts, or
    from before it was carried over to another incumbent. Its agent knew the first `known` verdicts; `stale` more had
    come when it was first run.
    """

    id: int
    base: str
    started: datetime
    agent: str = ""
    why: str = ""
    attempt: int = 1
    phase: Phase = Phase.AGENT
    postponed: bool = False
    refusals: tuple[str, ...] = ()
    drafts: tuple[Draft, ...] = ()
    drafted_runs: int = 0
    known: int = 0
    stale: int = 0
    commit: str = ""
    proposal: Proposal | None = None
    lines_delta: int = 0
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    scores: tuple[float, ...] = ()
    agent_s: float = 0.0
    usd: float = 0.0
    tokens: int = 0
    verdict: Verdict | None = None
    crash: CrashKind | None = None
    reason: str = ""
    delta: float | None = None
    delta_se: float | None = None
    against: int | None = None
    ended: datetime | None = None

    @property
    def score(self) -> float | None:
        """Mean over its good runs, None before the first."""
        return sum(self.scores) / len(self.scores) if self.scores else None

    @property
    def hypothesis(self) -> str:
        """Its proposal's hypothesis; the baseline has none."""
        return self.proposal.hypothesis if self.proposal else ("baseline" if self.id == 0 else "")

    @property
    def run_s(self) -> float:
        """Seconds on the device, all runs together."""
        return sum(r.seconds for r in self.runs)

    @property
    def early(self) -> EarlyStop | None:
        """Why its last run was stopped before its time; None when it was not, or went on all the same."""
        return self.runs[-1].early if self.runs and self.runs[-1].outcome is Outcome.STOPPED else None

    @property
    def open_run(self) -> Run | None:
        """The first run that is planned or running, or waits for its score."""
        for run in self.runs:
            if run.outcome is None or (run.outcome is Outcome.OK and run.scored is None):
                return run
        return None

    @property
    def own_runs(self) -> tuple[Run, ...]:
        """Its runs but for those of drafts, and of its change on an earlier incumbent."""
        return self.runs[self.drafted_runs :]
