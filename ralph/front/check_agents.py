"""Which agents could be used on this machine, and the lines of arena.toml that turn each on.

Looked at: names of variables that are set, programs on PATH, files that a login leaves. No key is printed, sent or
tried, and no program is started, so a key that is there may still be a wrong one.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ralph.adapters.agents.presets.outfit import PRESETS
from ralph.adapters.agents.presets.preset import Preset
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


PROVIDERS = {"anthropic": USUAL_KEYS[Provider.ANTHROPIC], "openai": USUAL_KEYS[Provider.OPENAI]}
KEYS: Mapping[str, tuple[str, ...]] = {  # of each preset, the usual one first
    "claude": ("ANTHROPIC_API_KEY",),
    "codex": ("OPENAI_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "opencode": ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    "aider": ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
    "pi": ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"),
}


def usable_agents(config: Config | None, environ: Mapping[str, str]) -> Iterator[Usable]:
    """Every agent that ralph knows how to start, the tuner first. `config` says which are in use already."""
    in_use = set(config.agent.mix or {config.agent.use: 1.0}) if config is not None else set[str]()
    yield Usable(name="tuner", ready=True, found="needs no key and no network", line=_use("tuner", "", in_use))
    for kind, variable in PROVIDERS.items():
        there = bool(environ.get(variable))
        found = f"{variable} is set; it is not spent unless you turn this on" if there else f"{variable} is not set"
        entry = f'[agents.{kind}] kind = "{kind}", model = "…"'
        yield Usable(name=kind, ready=there, found=found, line=_use(kind, entry, in_use))
    for name in KEYS:
        yield _preset(name, environ, in_use)


def _preset(name: str, environ: Mapping[str, str], in_use: set[str]) -> Usable:
    preset, keys = PRESETS[name], [key for key in KEYS[name] if environ.get(key)]
    program, login = shutil.which(preset.program, path=environ.get("PATH", "")), _login(preset, environ)
    entry = f'[agents.{name}] kind = "command", preset = "{name}"' + (', model = "…"' if preset.needs_model else "")
    if program is None:
        found = f"not on PATH; {preset.install}"
    elif keys:
        found = f"found at {program}, with {keys[0]} set"
        entry += "" if keys[0] == KEYS[name][0] else f', key = "{keys[0]}"'
    elif login:
        found, entry = f"found at {program}, with a login in {login}", f'{entry}, login = "subscription"'
    else:
        found = f"found at {program}, but without {' or '.join(KEYS[name])}{' or a login' if preset.logins else ''}"
    ready = program is not None and bool(keys or login)
    return Usable(name=name, ready=ready, found=found, line=_use(name, entry, in_use))


def _login(preset: Preset, environ: Mapping[str, str]) -> str:
    """Where the user's own login was found; its content is not looked at."""
    if preset.login_token and environ.get(preset.login_token):
        return preset.login_token
    home = environ.get("HOME", "")
    first = preset.logins[0] if preset.logins else ""
    return f"~/{first}" if home and first and Path(home, first).is_file() else ""


def _use(name: str, entry: str, in_use: set[str]) -> str:
    if name in in_use:
        return "in use"
    use = f'[agent] use = "{name}"'
    return f"turn it on: {entry} and {use}" if entry else f"turn it on: {use}"
