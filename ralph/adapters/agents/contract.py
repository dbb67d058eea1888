"""The agent's side of docs/agents.md: what it is given, and how it hands its proposal back."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ralph.core.literals import Literal, literals
from ralph.model import Direction, Proposal, Superseded


class ContractError(Exception):
    """An agent cannot do its part; the message is for its standard error, which the supervisor reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """RALPH_FACTS. `sigma` is the noise of one run, 0 while unknown; `incumbent_score` None before the baseline.

    `in_flight` holds, for each experiment of others that has no verdict yet, the constants that it changes.
    """

    id: int
    attempt: int
    campaign: str
    metric: str
    direction: Direction
    device: str
    editable: tuple[str, ...]
    sigma: float
    incumbent_id: int | None
    incumbent_score: float | None
    incumbent_runs: int
    refusals: tuple[str, ...]
    in_flight: tuple[Mapping[str, Literal], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Where this agent finds what it is given."""

    facts: Facts
    brief: str
    history: Path
    proposal: Path
    seed: int


def read_given(environ: Mapping[str, str] = os.environ) -> Given:
    """Read the environment of this process.

    Raises:
        ContractError: when a variable is missing or the facts cannot be read.
    """
    names = ("RALPH_FACTS", "RALPH_HISTORY", "RALPH_PROPOSAL", "RALPH_SEED")
    if missing := [name for name in names if not environ.get(name)]:
        raise ContractError(f"{', '.join(missing)} not set; this program is started by ralph, see docs/agents.md")
    try:
        seed = int(environ["RALPH_SEED"])
    except ValueError:
        raise ContractError(f"RALPH_SEED={environ['RALPH_SEED']!r} is not an integer") from None
    return Given(
        facts=read_facts(Path(environ["RALPH_FACTS"])),
        brief=_text_or_nothing(environ.get("RALPH_BRIEF", "")),
        history=Path(environ["RALPH_HISTORY"]),
        proposal=Path(environ["RALPH_PROPOSAL"]),
        seed=seed,
    )


def read_facts(path: Path) -> Facts:
    """Read the facts file.

    Raises:
        ContractError: when it is missing, no JSON, or lacks what the contract promises.
    """
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
        best = raw.get("incumbent") or {}
        score = best.get("score")
        return Facts(
            id=int(raw["id"]),
            attempt=int(raw.get("attempt", 1)),
            campaign=str(raw.get("campaign", "")),
            metric=str(raw.get("metric", "score")),
            direction=Direction(raw.get("direction", "min")),
            device=str(raw.get("device", "none")),
            editable=tuple(str(name) for name in raw["editable"]),
            sigma=float(raw.get("sigma") or 0.0),
            incumbent_id=None if best.get("id") is None else int(best["id"]),
            incumbent_score=None if score is None else float(score),
            incumbent_runs=max(1, int(best.get("runs") or 1)),
            refusals=tuple(str(reason) for reason in raw.get("refusals", ())),
            in_flight=tuple(literals(other.get("constants")) for other in raw.get("in_flight", ())),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContractError(f"cannot read the facts in {path}: {type(error).__name__}: {error}") from None


def write_proposal(path: Path, proposal: Proposal) -> None:
    """Write proposal.json, making its folder."""
    answer: dict[str, Any] = {
        "hypothesis": proposal.hypothesis,
        "expected": proposal.expected,
        "learnings": [{"text": item.text, "evidence": list(item.evidence)} for item in proposal.learnings],
        "supersedes": [_superseded(item) for item in proposal.supersedes],
    }
    if proposal.replicates is not None:
        answer["replicates"] = proposal.replicates
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(answer, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def leave(status: int) -> NoReturn:
    """End this process, whose work is written: to take its modules apart, as Python does, takes a tenth of a second."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _superseded(item: Superseded) -> str | dict[str, Any]:
    if not (item.because or item.evidence):
        return item.learning
    return {"learning": item.learning, "because": item.because, "evidence": list(item.evidence)}


def _text_or_nothing(name: str) -> str:
    """The brief is worth reading for an agent that computes, but no condition for its work."""
    try:
        return Path(name).read_text(encoding="utf-8", errors="replace") if name else ""
    except OSError:
        return ""
