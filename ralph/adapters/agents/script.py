"""The scripted agent's file of steps, as ralph.adapters.agents.scripted describes it, read and checked."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ralph.adapters.agents.contract import ContractError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Replace(_Strict):
    """One replacement."""

    file: str
    old: str = Field(min_length=1)
    new: str


class Daemon(_Strict):
    """One process that wants to stay."""

    seconds: float = Field(gt=0)
    ignore_term: bool = False


class Output(_Strict):
    """Noise on a stream."""

    bytes: int = Field(ge=0)
    to: Literal["stdout", "stderr"] = "stdout"


class Step(_Strict):
    """What to do in one iteration; the keys are described above."""

    ignore_term: bool = False
    daemons: tuple[Daemon, ...] = ()
    output: Output | None = None
    replace: tuple[Replace, ...] = ()
    constants: dict[str, bool | int | float | str] = Field(default_factory=dict)
    write: dict[str, str] = Field(default_factory=dict)
    delete: tuple[str, ...] = ()
    links: dict[str, str] = Field(default_factory=dict)
    proposal: Any = None
    proposal_text: str | None = None
    proposal_none: bool = False
    commit: str = ""
    sleep_s: float = Field(default=0.0, ge=0)
    crash: bool = False
    signal: Annotated[int, Field(gt=0, lt=65)] | None = None
    exit: int = Field(default=0, ge=0, le=255)

    @model_validator(mode="after")
    def _one_proposal(self) -> Self:
        if (self.proposal is not None) + (self.proposal_text is not None) + self.proposal_none > 1:
            raise ValueError("proposal, proposal_text and proposal_none exclude each other")
        return self


class Header(_Strict):
    """The optional first line."""

    after: Literal["last", "cycle", "fail"]


class Script(_Strict):
    """All steps, each as a list by attempt."""

    steps: tuple[tuple[Step, ...], ...] = Field(min_length=1)
    after: Literal["last", "cycle", "fail"] = "last"

    def step(self, number: int, attempt: int) -> Step | None:
        """The step of an experiment (from 1) and attempt (from 1), None behind the end of a script that fails there."""
        index = max(0, number - 1)
        if index >= len(self.steps):
            if self.after == "fail":
                return None
            index = index % len(self.steps) if self.after == "cycle" else len(self.steps) - 1
        attempts = self.steps[index]
        return attempts[min(max(1, attempt), len(attempts)) - 1]


def read_script(path: Path) -> Script:
    """Read and check a script.

    Raises:
        ContractError: naming the file, the line and what is wrong with it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"cannot read the script {path}: {error}") from None
    after = Header(after="last")
    steps: list[tuple[Step, ...]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            raw = json.loads(line)
            if not steps and isinstance(raw, dict) and "after" in raw:
                after = Header.model_validate(raw)
                continue
            attempts = tuple(Step.model_validate(item) for item in (raw if isinstance(raw, list) else [raw]))
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'step'}: {e['msg']}" for e in error.errors())
            raise ContractError(f"{path}:{number}: {told}. Known keys: {', '.join(Step.model_fields)}") from None
        except ValueError as error:
            raise ContractError(f"{path}:{number}: not JSON: {error}") from None
        if not attempts:
            raise ContractError(f"{path}:{number}: a list of attempts needs at least one step")
        steps.append(attempts)
    if not steps:
        raise ContractError(f"{path} has no step")
    return Script(steps=tuple(steps), after=after.after)
