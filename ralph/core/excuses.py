"""Results that say nothing about an idea because of what the machine did meanwhile.

Covers: a run during which the machine slept, whatever came of it, since its clock and its device did not stand still
alike; runs and agents that failed while the disk was too full for them. Does not cover: a jump of the wall clock, which
no duration is taken from; a run that was over, but not recorded, when its supervisor died: it is believed.
"""

from dataclasses import replace

from ralph.core.wording import span
from ralph.events import AgentEnded, RunEnded, Scored
from ralph.model import AgentOutcome, CrashKind, Outcome

SLEPT_S = 1.0  # two clocks cannot be read in the same instant; any real sleep is longer
FAILED_AGENT = frozenset({AgentOutcome.NOTHING, AgentOutcome.FAILED})

Result = AgentEnded | RunEnded | Scored


def slept(result: Result, seconds: float) -> Result:
    """`result`, or a void run in its place if the machine slept for that many seconds during it."""
    if not isinstance(result, RunEnded) or seconds < SLEPT_S:
        return result
    why = f"the machine slept for {span(seconds)} during the run"
    record = {**result.record, "slept_s": round(seconds, 1)}
    return replace(result, outcome=Outcome.VOID, crash=None, reason=why, record=record)


def starved(result: Result, shortage: str) -> Result | None:
    """`result` of what ended while there was this shortage: excused if it failed, None if it is worth nothing.

    An agent is asked again later and a run is repeated; a scorer that failed goes once more over the same run.
    """
    match result:
        case AgentEnded(outcome=outcome) if outcome in FAILED_AGENT:
            return replace(result, outcome=AgentOutcome.LIMITED, reason=f"{shortage} ({result.reason})")
        case RunEnded(outcome=Outcome.CRASH, crash=crash) if crash is not CrashKind.DEADLINE:
            return replace(result, outcome=Outcome.VOID, crash=None, reason=f"{shortage} ({result.reason})")
        case Scored(outcome=Outcome.VOID):
            return None
        case _:
            return result
