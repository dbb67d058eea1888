"""What an agent is told that proposes what was tried before. No device time is spent on it unless it asks for that."""

from ralph.core.figures import figures_of
from ralph.core.fold import State
from ralph.model import Experiment, Verdict


def refusal(state: State, e: Experiment, first: int | None, replicates: int | None) -> str:
    """Why the candidate of `e` is not run, with the old result; empty when it is to be run.

    Args:
        state: the campaign.
        e: the experiment that the candidate is for; its base tells whether anything that runs was changed.
        first: the experiment that was the first to try the very same program, if any.
        replicates: the experiment that the proposal asks for once more.
    """
    known = None if first is None else state.experiments[first]
    if replicates is not None and (known is None or not _is_same(state, known, replicates)):
        return (
            f"the proposal says that it replicates #{replicates}, but its program is not that of #{replicates}. "
            'Make it the same, or leave out "replicates"'
        )
    if known is None or replicates is not None or known.verdict is Verdict.VOID:
        return ""
    again = f'propose something else, or ask for it once more with "replicates": {known.id} in proposal.json'
    if known.commit == e.base:
        what = "changes nothing that runs: only comments, layout or the spelling of numbers differ from the base"
        return f"{what}, which is #{known.id}, {result(state, known)}; {again}"
    return f"the same program as experiment #{known.id}, which was {result(state, known)}; {again}"


def result(state: State, e: Experiment) -> str:
    """How an experiment ended, in one line: verdict, score, delta, reason."""
    if e.verdict is None:
        return "not judged yet"
    show = figures_of(state)
    crash = f" ({e.crash})" if e.crash is not None else ""
    score = f" with {show.score(e.score)}" if e.score is not None else ""
    error = f" {show.error(e.delta_se)}" if e.delta_se else ""
    against = f" against #{e.against}" if e.against is not None else ""
    delta = f" ({show.delta(e.delta)}{error}{against})" if e.delta is not None else ""
    return f"{e.verdict}{crash}{score}{delta}: {e.reason}"


def _is_same(state: State, known: Experiment, asked: int) -> bool:
    """Whether `asked` is `known`, or a replicate of it."""
    other = state.experiments.get(asked)
    named = other.proposal.replicates if other is not None and other.proposal is not None else None
    return asked == known.id or named == known.id
