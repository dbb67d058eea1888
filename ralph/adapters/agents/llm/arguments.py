"""What the tools take, as models are told it and as it is checked."""

import json
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ralph.adapters.agents.llm.conversation import ToolSpec
from ralph.adapters.agents.llm.folder import ToolError


def _bare_id(value: object) -> object:
    """Briefs write ids as `#12`, and so do models."""
    return value.strip().removeprefix("#") if isinstance(value, str) else value


def _parsed(value: object) -> object:
    """Some models write a list as the text of its JSON."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


Id = Annotated[int, BeforeValidator(_bare_id)]


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Look(_Arguments):
    """Look at a file, a part of it, or a folder. At most 400 lines at once."""

    path: str = Field(default=".", description="relative to your folder; '.' lists the folder")
    start: int = Field(default=1, ge=1, description="first line, from 1")
    lines: int = Field(default=400, ge=1, description="how many lines")


class Replace(_Arguments):
    """Replace a text in an editable file. It must occur exactly once, so give enough of its surroundings."""

    path: str
    old: str = Field(min_length=1, description="exactly as it stands in the file, white space included")
    new: str


class Write(_Arguments):
    """Write an editable file anew, all of it. For small changes use replace."""

    path: str
    text: str


class Recall(_Arguments):
    """Ask what was tried before near an idea: earlier experiments with verdicts, scores and reasons."""

    words: str = Field(min_length=1, description="a few words: constants, techniques, symptoms")


class Lesson(_Arguments):
    """One conclusion from earlier verdicts."""

    text: str = Field(min_length=1, max_length=2_000)
    evidence: list[Id] = Field(default_factory=list, description="ids of the experiments that show it")


class Wrong(_Arguments):
    """An earlier learning that is wrong by now."""

    learning: str | int = Field(description="as #id or by its text")
    because: str = Field(default="", max_length=2_000)
    evidence: list[Id] = Field(default_factory=list, description="ids of the experiments that show it")


def _wrong(value: object) -> object:
    """The bare name of a learning will do."""
    parsed = _parsed(value)
    if not isinstance(parsed, list):
        return parsed
    return [{"learning": item} if isinstance(item, str | int) else item for item in parsed]


class Submit(_Arguments):
    """Hand your change in and end. Call it once, when your edit is complete."""

    hypothesis: str = Field(min_length=1, max_length=4_000, description="one sentence: X because Y; expect Z")
    expected: str | float | int = Field(default="", description="the expected change of the metric, like -0.001")
    learnings: Annotated[list[Lesson], BeforeValidator(_parsed)] = Field(
        default_factory=list, max_length=20, description="what earlier verdicts show, with their ids"
    )
    supersedes: Annotated[list[Wrong], BeforeValidator(_wrong)] = Field(default_factory=list, max_length=200)
    replicates: Id | None = Field(
        default=None, ge=0, description="only to run an old experiment once more on purpose: its id"
    )


Arguments = Look | Replace | Write | Recall | Submit
TOOLS: dict[str, type[Look] | type[Replace] | type[Write] | type[Recall] | type[Submit]] = {
    "look": Look,
    "replace": Replace,
    "write": Write,
    "recall": Recall,
    "submit": Submit,
}


@cache
def specs() -> tuple[ToolSpec, ...]:
    """All tools, always in the same order, since they are the beginning of what providers cache."""
    return tuple(
        ToolSpec(name=name, description=model.__doc__ or "", schema=_without_titles(model.model_json_schema()))
        for name, model in TOOLS.items()
    )


def read_arguments(name: str, given: dict[str, Any]) -> Arguments:
    """Check what the model gave.

    Raises:
        ToolError: naming each mistake.
    """
    model = TOOLS.get(name)
    if model is None:
        raise ToolError(f"there is no tool {name!r}; there are: {', '.join(TOOLS)}")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ToolError(f"{name}: {told}") from None


def _without_titles(schema: Any) -> Any:
    """Pydantic repeats every name as a title; models need it once."""
    if isinstance(schema, dict):
        return {k: _without_titles(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema
