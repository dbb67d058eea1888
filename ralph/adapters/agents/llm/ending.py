"""How this program ends: exit status, a typed last line on standard error, and the same in `.ralph/ended.json`."""

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import assert_never

from ralph.adapters.agents.llm.conversation import Usage

NAME = "ended.json"  # beside the proposal
MARK = "ralph-agent-ended: "


class Kind(StrEnum):
    """Every way to end."""

    SUBMITTED = "submitted"
    LIMITED = "limited"  # a usage limit or an outage of the provider: weather
    BUDGET = "budget"  # the gateway would not make the call
    DEADLINE = "deadline"
    REFUSED = "refused"  # the model declined
    CONTEXT = "context"  # the conversation does not fit into the model
    EXHAUSTED = "exhausted"  # turns or tokens were used up without a proposal
    REJECTED = "rejected"  # the provider does not accept what we send: key, model, address
    CONTRACT = "contract"  # started without what docs/agents.md promises

    @property
    def status(self) -> int:
        """The exit status."""
        match self:
            case Kind.SUBMITTED:
                return 0
            case Kind.CONTRACT:
                return 2
            case Kind.LIMITED:
                return 75  # EX_TEMPFAIL of sysexits.h
            case Kind.BUDGET:
                return 76
            case Kind.REJECTED:
                return 78  # EX_CONFIG
            case Kind.DEADLINE:
                return 79
            case Kind.REFUSED:
                return 80
            case Kind.CONTEXT:
                return 81
            case Kind.EXHAUSTED:
                return 82
            case _:
                assert_never(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """`retry_after_s` is what the provider asked to wait, from now; None where it did not say."""

    kind: Kind
    reason: str
    retry_after_s: float | None = None

    def declare(self, folder: Path | None, calls: int, usage: Usage) -> int:
        """Write it down; the exit status."""
        told = {
            "ending": str(self.kind), "reason": self.reason, "retry_after_s": self.retry_after_s,
            "calls": calls, "read": usage.read, "cached": usage.cached, "wrote": usage.wrote,
        }  # fmt: skip
        text = json.dumps(told, ensure_ascii=False)
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / NAME).write_text(text + "\n", encoding="utf-8")
            except OSError as error:
                sys.stderr.write(f"cannot write {folder / NAME}: {error.strerror}\n")
        sys.stderr.write(f"{MARK}{text}\n")
        return self.kind.status
