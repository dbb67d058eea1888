"""A loop that cannot even begin parks as well: with the reason where the human looks."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from ralph.adapters.files import write_atomic
from ralph.adapters.ledger_health import believed, examine
from ralph.adapters.snapshot import restore
from ralph.core.fold import State, fold
from ralph.core.report import render_progress
from ralph.errors import DiskError, ExitStatus, LedgerError, RalphError
from ralph.events import Entry, SupervisorStopped
from ralph.layout import Layout


@contextlib.contextmanager
def parked_page(layout: Layout) -> Iterator[None]:
    """Turn what the machine refuses into an error of ours; one that parks is on progress.md when it leaves."""
    try:
        yield
    except OSError as error:
        reason = machine_refused(error)
        say_parked(layout, reason)
        raise DiskError(reason) from error
    except RalphError as error:
        if error.status is ExitStatus.PARKED:
            say_parked(layout, str(error))
        raise


def machine_refused(error: OSError) -> str:
    """What an error of the operating system means for the loop."""
    return f"the machine refused: {error}. Mend it, then go on with `ralph loop`"


def say_parked(layout: Layout, reason: str) -> None:
    """Write progress.md from what stands in the ledger, with this reason on its first line, as far as there is room."""
    state, now = fold(()), datetime.now(UTC)
    with contextlib.suppress(OSError, RalphError):
        state = _standing(layout)
    stopped = SupervisorStopped(status=ExitStatus.PARKED, reason=reason)
    state.apply(Entry(seq=state.seq + 1, at=now, event=stopped))
    with contextlib.suppress(OSError):
        write_atomic(layout.progress, render_progress(state, now.astimezone()))


def _standing(layout: Layout) -> State:
    """What the ledger says, as far as it can be believed."""
    try:
        return restore(layout.ledger, layout.snapshot, check=True).state
    except LedgerError:
        return fold(believed(layout.ledger, examine(layout.ledger, layout.experiments)))
