"""One experiment and one event make the experiment after it: the pure halves of the fold, without its sums."""

from dataclasses import replace
from datetime import datetime

from ralph.events import AgentEnded, Briefed, Committed, Judged, Rebased, Refused, RunEnded, RunStarted, Scored
from ralph.model import AgentOutcome, Draft, Experiment, Outcome, Phase, Proposal, Run

DEVICE = "device_"  # names of a run's record that tell of its device
POSTPONED = frozenset({AgentOutcome.LIMITED, AgentOutcome.BUDGET})
FAILED = frozenset({AgentOutcome.NOTHING, AgentOutcome.DEADLINE, AgentOutcome.FAILED})


def briefed(e: Experiment, event: Briefed, verdicts: int) -> Experiment:
    """An agent is to think, perhaps another one than before, when so many verdicts are known."""
    return replace(
        e,
        base=event.base,
        agent=event.agent,
        why=event.why,
        attempt=event.attempt,
        phase=Phase.AGENT,
        postponed=False,
        known=verdicts,
    )


def agent_ended(e: Experiment, event: AgentEnded) -> Experiment:
    """To be committed; to be asked again later, which is no refusal; or refused."""
    return replace(
        e,
        phase=Phase.COMMIT if event.outcome is AgentOutcome.PROPOSED else Phase.DECIDE,
        postponed=event.outcome in POSTPONED,
        refusals=(*e.refusals, event.reason) if event.outcome in FAILED else e.refusals,
        agent_s=e.agent_s + event.seconds,
        usd=e.usd + event.usd,
        tokens=e.tokens + event.tokens,
    )


def refused(e: Experiment, event: Refused) -> Experiment:
    """What was proposed is a draft from now on: no commit of its own, and its runs say nothing about the next."""
    draft = Draft(
        attempt=event.attempt,
        reason=event.reason,
        hypothesis=event.hypothesis or e.hypothesis,
        diff=event.diff,
        commit=e.commit,
        tail=e.own_runs[-1].tail if e.own_runs else "",
        moved=event.moved,
    )
    return replace(
        e,
        phase=Phase.DECIDE,
        refusals=e.refusals if event.moved else (*e.refusals, event.reason),
        drafts=(*e.drafts, draft),
        drafted_runs=len(e.runs),
        scores=(),
        commit="",
        proposal=None,
        lines_delta=0,
        constants={},
    )


def committed(e: Experiment, event: Committed) -> Experiment:
    """There is a candidate."""
    return replace(
        e,
        phase=Phase.DECIDE,
        commit=event.commit,
        proposal=Proposal(
            hypothesis=event.hypothesis,
            expected=event.expected,
            learnings=event.learnings,
            supersedes=event.supersedes,
            replicates=event.replicates,
        ),
        lines_delta=event.lines_delta,
        constants=event.constants,
    )


def rebased(e: Experiment, event: Rebased) -> Experiment:
    """Its change on another base: what it scored on the old one says nothing there."""
    return replace(
        e,
        base=event.base,
        commit=event.commit,
        lines_delta=event.lines_delta,
        constants=event.constants,
        drafted_runs=len(e.runs),
        scores=(),
    )


def run_started(e: Experiment, event: RunStarted, at: datetime, verdicts: int) -> Experiment:
    """One run more; the first says how many verdicts its agent did not know."""
    run = Run(number=event.run, seed=event.seed, for_id=event.for_id, started=at, lane=event.lane)
    stale = verdicts - e.known if event.for_id == e.id and e.verdict is None and not e.own_runs else e.stale
    return replace(e, runs=(*e.runs, run), stale=stale)


def run_ended(run: Run, event: RunEnded) -> Run:
    """The run is over."""
    return replace(
        run,
        outcome=event.outcome,
        crash=event.crash,
        reason=event.reason,
        tail=event.tail,
        setup_s=event.setup_s,
        train_s=event.train_s,
        export_s=event.export_s,
        seconds=event.seconds,
        peak_bytes=event.peak_bytes,
        disturbed=event.disturbed,
        early=event.early,
        device={name: value for name, value in event.record.items() if name.startswith(DEVICE)},
    )


def scored(run: Run, event: Scored) -> Run:
    """The run has its score, or the reason why it has none."""
    return replace(
        run,
        scored=event.outcome,
        score=event.score,
        score_se=event.se,
        score_s=event.seconds,
        crash=event.crash,
        reason=event.reason,
    )


def with_run(e: Experiment, run: Run) -> Experiment:
    """The experiment with this run in the place of the one of its number."""
    runs = tuple(run if r.number == run.number else r for r in e.runs)
    now = replace(e, runs=runs)
    return replace(now, scores=tuple(r.score for r in now.own_runs if r.score is not None and not r.failed))


def judged(e: Experiment, event: Judged, at: datetime) -> Experiment:
    """It has its verdict."""
    return replace(
        e,
        phase=Phase.SETTLE,
        verdict=event.verdict,
        reason=event.reason,
        crash=event.crash,
        delta=event.delta,
        delta_se=event.delta_se,
        against=event.against,
        ended=at,
    )


def phase_after(event: RunEnded) -> Phase:
    """Whether there is something to score."""
    return Phase.SCORE if event.outcome is Outcome.OK else Phase.DECIDE
