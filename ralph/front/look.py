"""What the looking commands share: a state read from the ledger, and what can be made of it without a supervisor.

Each function imports what only it needs: git and its friends take longer than `ralph status` may.
"""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ralph.adapters.lock import holder
from ralph.adapters.snapshot import restore
from ralph.core import views
from ralph.core.fold import State
from ralph.errors import ConfigError
from ralph.layout import Layout
from ralph.model import Experiment

if TYPE_CHECKING:
    from ralph.adapters.git import GitRepo


def read_state(layout: Layout, *, check: bool = False) -> State:
    """The state as the ledger says it now. What stands before a snapshot is read again only with `check`."""
    return restore(layout.ledger, layout.snapshot, check=check).state


def supervisor_alive(layout: Layout) -> bool:
    """Whether a supervisor holds the folder."""
    return holder(layout.lock) is not None


def find(state: State, id: int) -> Experiment:  # noqa: A002 - the word of the ledger
    """One experiment. Raises ConfigError when there is none of that number."""
    if id not in state.experiments:
        known = f"0 to {len(state.experiments) - 1}" if state.experiments else "none yet"
        raise ConfigError(f"there is no experiment {id}; known: {known}")
    return state.experiments[id]


def open_repo(layout: Layout) -> "GitRepo":
    """The repository, for reading."""
    from ralph.adapters.git import GitRepo
    from ralph.config import load

    return GitRepo(layout.arena, layout.trees, load(layout.arena_toml).arena.editable)


def show_experiment(layout: Layout, id: int) -> dict[str, Any]:  # noqa: A002
    """The view of one experiment, with its files, its diff and the ends of its logs."""
    from ralph.adapters.domains import read_log
    from ralph.core.crash import tail

    state = read_state(layout)
    e = find(state, id)
    view = views.show_view(state, id)
    view["folder"] = str(layout.experiment(id))
    view["diff"] = open_repo(layout).diff(e.base, e.commit) if e.commit and id else ""
    view["logs"] = {f"run {run.number}": tail(read_log(layout.run(id, run.number))) for run in e.runs}
    return view


def experiment_diff(layout: Layout, id: int) -> str:  # noqa: A002
    """What an experiment changed against its base."""
    e = find(read_state(layout), id)
    if not e.commit:
        raise ConfigError(f"experiment {id} has no commit: {e.reason or 'its agent is not done'}")
    return open_repo(layout).diff(e.base, e.commit)


def write_report(layout: Layout) -> str:
    """Render progress.md and its picture from the ledger; what a supervisor at work does by itself."""
    from ralph.adapters.papers import FilePapers
    from ralph.adapters.redaction import redactor_of
    from ralph.config import load
    from ralph.core import picture
    from ralph.core.report import Live, render_progress

    state = read_state(layout)
    page = render_progress(state, datetime.now(UTC).astimezone(), Live(alive=supervisor_alive(layout)))
    config = load(layout.arena_toml)
    redact = redactor_of(os.environ, config)
    with FilePapers(layout, config.arena.program, config.arena.metric, redact=redact) as papers:
        papers.progress(page)
        papers.picture(picture.picture_data(state))
        papers.finish_picture()
    return page


def export_campaign(layout: Layout) -> dict[str, Any]:
    """Status and every experiment in full: what a notebook needs."""
    state = read_state(layout)
    return {
        "schema": 1,
        "status": views.status_view(state, datetime.now(UTC), supervisor_alive(layout)),
        "experiments": [views.show_view(state, id) for id in sorted(state.experiments)],  # noqa: A001
    }


def add_guidance(layout: Layout, text: str) -> None:
    """Append the human's line to learnings.md, as the supervisor appends its own, under a Guidance heading.

    Raises:
        ConfigError: when there is nothing to say.
    """
    from ralph.adapters.shared_page import append_shared
    from ralph.core.learnings import NEW_PAGE, guidance_appendix

    if not text.split():
        raise ConfigError('the guidance is empty; say it in quotes: ralph note "try shorter windows"')
    append_shared(layout.learnings, lambda page: guidance_appendix(page, text), NEW_PAGE)
