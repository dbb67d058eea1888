"""What this program is given beyond the contract of every agent."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ralph.adapters.agents.contract import ContractError


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The environment beyond the contract's."""

    kind: str
    model: str
    api: str
    address: str
    key: str
    timeout_s: float


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read it.

    Raises:
        ContractError: naming what is missing or wrong.
    """
    names = ("RALPH_AGENT_KIND", "RALPH_MODEL", "RALPH_GATEWAY", "RALPH_GATEWAY_KEY", "RALPH_TIMEOUT_S")
    if missing := [name for name in names if not environ.get(name)]:
        raise ContractError(f"{', '.join(missing)} not set; this program is started by ralph, see docs/agents.md")
    kind, api = environ["RALPH_AGENT_KIND"], environ.get("RALPH_API") or "responses"
    if kind not in ("anthropic", "openai") or api not in ("responses", "chat"):
        raise ContractError(f"kind {kind!r} with api {api!r} is none of anthropic, openai with responses or chat")
    try:
        timeout_s = float(environ["RALPH_TIMEOUT_S"])
    except ValueError:
        raise ContractError(f"RALPH_TIMEOUT_S={environ['RALPH_TIMEOUT_S']!r} is no number of seconds") from None
    address = environ["RALPH_GATEWAY"].rstrip("/")
    return Settings(
        kind=kind, model=environ["RALPH_MODEL"], api=api, address=address, key=environ["RALPH_GATEWAY_KEY"],
        timeout_s=timeout_s,
    )  # fmt: skip
