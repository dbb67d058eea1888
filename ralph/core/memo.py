"""What follows from a state is found once for as long as what it follows from stays the same.

`State.memo` holds it, beside the state and never part of it: whoever has none finds the same.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from ralph.core.fold import State

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    stamp: Hashable
    value: Any


def known(state: State, name: str, stamp: Hashable, find: Callable[[State], T]) -> T:
    """What `find` answers, found once as long as `stamp`, which has all that it depends on, is the same."""
    last = state.memo.get(name)
    if isinstance(last, _Found) and last.stamp == stamp:
        found: T = last.value
        return found
    found = find(state)
    state.memo[name] = _Found(stamp=stamp, value=found)
    return found


def since_verdict(state: State, name: str, find: Callable[[State], T]) -> T:
    """What `find` answers, which only a verdict or a new experiment can change."""
    return known(state, name, (len(state.experiments), state.judged), find)
