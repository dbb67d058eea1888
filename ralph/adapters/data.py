"""Prepared data: run the arena's `[data] command` once, read the `data.json` that it points to (docs/runs.md)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ralph.errors import ConfigError

PRIVATE = ("token_bytes", "audit")  # the scorer's alone


class _Part(BaseModel):
    model_config = ConfigDict(extra="allow")

    path: str


class _Descriptor(BaseModel):
    model_config = ConfigDict(extra="allow")

    sha256: str
    name: str = "data"
    train: _Part


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedData:
    """What a preparation left: `public` is told to runs, `train` handed over with *go*, `descriptor` the scorer's.

    `audit`: there is an audit split.
    """

    name: str
    sha256: str
    descriptor: Path
    public: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Path] = field(default_factory=dict)
    audit: bool = False


def _without_path(value: Any) -> Any:
    """How much there is may be told before *go*, where it lies may not."""
    return {k: v for k, v in value.items() if k != "path"} if isinstance(value, dict) else value


def read_prepared(descriptor: Path) -> PreparedData:
    """Read a `data.json`.

    Raises:
        ConfigError: when it is missing, malformed, or names files that are not there.
    """
    try:
        raw = json.loads(descriptor.read_text(encoding="utf-8"))
        checked = _Descriptor.model_validate(raw)
    except (OSError, ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"{descriptor} is not a usable data.json ({first}); see docs/runs.md") from None
    train = descriptor.parent / checked.train.path
    if not train.is_file():
        raise ConfigError(
            f"{descriptor} names {train}, which does not exist. Remove {descriptor.parent} and start again"
        )
    public = {k: _without_path(v) for k, v in raw.items() if k not in PRIVATE}
    return PreparedData(
        name=checked.name,
        sha256=checked.sha256,
        descriptor=descriptor,
        public=public,
        train={"train": train},
        audit="audit" in raw,
    )
