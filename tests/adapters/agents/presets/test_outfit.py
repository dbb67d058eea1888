"""What each CLI is started with: as data, and as what a program in its place finds."""

import json
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.agents.presets.outfit import PRESETS, Outfit, login_files, outfit
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.config import AgentEntry
from ralph.errors import ConfigError
from ralph.model import AgentOutcome
from tests.adapters.agents.presets.agency import Agency

HOME = Path("/domain/home")
ENV = {
    "RALPH_BRIEF": "/domain/brief.md",
    "RALPH_GATEWAY": "http://127.0.0.1:7077",
    "RALPH_GATEWAY_KEY": "ralph-dummy-1",
}
STAND_IN = """\
import json, os, pathlib, sys, time
home = pathlib.Path(os.environ["HOME"])
files = [p for p in home.rglob("*") if p.is_file()]
found = {str(p.relative_to(home)): [oct(p.stat().st_mode & 0o777), p.read_text()] for p in files}
print(json.dumps({"type": "seen", "argv": sys.argv[1:], "env": dict(os.environ), "home": found}))
print(%s, flush=True)
time.sleep(float(os.environ.get("STAY_S", "0")))
"""


def worn(preset: str, model: str = "m-1", **fields: Any) -> Outfit:
    entry = AgentEntry.model_validate({"kind": "command", "preset": preset, "model": model, **fields})
    return outfit(entry, ENV, HOME, ["train.py"])


def after(words: tuple[str, ...], option: str) -> str:
    return words[words.index(option) + 1]


@pytest.mark.parametrize("name", PRESETS)
def test_every_one_names_its_model_keeps_no_session_and_has_the_dummy_key_only(name: str) -> None:
    dressed = worn(name)
    told = json.dumps([dressed.argv, dict(dressed.env), {k: v.decode() for k, v in dressed.home.items()}])
    assert dressed.argv[0] == PRESETS[name].program
    assert "m-1" in told
    assert "127.0.0.1:7077" in told
    assert "ralph-dummy-1" in told or name == "codex"  # which reads it from RALPH_GATEWAY_KEY
    assert all(not Path(path).is_absolute() and ".." not in path for path in dressed.home)
    assert "resume" not in told
    assert "continue" not in dressed.argv


def test_a_model_is_the_clis_own_choice_where_none_is_named() -> None:
    assert "--model" in worn("claude").argv
    for name in ("claude", "codex", "gemini"):
        assert "--model" not in worn(name, model="").argv


def test_claude_accepts_edits_and_lists_its_tools_since_root_may_not_skip_permissions() -> None:
    dressed = worn("claude")
    assert not any("dangerously" in word for word in dressed.argv)
    assert after(dressed.argv, "--permission-mode") == "acceptEdits"
    assert after(dressed.argv, "--allowedTools") == after(dressed.argv, "--tools")
    assert {"-p", "--bare", "--no-session-persistence", "stream-json"} <= set(dressed.argv)
    assert dressed.env["CLAUDE_CONFIG_DIR"] == "/domain/home/.claude"
    assert dressed.env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:7077"


def test_codex_has_a_home_beside_tmpdir_and_the_gateway_as_its_only_provider() -> None:
    dressed = worn("codex")
    config = tomllib.loads(dressed.home[".codex/config.toml"].decode())
    assert dressed.env == {"CODEX_HOME": "/domain/home/.codex"}
    assert config["model_provider"] == "ralph"
    assert config["model_providers"]["ralph"]["base_url"] == "http://127.0.0.1:7077/v1"
    assert config["model_providers"]["ralph"]["env_key"] == "RALPH_GATEWAY_KEY"
    assert (config["web_search"], config["analytics"]["enabled"]) == ("disabled", False)
    assert {"exec", "--json", "--ephemeral"} <= set(dressed.argv)
    assert dressed.argv[-1] == "-"


