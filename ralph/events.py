"""The ledger's vocabulary: everything that can happen in a campaign.

Kinds only grow: a field may be added with a default, none is renamed or removed, so that any old ledger replays.
Times are not in the events; the ledger stamps each entry. Seconds are wall-clock durations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ralph.model import (
    AgentOutcome,
    ArenaRecord,
    CrashKind,
    EarlyStop,
    JsonValue,
    Learning,
    Outcome,
    Superseded,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignOpened:
    """A campaign begins; experiment 0 is its base commit."""

    campaign: str
    arena: ArenaRecord
    base: str
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    meaning: str = ""
    machine: Mapping[str, JsonValue] = field(default_factory=dict)
    kind: Literal["campaign_opened"] = "campaign_opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStarted:
    """A supervisor took this folder, with so many lanes."""

    pid: int
    host: str
    version: str
    sandbox: str
    lanes: int = 1
    kind: Literal["supervisor_started"] = "supervisor_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStopped:
    """A supervisor ended on purpose. Without this event it was killed."""

    status: int
    reason: str
    kind: Literal["supervisor_stopped"] = "supervisor_stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """Somebody asked for the end: after the run in hand, or now."""

    now: bool
    by: str
    kind: Literal["stop_requested"] = "stop_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """Nothing new begins until Resumed."""

    by: str
    kind: Literal["paused"] = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The end of a pause."""

    by: str
    kind: Literal["resumed"] = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Briefed:
    """Intent: an agent will be started on this base. `guidance` are the human's lines that no earlier brief had.

    `why` says why it is this agent, where there was a choice.
    """

    id: int
    base: str
    agent: str
    attempt: int = 1
    guidance: tuple[str, ...] = ()
    why: str = ""
    kind: Literal["briefed"] = "briefed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentEnded:
    """The agent and its whole process tree are gone.

    `tokens` are those it read and wrote, `usd` what is known of their price; `calls` to a provider. After `limited`,
    `resume_at` is when the provider said that it goes on, if it did.
    """

    id: int
    attempt: int
    outcome: AgentOutcome
    reason: str
    seconds: float
    usd: float = 0.0
    tokens: int = 0
    calls: int = 0
    resume_at: datetime | None = None
    kind: Literal["agent_ended"] = "agent_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A proposal broke a rule; no device time was spent on it. What it was, for the agent that is to repair it.

    `moved`: its only fault is that another incumbent was kept meanwhile, to which it does not apply.
    """

    id: int
    attempt: int
    reason: str
    hypothesis: str = ""
    diff: str = ""
    moved: bool = False
    kind: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The candidate exists in git and is pinned."""

    id: int
    commit: str
    hypothesis: str
    expected: str = ""
    learnings: tuple[Learning, ...] = ()
    supersedes: tuple[Superseded, ...] = ()
    lines_delta: int = 0
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    meaning: str = ""
    replicates: int | None = None
    kind: Literal["committed"] = "committed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebased:
    """The candidate's change was carried over to the incumbent that was kept since; it is measured there, from nothing.

    `base` is that incumbent's commit, `commit` the candidate on it; the rest says what it changes there.
    """

    id: int
    base: str
    commit: str
    lines_delta: int = 0
    constants: Mapping[str, JsonValue] = field(default_factory=dict)
    meaning: str = ""
    kind: Literal["rebased"] = "rebased"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """Intent: one run of experiment `id`, on this lane.

    `for_id` differs where an incumbent is re-measured for a candidate's sake. A settled experiment that is run for its
    own is measured again because its lane has nothing else to do.
    """

    id: int
    run: int
    seed: int
    for_id: int
    lane: int = 0
    kind: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneWaits:
    """What is next on a lane cannot have its device yet, and why; without a reason none waits any more."""

    reason: str = ""
    kind: Literal["lane_waits"] = "lane_waits"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run and its whole process tree are gone.

    `disturbed` says by what, where the outcome is void because its device was not its own. In `record`, what begins
    with `device_` was seen of the device while it trained. `curve` is the loss that it logged, smoothed, at equal
    shares of its budget, the whole of it last; null where it logged nothing. `early` says why it was to be stopped
    before its time.
    """

    id: int
    run: int
    outcome: Outcome
    crash: CrashKind | None = None
    reason: str = ""
    tail: str = ""
    setup_s: float = 0.0
    train_s: float = 0.0
    export_s: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    disturbed: str = ""
    record: Mapping[str, JsonValue] = field(default_factory=dict)
    curve: tuple[float | None, ...] = ()
    early: EarlyStop | None = None
    kind: Literal["run_ended"] = "run_ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What the scorer said of one run."""

    id: int
    run: int
    outcome: Outcome
    score: float | None = None
    se: float | None = None
    crash: CrashKind | None = None
    reason: str = ""
    seconds: float = 0.0
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)
    kind: Literal["scored"] = "scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditStarted:
    """Intent: what run `run` of a kept experiment left will be scored on the audit split. `attempt` counts from 1."""

    id: int
    run: int
    attempt: int = 1
    lane: int = 0
    kind: Literal["audit_started"] = "audit_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """What the scorer said of one artifact on the audit split. No brief, table or view by experiment shows it."""

    id: int
    run: int
    outcome: Outcome
    score: float | None = None
    reason: str = ""
    seconds: float = 0.0
    kind: Literal["audited"] = "audited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict. Its effects (branch, note, learnings) follow and end with Settled."""

    id: int
    verdict: Verdict
    reason: str
    crash: CrashKind | None = None
    delta: float | None = None
    delta_se: float | None = None
    against: int | None = None
    kind: Literal["judged"] = "judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Every effect of a verdict is done; nothing of the experiment is left to do."""

    id: int
    kind: Literal["settled"] = "settled"


Event = (
    CampaignOpened
    | SupervisorStarted
    | SupervisorStopped
    | StopRequested
    | Paused
    | Resumed
    | Briefed
    | AgentEnded
    | Refused
    | Committed
    | Rebased
    | RunStarted
    | LaneWaits
    | RunEnded
    | Scored
    | AuditStarted
    | Audited
    | Judged
    | Settled
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the ledger: when, in which place, and what."""

    seq: int
    at: datetime
    event: Event
