"""`ralph check` names the agents that could be used; a key in the environment is never spent unasked."""

import os
import re
import socket
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ralph.adapters.agents.presets.outfit import PRESETS
from ralph.adapters.gateway.upstream import key_name
from ralph.config import Config, parse
from ralph.front.check_agents import KEYS, Usable, usable_agents
from tests.arenas import TOML, ToyArena, edit, toy_arena

Left = Callable[[], list[int]]
KEY = "sk-ant-api03-Zq3Xv9Lm2Rt7Wb5Nc8Kd1Hf6Jg4P"
TUNER_TOML = TOML.replace('use = "script"', 'use = "tuner"')


def found(environ: dict[str, str], config: Config | None = None) -> dict[str, Usable]:
    return {each.name: each for each in usable_agents(config or Config(), environ)}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH with claude and codex in it, which say on the disk when they are started."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("claude", "codex"):
        (folder / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        (folder / name).chmod(0o755)
    return folder


def test_the_tuner_can_always_be_used_and_is_the_default() -> None:
    assert Config().agent.use == "tuner"
    assert found({})["tuner"] == Usable(name="tuner", ready=True, found="needs no key and no network", line="in use")


def test_a_provider_is_ready_when_its_key_is_set_and_the_key_is_not_shown() -> None:
    agents = found({"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": ""})
    assert agents["anthropic"].ready
    assert "ANTHROPIC_API_KEY is set" in agents["anthropic"].found
    assert "not spent unless" in agents["anthropic"].found
    assert not agents["openai"].ready
    assert "OPENAI_API_KEY is not set" in agents["openai"].found
    assert KEY not in str(agents)


def test_a_cli_is_ready_with_a_key_or_a_login_and_is_not_started(programs: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".codex").mkdir(parents=True)
    environ = {"PATH": str(programs), "HOME": str(home)}
    agents = found(environ)
    assert not agents["claude"].ready
    assert agents["claude"].found == f"found at {programs}/claude, but without ANTHROPIC_API_KEY or a login"
    assert agents["gemini"].found.startswith("not on PATH; ")
    (home / ".codex" / "auth.json").write_text("{}")
    agents = found({**environ, "ANTHROPIC_API_KEY": KEY})
    assert agents["claude"].ready
    assert agents["claude"].found == f"found at {programs}/claude, with ANTHROPIC_API_KEY set"
    assert agents["codex"].ready
    assert "with a login in ~/.codex/auth.json" in agents["codex"].found
    assert 'login = "subscription"' in agents["codex"].line
    assert not (tmp_path / "started").exists()


def test_the_line_that_turns_an_agent_on_is_one_that_arena_toml_takes() -> None:
    for name, each in found({}).items():
        if name == "tuner":
            continue
        table, keys, use = re.fullmatch(r"turn it on: (\[\S+\]) (.*) and \[agent\] (.*)", each.line).groups()  # type: ignore[union-attr]
        raw = tomllib.loads(f"{table}\n" + "\n".join(keys.split(", ")) + f"\n[agent]\n{use}\n")
        config = parse(raw)
        assert config.agent.use == name
        assert name in config.agents


def test_every_preset_that_the_configuration_knows_is_looked_for() -> None:
    assert set(KEYS) == set(PRESETS)
    assert set(PRESETS) <= set(found({}))


def test_a_key_other_than_the_presets_usual_one_is_named_in_the_line(tmp_path: Path) -> None:
    (tmp_path / "aider").write_text("#!/bin/sh\n")
    (tmp_path / "aider").chmod(0o755)
    agents = found({"PATH": str(tmp_path), "ANTHROPIC_API_KEY": KEY})
    assert 'preset = "aider", model = "…", key = "ANTHROPIC_API_KEY"' in agents["aider"].line
    assert "key =" not in found({"PATH": str(tmp_path), "OPENAI_API_KEY": KEY})["aider"].line


def test_the_key_that_a_preset_is_looked_up_with_is_the_one_that_its_gateway_takes() -> None:
    for name, keys in KEYS.items():
        entry = parse({"agents": {"x": {"kind": "command", "preset": name}}}).agents["x"]
        assert key_name(entry) == keys[0]


def test_an_agent_in_use_is_said_to_be() -> None:
    config = parse({"agent": {"use": "claude"}, "agents": {"claude": {"kind": "command", "preset": "claude"}}})
    assert found({}, config)["claude"].line == "in use"
    assert found({}, config)["tuner"].line == 'turn it on: [agent] use = "tuner"'


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """Whoever connects would have spent a key."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.setblocking(False)
        yield server


def environments(word: bytes) -> list[bytes]:
    """Environments of the processes at work whose command line has `word`."""
    seen = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and word in Path("/proc", name, "cmdline").read_bytes():
                seen.append(Path("/proc", name, "environ").read_bytes())
        except OSError:
            continue
    return seen


@pytest.mark.slow
def test_with_keys_in_the_environment_the_tuner_gets_none_and_nobody_is_called(
    tmp_path: Path, trap: socket.socket, programs: Path, marked: Left
) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)], toml=TUNER_TOML)
    url = f"http://127.0.0.1:{trap.getsockname()[1]}"
    arena.environment |= {
        "ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY, "ANTHROPIC_BASE_URL": url, "OPENAI_BASE_URL": f"{url}/v1",
        "HTTP_PROXY": url, "HTTPS_PROXY": url, "PATH": f"{programs}:{os.environ['PATH']}",
    }  # fmt: skip
    loop = subprocess.Popen(
        arena.argv("loop", "--max-experiments", "2"), env={**os.environ, **arena.environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    seen: list[bytes] = []
    gateways: list[bytes] = []
    try:
        while loop.poll() is None:
            seen += environments(b"ralph.adapters.agents.tuner")
            gateways += environments(b"ralph.adapters.gateway")
        out = loop.communicate()[0]
    finally:
        loop.kill()
        loop.wait()
    assert loop.returncode == 0, out
    ours = [each for each in seen if str(arena.root).encode() in each]
    assert ours, "the tuner was seen at work"
    assert [each for each in ours if KEY.encode() in each or b"RALPH_GATEWAY" in each] == []
    assert [each for each in gateways if str(arena.root).encode() in each] == []
    assert _untouched(trap)
    assert not (tmp_path / "started").exists()
    assert KEY.encode() not in out


@pytest.mark.slow
def test_looking_and_trying_spend_nothing_either(tmp_path: Path, trap: socket.socket, programs: Path) -> None:
    arena: ToyArena = toy_arena(tmp_path / "arena", [], toml=TUNER_TOML)
    url = f"http://127.0.0.1:{trap.getsockname()[1]}"
    arena.environment |= {
        "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url, "PATH": f"{programs}:{os.environ['PATH']}"
    }  # fmt: skip
    done = arena.ralph("check")
    assert done.status == 0, done
    line = next(line for line in done.out.splitlines() if " claude " in line)
    assert f"found at {programs}/claude, with ANTHROPIC_API_KEY set" in line
    assert 'turn it on: [agents.claude] kind = "command", preset = "claude" and [agent] use = "claude"' in line
    assert KEY not in done.out + done.err
    agents = [row for row in arena.json("check") if row["part"] == "Agents you could use"]
    assert [row["name"] for row in agents][:3] == ["tuner", "anthropic", "openai"]
    assert not any(row["blocking"] for row in agents)
    assert arena.ralph("agent", "try", "tuner").status == 0
    assert _untouched(trap)
    assert not (tmp_path / "started").exists()


def _untouched(trap: socket.socket) -> bool:
    try:
        trap.accept()
    except BlockingIOError:
        return True
    return False
