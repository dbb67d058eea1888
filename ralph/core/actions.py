"""What the supervisor may be told to do. All but Record and End have effects outside the ledger."""

from dataclasses import dataclass
from datetime import datetime

from ralph.errors import ExitStatus
from ralph.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Append a decided event; it has no effect of its own."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """Write down that an agent will be asked: a new experiment, or a further attempt at one."""

    id: int
    agent: str
    attempt: int
    base: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """See to it that this agent runs, and record its end."""

    id: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Check what the agent left, then commit and pin it, or refuse it."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebase:
    """Carry the candidate's change over to this incumbent, or say that it does not apply there."""

    id: int
    onto: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """See to it that the process of a coming run is there, as far as it gets without a device: probably this lane's."""

    id: int
    run: int
    seed: int
    lane: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """See to it that this run is carried out, and record its end."""

    id: int
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """See to it that this run is scored, and record the score."""

    id: int
    run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """See to it that this artifact is scored on the audit split, and record what came of it."""

    id: int
    run: int
    attempt: int
    lane: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Carry out a verdict: branch, note, learnings, tables."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing is to be done before `until`."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Leave the loop."""

    status: ExitStatus
    reason: str


Action = Record | Brief | Propose | Commit | Rebase | Prepare | Measure | Score | Audit | Settle | Wait | End
