"""What the ledger says of audits: which artifacts are owed one, which is at work, and the scores, kept apart from all
others. One thing becomes owed for each good run of a kept experiment, when the keep is settled or the run scored later.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ralph.events import Audited, AuditStarted
from ralph.model import Experiment, Outcome, Phase, Run, Verdict

Artifact = tuple[int, int]  # experiment, run
VOIDS_ALLOWED = 2  # audits that say nothing are repeated this often


@dataclass(frozen=True, slots=True, kw_only=True)
class Audits:
    """Of `owed`, the first comes next, and was tried `tries` times. `last`: the lane had one after its last run."""

    owed: tuple[Artifact, ...] = ()
    tries: int = 0
    at_work: AuditStarted | None = None
    last: bool = False
    scores: Mapping[Artifact, float | None] = field(default_factory=dict)  # None: there is none to be had

    @property
    def pending(self) -> bool:
        """Whether any is at work or to be done."""
        return bool(self.owed)

    @property
    def wanted(self) -> set[int]:
        """The experiments whose artifacts these are."""
        return {id_ for id_, _ in self.owed} | ({self.at_work.id} if self.at_work else set())


def owe(audits: Audits, e: Experiment) -> Audits:
    """A kept experiment's artifacts are to be audited, each once."""
    if e.verdict is not Verdict.KEEP or e.phase is not Phase.DONE:
        return audits
    wanted = [(e.id, run.number) for run in e.own_runs if _good(run)]
    new = [each for each in wanted if each not in audits.scores and each not in audits.owed]
    return replace(audits, owed=(*audits.owed, *new)) if new else audits


def _good(run: Run) -> bool:
    return run.scored is Outcome.OK and run.score is not None


def started(audits: Audits, event: AuditStarted) -> Audits:
    """The lane is taken."""
    return replace(audits, at_work=event, last=True)


def ended(audits: Audits, event: Audited) -> Audits:
    """A score, a finding about the artifact, or nothing, which is tried again a few times."""
    if event.outcome is Outcome.VOID and audits.tries < VOIDS_ALLOWED:
        return replace(audits, at_work=None, tries=audits.tries + 1)
    artifact = (event.id, event.run)
    owed = tuple(each for each in audits.owed if each != artifact)
    score = event.score if event.outcome is Outcome.OK else None
    return replace(audits, owed=owed, tries=0, at_work=None, scores={**audits.scores, artifact: score})
