"""The real CLIs against a loopback provider, through the gateway: skipped where they are not installed."""

import json
import re
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.events import AgentEnded
from ralph.model import AgentOutcome
from tests.adapters.agents.presets.agency import Agency
from tests.adapters.agents.presets.clis import Model, cli, rate, seed_home
from tests.adapters.agents.presets.google import Google
from tests.adapters.keeping import nothing_survives
from tests.arenas import TOML, toy_arena
from tests.provider import Fault, Provider, Reply, limited

pytestmark = pytest.mark.slow

CHAT: dict[str, Any] = {"api": "chat"}
ENTRIES: dict[str, dict[str, Any]] = {
    "claude": {"preset": "claude", "model": "test-model"},
    "codex": {"preset": "codex", "model": "test-model"},
    "opencode": {"preset": "opencode", "model": "test-model", **CHAT},
    "opencode, responses": {"preset": "opencode", "model": "openai/test-model"},
    "opencode, messages": {"preset": "opencode", "model": "anthropic/test-model"},
    "pi": {"preset": "pi", "model": "test-model", **CHAT},
    "pi, responses": {"preset": "pi", "model": "openai/test-model"},
    "pi, messages": {"preset": "pi", "model": "anthropic/test-model"},
    "gemini": {"preset": "gemini", "model": "gemini-test"},
    "aider": {"preset": "aider", "model": "test-model", **CHAT},
    "aider, messages": {"preset": "aider", "model": "anthropic/test-model"},
}
PROVEN = ("claude", "codex")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with settings of the user's, in an environment as within another agent."""
    home = tmp_path / "user"
    seed_home(home)
    monkeypatch.setenv("HOME", str(home))
    for name, value in {
        "CLAUDECODE": "1", "CLAUDE_CODE_ENTRYPOINT": "cli", "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "CODEX_HOME": str(home / ".codex"), "ANTHROPIC_MODEL": "planted-by-user",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return home


@pytest.mark.parametrize("level", [SandboxLevel.NONE, SandboxLevel.BWRAP])
@pytest.mark.parametrize("name", ENTRIES)
def test_it_edits_proposes_and_leaves_no_process_and_nothing_of_one_reaches_the_next(
    name: str, level: SandboxLevel, tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reached(level).level is not level:
        pytest.skip(reached(level).reason)
    entry = ENTRIES[name]
    cli(entry["preset"], monkeypatch)
    before = {path: path.read_bytes() for path in user.rglob("*") if path.is_file()}
    serve = Google if name == "gemini" else Provider
    with serve(Model()) as provider, nothing_survives(tmp_path / "arena"):
        agency = Agency(tmp_path / "arena", {**entry, "base_url": provider.url}, level=level)
        for number in (1, 2):
            ended = agency.run(number)
            assert ended.outcome is AgentOutcome.PROPOSED, (ended, agency.log(number))
            assert f"LEARNING_RATE = {rate(number)}" in agency.train(number)
            assert agency.proposal(number).hypothesis == f"rate {rate(number)}"
            if entry["preset"] != "aider":
                assert agency.proposal(number).expected.isdigit()  # the process it had left behind
                # The kernel kills those of a PID namespace uncounted.
                assert agency.exit(number)["stragglers"] >= 1 or level is SandboxLevel.BWRAP
            assert ended.tokens == 1050 * ended.calls > 0
        asked = [request.raw for request in provider.requests]
    second = next(n for n, raw in enumerate(asked) if b"brief number 2" in raw)
    assert any(b"marker-of-1" in raw for raw in asked[:second]) or entry["preset"] == "aider"
    assert not any(b"marker-of-1" in raw or b"brief number 1" in raw for raw in asked[second:])
    planted = b"planted-by-user" if name == "gemini" else b"planted"  # it reads the repository's GEMINI.md
    assert [raw[at - 200 : at + 40] for raw in asked if (at := raw.find(planted)) >= 0] == []
    assert {path: path.read_bytes() for path in user.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", PROVEN)
def test_a_whole_loop_runs_on_it(name: str, tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli(name, monkeypatch)
    toml = TOML.replace('use = "script"', 'use = "cli"').partition("[agents.")[0]
    with Provider(Model()) as provider, nothing_survives(tmp_path / "arena"):
        entry = {"kind": "command", **ENTRIES[name], "base_url": provider.url}
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items())
        arena = toy_arena(tmp_path / "arena", [], toml=f"{toml}[agents.cli]\n{lines}")
        done = arena.loop(2)
        assert done.status == 0, done
    rows = arena.json("log")
    assert [row["hypothesis"] for row in rows[1:]] == ["rate 0.45", "rate 0.4"]
    assert {row["verdict"] for row in rows[1:]} <= {"keep", "discard"}
    ended = [event for event in arena.events() if isinstance(event, AgentEnded)]
    assert [(event.outcome, event.calls, event.tokens) for event in ended] == [(AgentOutcome.PROPOSED, 2, 2100)] * 2


@pytest.mark.parametrize("name", PROVEN)
def test_a_provider_that_never_answers_is_ended_by_our_clock(
    name: str, tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(name, monkeypatch)
    with Provider([Reply(fault=Fault.HANG)]) as provider, nothing_survives(tmp_path / "arena"):
        ended = Agency(tmp_path / "arena", {**ENTRIES[name], "base_url": provider.url}, timeout_s=3.0).run()
        assert provider.requests
    assert ended.outcome is AgentOutcome.DEADLINE
    assert 3.0 <= ended.seconds < 3.0 + 2.0 + 5.0  # the grace, and killing


@pytest.mark.parametrize("name", PROVEN)
def test_an_address_where_nobody_listens_is_an_outage_and_ends_with_our_clock_at_the_latest(
    name: str, tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(name, monkeypatch)
    with socket.socket() as taken, nothing_survives(tmp_path / "arena"):
        taken.bind(("127.0.0.1", 0))  # never listened at
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        ended = Agency(tmp_path / "arena", {**ENTRIES[name], "base_url": url}, timeout_s=3.0).run()
    assert ended.outcome is AgentOutcome.LIMITED
    assert ended.seconds < 3.0 + 2.0 + 5.0


@pytest.mark.parametrize("name", PROVEN)
def test_an_absurd_wait_that_a_provider_asks_for_is_cut_short(
    name: str, tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli(name, monkeypatch)
    with Provider([limited(7200)]) as provider, nothing_survives(tmp_path / "arena"):
        ended = Agency(tmp_path / "arena", {**ENTRIES[name], "base_url": provider.url}, timeout_s=3.0).run()
    assert ended.outcome is AgentOutcome.LIMITED
    assert ended.resume_at is not None
    assert timedelta(minutes=110) < ended.resume_at - datetime.now(UTC) < timedelta(minutes=121)
    assert ended.seconds < 3.0 + 2.0 + 5.0


def test_claude_with_a_login_of_its_own_says_when_its_limit_ends(
    tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("claude", monkeypatch)
    oauth = {
        "accessToken": "made-up", "refreshToken": "made-up", "expiresAt": int((time.time() + 86_400) * 1000),
        "scopes": ["user:inference", "user:profile"], "subscriptionType": "max",
    }  # fmt: skip
    (user / ".claude/.credentials.json").write_text(json.dumps({"claudeAiOauth": oauth}))
    until = int(time.time()) + 7200
    spoken = {
        "anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": str(until),
        "anthropic-ratelimit-unified-representative-claim": "five_hour",
    }  # fmt: skip
    entry = {"preset": "claude", "login": "subscription", "model": "test-model", "env": ["ANTHROPIC_BASE_URL"]}
    model = Model()
    replies = iter([Reply(status=429, headers=spoken, error="you have had enough")])
    with Provider(lambda request: next(replies, None) or model(request)) as provider:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", provider.url)
        agency = Agency(tmp_path / "arena", entry)
        first, second = agency.run(1), agency.run(2)
        headers = [request.headers for request in provider.requests]
        assert not any(b"planted" in request.raw for request in provider.requests)
    assert (first.outcome, first.resume_at) == (AgentOutcome.LIMITED, datetime.fromtimestamp(until, UTC))
    assert "five hour" in first.reason
    assert second.outcome is AgentOutcome.PROPOSED
    assert (second.tokens, second.usd, second.calls) == (2100, 0.0, 2)
    assert {each["authorization"] for each in headers} == {"Bearer made-up"}


def test_nothing_of_claudes_own_requests_changes_between_two_starts_before_the_brief(
    tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the provider's cache can hold what stands before it; the worktree's path is the same in one lane."""
    cli("claude", monkeypatch)
    with Provider(Model()) as provider:
        agency = Agency(tmp_path / "arena", {**ENTRIES["claude"], "base_url": provider.url})
        for number in (1, 2):
            agency.run(number)
        heads = [json.dumps([r.body["tools"], r.body["system"]]) for r in provider.requests]
    assert len({re.sub(r"agent-\d", "agent", head) for head in heads}) == 1
