"""All constants of the latest incumbents, so that nobody has to go back along the line of their bases."""

from collections.abc import Mapping

from ralph.core.shelf import LOOK_BACK
from ralph.model import Experiment, JsonValue

Lineage = dict[str, Mapping[str, JsonValue]]  # by commit, oldest first


def descend(lineage: Lineage, constants: Mapping[str, JsonValue], kept: Experiment) -> None:
    """Add a new incumbent; `constants` are the baseline's. The oldest leave when nothing looks back to them."""
    below = lineage.get(kept.base, constants)
    lineage[kept.commit] = {**below, **kept.constants} if kept.constants else below
    while len(lineage) > LOOK_BACK:
        del lineage[next(iter(lineage))]
