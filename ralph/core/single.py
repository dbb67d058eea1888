"""One experiment from its own entries alone, for those that are not in memory any more."""

from collections.abc import Iterable

from ralph.core.fold import State
from ralph.events import Entry, RunStarted
from ralph.model import Experiment


def experiment_of(entries: Iterable[Entry], id: int) -> Experiment:  # noqa: A002 - the word of the ledger
    """The experiment that these entries tell of: all that have its id, in their order.

    How many verdicts of others there were meanwhile (`known`, `stale`) does not follow from these.

    Raises:
        LedgerError: when they do not follow from one another.
        KeyError: when they tell of no such experiment.
    """
    state = State()
    for entry in entries:
        event = entry.event
        if isinstance(event, RunStarted) and event.for_id not in state.experiments:
            # measured once more for the sake of another, of which nothing more is known here
            state.experiments[event.for_id] = Experiment(id=event.for_id, base="", started=entry.at)
        state.apply(entry)
    return state.experiments[id]
