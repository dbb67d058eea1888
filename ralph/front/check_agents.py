"""Which agents could be used on this machine, and the lines of arena.toml that turn each on.

Looked at: names of variables that are set, programs on PATH, files that a login leaves. No key is printed, sent or
tried, and no program is started, so a key that is there may still be a wrong one.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ralph.adapters.gateway.orders import Provider
from ralph.adapters.gateway.upstream import USUAL_KEYS
from ralph.config import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Usable:
    """One agent: what was found of it, or what is missing, and the line that turns it on."""

    name: str
    ready: bool
    found: str
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Preset:
    """A coding CLI. `keys` are variables that may hold its key; `login` are paths below HOME that its login leaves."""

    name: str
    keys: tuple[str, ...]
    login: tuple[str, ...] = ()


PROVIDERS = {"anthropic": USUAL_KEYS[Provider.ANTHROPIC], "openai": USUAL_KEYS[Provider.OPENAI]}
PRESETS = (
    _Preset(name="claude", keys=("ANTHROPIC_API_KEY",), login=(".claude/.credentials.json",)),
    _Preset(name="codex", keys=("OPENAI_API_KEY",), login=(".codex/auth.json",)),
    _Preset(name="gemini", keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"), login=(".gemini/oauth_creds.json",)),
    _Preset(name="opencode", keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), login=(".local/share/opencode/auth.json",)),
    _Preset(name="aider", keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY")),
    _Preset(name="pi", keys=("OPENAI_API_KEY", "ANTHROPIC_API_KEY"), login=(".pi/agent/auth.json",)),
)


def usable_agents(config: Config | None, environ: Mapping[str, str]) -> Iterator[Usable]:
    """Every agent that ralph knows how to start, the tuner first. `config` says which are in use already."""
    in_use = set(config.agent.mix or {config.agent.use: 1.0}) if config is not None else set[str]()
    yield Usable(name="tuner", ready=True, found="needs no key and no network", line=_use("tuner", "", in_use))
    for kind, variable in PROVIDERS.items():
        there = bool(environ.get(variable))
        found = f"{variable} is set; it is not spent unless you turn this on" if there else f"{variable} is not set"
        entry = f'[agents.{kind}] kind = "{kind}", model = "…"'
        yield Usable(name=kind, ready=there, found=found, line=_use(kind, entry, in_use))
    for preset in PRESETS:
        yield _preset(preset, environ, in_use)


def _preset(preset: _Preset, environ: Mapping[str, str], in_use: set[str]) -> Usable:
    program = shutil.which(preset.name, path=environ.get("PATH", ""))
    keys = [name for name in preset.keys if environ.get(name)]
    home = environ.get("HOME", "")
    login = next((f"~/{path}" for path in preset.login if home and Path(home, path).is_file()), "")
    entry = f'[agents.{preset.name}] kind = "command", preset = "{preset.name}"'
    if program is None:
        return Usable(name=preset.name, ready=False, found="not on PATH", line=_use(preset.name, entry, in_use))
    if keys:
        found = f"found at {program}, with {keys[0]} set"
        entry += "" if keys[0] == preset.keys[0] else f', key = "{keys[0]}"'
    elif login:
        found, entry = f"found at {program}, with a login in {login}", f'{entry}, login = "subscription"'
    else:
        found = f"found at {program}, but without {' or '.join(preset.keys)}{' or a login' if preset.login else ''}"
    return Usable(name=preset.name, ready=bool(keys or login), found=found, line=_use(preset.name, entry, in_use))


def _use(name: str, entry: str, in_use: set[str]) -> str:
    if name in in_use:
        return "in use"
    use = f'[agent] use = "{name}"'
    return f"turn it on: {entry} and {use}" if entry else f"turn it on: {use}"
