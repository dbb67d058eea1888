"""What a brief is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ralph.core.fold import State
from ralph.model import Draft
from ralph.ports import Guidance


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the arena says about its agents. `editable` are globs relative to the arena; seconds are wall clock."""

    device: str = "cpu"
    budget_s: float = 300.0
    limit_tokens: int = 12_000
    timeout_s: float = 900.0
    editable: tuple[str, ...] = ("train.py",)


@dataclass(frozen=True, slots=True, kw_only=True)
class BriefInput:
    """Everything that one brief may tell.

    Attributes:
        id: the experiment the brief is for; its `attempt` counts from 1.
        new_guidance: lines of `guidance` that no brief of an earlier experiment had.
        files: text of the editable files at the base, by path relative to the arena.
        git_log: one line per commit of the incumbent's branch with its note, newest first.
        drafts: refused attempts at this experiment, with what they changed as a diff, oldest first.
    """

    state: State
    id: int
    attempt: int
    agent: str
    guidance: Guidance
    new_guidance: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    git_log: tuple[str, ...] = ()
    drafts: tuple[Draft, ...] = ()
    options: Options = Options()
