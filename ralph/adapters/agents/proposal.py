"""Reading `.ralph/proposal.json`, which comes from an agent and is believed in nothing but its form."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ralph.adapters.untrusted import UntrustedFileError, read_untrusted
from ralph.core.untrusted_json import clean
from ralph.errors import RefusedError
from ralph.model import Learning, Proposal, Superseded

PROPOSAL = ".ralph/proposal.json"
MOST_BYTES = 256 * 1024
MOST_LEARNINGS = 20


class _Learning(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str = Field(min_length=1, max_length=2_000)
    evidence: list[int] = Field(default_factory=list, max_length=200)


class _Superseded(BaseModel):
    model_config = ConfigDict(extra="ignore")

    learning: str | int
    because: str = Field(default="", max_length=2_000)
    evidence: list[int] = Field(default_factory=list, max_length=200)


class _Proposal(BaseModel):
    model_config = ConfigDict(extra="ignore")

    hypothesis: str = Field(min_length=1, max_length=4_000)
    expected: str | float | int | None = None
    learnings: list[_Learning] = Field(default_factory=list, max_length=MOST_LEARNINGS)
    supersedes: list[str | int | _Superseded] = Field(default_factory=list, max_length=200)
    replicates: int | None = Field(default=None, ge=0)


def read_proposal(folder: Path) -> Proposal:
    """The proposal that an agent left in its working directory.

    Raises:
        RefusedError: with a reason that tells the next agent what to do.
    """
    try:
        data = read_untrusted(folder, PROPOSAL, MOST_BYTES)
    except FileNotFoundError:
        raise RefusedError(f"the agent wrote no {PROPOSAL}") from None
    except UntrustedFileError as error:
        raise RefusedError(f"{PROPOSAL} {error}") from None
    try:
        raw = _Proposal.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        raise RefusedError(f"{PROPOSAL} is not usable: {where + ': ' if where else ''}{first['msg']}") from None
    return Proposal(
        hypothesis=_one_line(raw.hypothesis),
        expected=_one_line(str(raw.expected)) if raw.expected is not None else "",
        learnings=tuple(Learning(text=_one_line(item.text), evidence=tuple(item.evidence)) for item in raw.learnings),
        supersedes=tuple(_read_superseded(item) for item in raw.supersedes),
        replicates=raw.replicates,
    )


def _read_superseded(item: str | int | _Superseded) -> Superseded:
    if not isinstance(item, _Superseded):
        return Superseded(learning=_one_line(str(item)))
    return Superseded(
        learning=_one_line(str(item.learning)), because=_one_line(item.because), evidence=tuple(item.evidence)
    )


def _one_line(text: str) -> str:
    """Control characters and line breaks become blanks; surrogates that no file could hold are replaced."""
    printable = "".join(c if c.isprintable() else " " for c in clean(text))
    return " ".join(printable.split())
