"""`ralph adopt`: the one command that writes to the user's checkout, because the user asks for it."""

from ralph.errors import ConfigError
from ralph.front.look import find, open_repo, read_state
from ralph.layout import Layout


def adopt_change(layout: Layout, id: int | None) -> str:  # noqa: A002 - the word of the ledger
    """Apply the incumbent's change against the campaign's base, or one experiment's against its own, uncommitted.

    Raises:
        ConfigError: nothing to adopt, or the editable files have uncommitted changes, or the change does not apply.
    """
    state, repo = read_state(layout), open_repo(layout)
    e = find(state, id) if id is not None else state.incumbent
    if e is None or not e.commit:
        raise ConfigError(f"experiment {id} has no commit to adopt" if id is not None else "there is no incumbent yet")
    base = e.base if id is not None else state.base
    if e.commit == base:
        return "the incumbent is the baseline: nothing to adopt yet"
    if dirty := repo.dirty(sorted(repo.files(e.commit))):
        raise ConfigError(f"{', '.join(dirty)} has uncommitted changes; commit or stash them, then adopt again")
    repo.apply(base, e.commit)
    return f"the change of #{e.id} ({e.hypothesis}) is in your checkout. Look with `git diff`, then commit it"