@pytest.mark.parametrize(
    ("model", "api", "package", "pi_api", "aider_model"),
    [
        ("m-1", "chat", "@ai-sdk/openai-compatible", "openai-completions", "openai/m-1"),
        ("openai/m-1", "responses", "@ai-sdk/openai", "openai-responses", "openai/m-1"),
        ("anthropic/m-1", "responses", "@ai-sdk/anthropic", "anthropic-messages", "anthropic/m-1"),
        ("maker/m-1", "chat", "@ai-sdk/openai-compatible", "openai-completions", "openai/maker/m-1"),
    ],
)
def test_a_models_prefix_chooses_the_api_of_clis_that_know_several(
    model: str, api: str, package: str, pi_api: str, aider_model: str
) -> None:
    name = "maker/m-1" if model.startswith("maker") else "m-1"
    config = json.loads(worn("opencode", model, api=api).env["OPENCODE_CONFIG_CONTENT"])
    assert config["provider"]["ralph"]["npm"] == package
    assert list(config["provider"]["ralph"]["models"]) == [name]
    assert after(worn("opencode", model, api=api).argv, "--model") == f"ralph/{name}"
    models = json.loads(worn("pi", model, api=api).home[".pi/agent/models.json"])
    assert models["providers"]["ralph"]["api"] == pi_api
    assert models["providers"]["ralph"]["models"][0]["id"] == name
    assert after(worn("aider", model, api=api).argv, "--model") == aider_model


def test_aider_is_told_the_brief_and_the_files_since_it_has_no_tools() -> None:
    argv = worn("aider").argv
    assert argv[-2:] == ("train.py", ".ralph/proposal.json")
    assert after(argv, "--message-file") == "/domain/brief.md"


def test_a_command_of_ones_own_takes_the_place_of_the_program() -> None:
    assert worn("codex", command="npx -y @openai/codex@1").argv[:4] == ("npx", "-y", "@openai/codex@1", "exec")
    assert worn("claude", command="~/bin/claude").argv[0] == str(Path("~/bin/claude").expanduser())


def test_without_a_gateway_nothing_is_started() -> None:
    entry = AgentEntry(kind="command", preset="claude")
    with pytest.raises(ConfigError, match="gateway"):
        outfit(entry, {"RALPH_BRIEF": "b"}, HOME)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.logins])
def test_a_login_of_its_own_is_copied_and_no_gateway_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("CLAUDE_CONFIG_DIR", "CLAUDE_CODE_OAUTH_TOKEN", "CODEX_HOME", "PI_CODING_AGENT_DIR"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match=r"no login here: .* To log in, ") as caught:
        worn(name, login="subscription")
    assert PRESETS[name].log_in in str(caught.value)
    first = PRESETS[name].logins[0]
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_text("made up")
    dressed = worn(name, login="subscription")
    assert dressed.home[first] == b"made up"
    told = json.dumps([dressed.argv, dict(dressed.env), {k: v.decode() for k, v in dressed.home.items()}])
    assert "127.0.0.1" not in told
    assert "ralph-dummy" not in told
    assert "--bare" not in dressed.argv  # which reads no login
    assert tmp_path / first in login_files({}, tmp_path)


def test_a_moved_login_is_found_and_a_lasting_token_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(tmp_path))
    (tmp_path / "auth.json").write_text("made up")
    assert worn("codex", login="subscription").home[".codex/auth.json"] == b"made up"
    assert tmp_path / "auth.json" in login_files(os.environ, Path("/home/ada"))
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "made up")
    dressed = worn("claude", login="subscription")
    assert dressed.env["CLAUDE_CODE_OAUTH_TOKEN"] == "made up"
    assert ".claude/.credentials.json" not in dressed.home


