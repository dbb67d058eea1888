"""Which provider an agent of arena.toml calls, at which address and with which key."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from ralph.adapters.gateway.orders import Provider, Upstream
from ralph.config import AgentEntry, Config
from ralph.errors import ConfigError

USUAL_KEYS = {
    Provider.ANTHROPIC: "ANTHROPIC_API_KEY",
    Provider.OPENAI: "OPENAI_API_KEY",
    Provider.GEMINI: "GEMINI_API_KEY",
}
USUAL_BASES = {
    Provider.ANTHROPIC: "https://api.anthropic.com",
    Provider.OPENAI: "https://api.openai.com",
    Provider.GEMINI: "https://generativelanguage.googleapis.com",
}


def provider_of(entry: AgentEntry) -> Provider:
    """Whose API an entry speaks; a preset that speaks several goes by its model's prefix or its key's variable."""
    if entry.kind == "anthropic" or entry.preset == "claude":
        return Provider.ANTHROPIC
    if entry.preset == "gemini":
        return Provider.GEMINI
    if entry.preset and (entry.key.startswith("ANTHROPIC") or entry.model.startswith("anthropic/")):
        return Provider.ANTHROPIC
    return Provider.OPENAI


def key_name(entry: AgentEntry) -> str:
    """The variable of the supervisor's environment that holds an entry's key."""
    return entry.key or USUAL_KEYS[provider_of(entry)]


def upstream_of(name: str, entry: AgentEntry, ambient: Mapping[str, str]) -> Upstream:
    """Where the calls of agent `name` go, and with which key.

    A server of one's own (`base_url`) needs a key only if `key` names one.

    Raises:
        ConfigError: the key is not in the environment, or the address is none.
    """
    provider, variable = provider_of(entry), key_name(entry)
    key = ambient.get(variable, "").strip()
    if not key and not (entry.base_url and not entry.key):
        raise ConfigError(
            f"agent {name!r} needs the key of its provider in {variable}, which is not set. Put `export {variable}=…` "
            f"where the loop is started, or name another variable: [agents.{name}] key"
        )
    base = (entry.base_url or USUAL_BASES[provider]).rstrip("/")
    parts = urlsplit(base)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"agent {name!r}: base_url = {entry.base_url!r} is no address; write https://HOST/PATH")
    if provider is Provider.OPENAI:  # whose base addresses end in a version, most often /v1
        base, prefix = (base, "/v1") if parts.path.strip("/") else (f"{base}/v1", "/v1")
    else:
        base, prefix = base.removesuffix("/v1").removesuffix("/v1beta"), ""
    return Upstream(
        provider=provider,
        base=base,
        prefix=prefix,
        key=key,
        bearer=variable.endswith("AUTH_TOKEN"),
        official=not entry.base_url,
    )


def require_keys(config: Config, ambient: Mapping[str, str]) -> None:
    """Look for the key of every agent in use before anything is begun.

    Raises:
        ConfigError: naming the first that is missing and what to do.
    """
    for name in [name for name, share in config.agent.mix.items() if share] or [config.agent.use]:
        entry = config.agent_entry(name)
        if entry.behind_gateway:
            upstream_of(name, entry, ambient)
