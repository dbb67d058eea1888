"""From an entry of arena.toml to what a preset's CLI is started with, and what can be known to be wrong before."""

import os
import shlex
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ralph.adapters.agents.presets import aider, claude, codex, gemini, opencode, pi
from ralph.adapters.agents.presets.preset import Api, Preset, Setting
from ralph.adapters.gateway.orders import Provider
from ralph.adapters.gateway.upstream import provider_of
from ralph.config import AgentEntry
from ralph.errors import ConfigError

PRESETS: Mapping[str, Preset] = {
    "aider": aider.PRESET,
    "claude": claude.PRESET,
    "codex": codex.PRESET,
    "gemini": gemini.PRESET,
    "opencode": opencode.PRESET,
    "pi": pi.PRESET,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outfit:
    """What to start, with which variables more, and which files its HOME holds, by their path in it."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    home: Mapping[str, bytes]


def outfit(entry: AgentEntry, env: Mapping[str, str], home: Path, files: Iterable[str] = ()) -> Outfit:
    """What the CLI of `entry` is started with.

    The environment of agents is made from a list of what passes, so that nothing of a CLI that runs around us, like
    CLAUDECODE or CLAUDE_CODE_*, needs to be taken out of it.

    Args:
        entry: it has a preset.
        env: the agent's variables by the contract; RALPH_BRIEF, and RALPH_GATEWAY with its key unless it has a login.
        home: the fresh HOME, which need not exist yet.
        files: the editable files there are, relative to its working directory.

    Raises:
        ConfigError: no gateway, or no login, with the way to get one.
    """
    preset = PRESETS[entry.preset]
    own = entry.login == "subscription"
    if not own and not env.get("RALPH_GATEWAY"):
        raise ConfigError(f"preset {entry.preset} needs the gateway, which was not started; or set login")
    api, model = _spoken(entry)
    setting = Setting(
        model=entry.model if own or not preset.needs_model else model,
        api=api,
        url="" if own else env["RALPH_GATEWAY"],
        key="" if own else env.get("RALPH_GATEWAY_KEY", ""),
        home=home,
        brief=Path(env["RALPH_BRIEF"]),
        files=tuple(files),
    )
    login = _login(entry, os.environ, Path.home()) if own else _Login()
    return Outfit(
        argv=(*_program(entry), *preset.argv(setting)),
        env={**preset.env(setting), **login.env},
        home={**{name: text.encode() for name, text in preset.home(setting).items()}, **login.files},
    )


def check(name: str, entry: AgentEntry, environ: Mapping[str, str], home: Path) -> None:
    """Look at what a preset needs of this machine, before a campaign begins with it.

    Raises:
        ConfigError: naming the agent, what is missing and how to get it.
    """
    preset = PRESETS[entry.preset]
    if preset.needs_model and not entry.model:
        raise ConfigError(f'[agents.{name}]: preset = "{entry.preset}" needs model, e.g. "anthropic/…" or "openai/…"')
    program = _program(entry)[0]
    if shutil.which(program, path=environ.get("PATH")) is None:
        raise ConfigError(
            f"[agents.{name}]: there is no program {program!r} in PATH; install it ({preset.install}), "
            f"or say where it is with command"
        )
    if entry.login == "subscription":
        _login(entry, environ, home)


def login_files(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Where the logins of all CLIs lie, whether they exist or not: what no agent should find in a user's home."""
    return tuple(path for preset in PRESETS.values() for path in _places(preset, environ, home))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Login:
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def _login(entry: AgentEntry, environ: Mapping[str, str], home: Path) -> _Login:
    """The CLI's own login: a lasting token of the environment, else a copy of its files."""
    preset = PRESETS[entry.preset]
    if not preset.logins:
        raise ConfigError(f'preset {entry.preset} has no login of its own; take login = "key"')
    if preset.login_token and environ.get(preset.login_token):
        return _Login(env={preset.login_token: environ[preset.login_token]})
    found = {}
    for name, place in zip(preset.logins, _places(preset, environ, home), strict=True):
        try:
            found[name] = place.read_bytes()
        except OSError as error:
            if not found:
                raise ConfigError(
                    f"preset {entry.preset} has no login here: {place}: {error.strerror}. To log in, {preset.log_in}"
                ) from None
    return _Login(files=found)


def _places(preset: Preset, environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    moved = environ.get(preset.login_folder, "") if preset.login_folder else ""
    return tuple(Path(moved) / Path(name).name if moved else home / name for name in preset.logins)


def _program(entry: AgentEntry) -> tuple[str, ...]:
    words = shlex.split(entry.command) or [PRESETS[entry.preset].program]
    return (str(Path(words[0]).expanduser()) if words[0].startswith("~") else words[0], *words[1:])


def _spoken(entry: AgentEntry) -> tuple[Api, str]:
    """The API to speak and the model's name in it, for CLIs that know several."""
    prefix, _, name = entry.model.partition("/")
    plain = name if prefix in ("anthropic", "openai") and name else entry.model
    return (Api.MESSAGES if provider_of(entry) is Provider.ANTHROPIC else Api(entry.api)), plain