def test_aider_has_no_login() -> None:
    with pytest.raises(ConfigError, match="no login of its own"):
        worn("aider", login="subscription")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"preset": "claude", "command": "no-such-cli"}, r"\[agents.cli\]: there is no program 'no-such-cli' in PATH"),
        ({"preset": "pi"}, "needs model"),
        ({"preset": "opencode"}, "needs model"),
        ({"preset": "aider", "command": "sh", "model": "m", "login": "subscription"}, "no login of its own"),
    ],
)
def test_what_is_missing_is_said_before_a_campaign_begins(entry: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        Agency(tmp_path / "arena", entry)


def agency_with(tmp_path: Path, last: object, timeout_s: float = 60.0, **entry: Any) -> Agency:
    """An agency whose claude is a program that says what it finds, then `last`."""
    program = tmp_path / "stand-in.py"
    program.write_text(STAND_IN % repr(last if isinstance(last, str) else json.dumps(last)))
    command = shlex.join((sys.executable, str(program)))
    return Agency(tmp_path / "arena", {"preset": "claude", "command": command, **entry}, timeout_s)


@pytest.fixture
def lasting_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("CLAUDE_CONFIG_DIR", raising=False)
    monkeypatch.delenv("CLAUDE_CODE_OAUTH_TOKEN", raising=False)
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("CLAUDE_CODE_SSE_PORT", "1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a real key")
    (tmp_path / "user/.claude").mkdir(parents=True)
    (tmp_path / "user/.claude/.credentials.json").write_text("made up")
    (tmp_path / "user/.claude/settings.json").write_text("{}")


@pytest.mark.usefixtures("lasting_login")
def test_it_finds_a_fresh_home_with_its_login_alone_and_no_trace_of_an_agent_around_us(tmp_path: Path) -> None:
    agency = agency_with(tmp_path, "bye", login="subscription")
    ended = agency.run()
    assert ended.outcome is AgentOutcome.NOTHING
    seen = json.loads(agency.log().splitlines()[0])
    assert seen["home"] == {".claude/.credentials.json": ["0o600", "made up"]}
    assert seen["env"]["HOME"] == str(agency.layout.agent(1, 1) / "home")
    assert not {"CLAUDECODE", "CLAUDE_CODE_SSE_PORT", "ANTHROPIC_API_KEY", "RALPH_GATEWAY"} & seen["env"].keys()
    assert "a real key" not in agency.log()


@pytest.mark.usefixtures("lasting_login")
def test_a_typed_limit_counts_before_an_error_and_an_error_before_the_last_words(tmp_path: Path) -> None:
    limit = '{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1900000000}}'
    error = '{"type": "result", "is_error": true, "api_error_status": 401, "result": "who are you?"}'
    words = '{"type": "assistant", "message": {"model": "m", "content": [{"type": "text", "text": "I gave up."}]}}'
    first = agency_with(tmp_path, "\n".join((limit, words, error)), login="subscription").run()
    assert (first.outcome, first.reason) == (
        AgentOutcome.LIMITED, "the agent wrote no .ralph/proposal.json; usage limit reached",
    )  # fmt: skip
    assert first.resume_at is not None
    (tmp_path / "second").mkdir()
    second = agency_with(tmp_path / "second", "\n".join((words, error)), login="subscription").run()
    assert second.outcome is AgentOutcome.FAILED
    assert second.reason.endswith("it says: who are you?")
    (tmp_path / "third").mkdir()
    third = agency_with(tmp_path / "third", words, login="subscription").run()
    assert third.outcome is AgentOutcome.NOTHING
    assert third.reason.endswith("its last words: I gave up.")


@pytest.mark.usefixtures("lasting_login")
def test_in_a_sandbox_the_login_in_the_users_home_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reached(SandboxLevel.BWRAP).level is not SandboxLevel.BWRAP:
        pytest.skip(reached(SandboxLevel.BWRAP).reason)
    login = tmp_path / "arena/user/.claude/.credentials.json"  # below the arena, which the sandbox shows
    login.parent.mkdir(parents=True)
    login.write_text("made up")
    monkeypatch.setenv("HOME", str(tmp_path / "arena/user"))
    program = "cat user/.claude/settings.json; cat $LOOK; cat $HOME/.claude/.credentials.json; echo"
    (login.parent / "settings.json").write_text("visible\n")
    entry = {"preset": "claude", "command": f"sh -c 'cd $ARENA; {program}'", "login": "subscription"}
    monkeypatch.setenv("ARENA", str(tmp_path / "arena"))
    monkeypatch.setenv("LOOK", str(login))
    agency = Agency(tmp_path / "arena", {**entry, "env": ["ARENA", "LOOK"]}, level=SandboxLevel.BWRAP)
    agency.run()
    assert [line for line in agency.log().splitlines() if "cat:" not in line] == ["visible", "made up"]


@pytest.mark.usefixtures("lasting_login")
def test_our_own_deadline_counts_before_a_typed_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAY_S", "60")
    limit = '{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected"}}'
    ended = agency_with(tmp_path, limit, login="subscription", env=["STAY_S"], timeout_s=0.5).run()
    assert ended.outcome is AgentOutcome.DEADLINE
    assert 0.5 <= ended.seconds < 10


def test_behind_a_gateway_neither_limits_nor_figures_of_the_cli_are_believed(tmp_path: Path) -> None:
    limit = '{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1900000000}}'
    result = '{"type": "result", "is_error": false, "usage": {"input_tokens": 5}, "total_cost_usd": 9}'
    ended = agency_with(tmp_path, f"{limit}\n{result}", base_url="http://127.0.0.1:9").run()
    assert (ended.outcome, ended.resume_at) == (AgentOutcome.NOTHING, None)
    assert (ended.tokens, ended.usd, ended.calls) == (0, 0.0, 0)
