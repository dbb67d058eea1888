"""Agents that call a provider: what they are given, what they spend, and how their end is understood."""

import json
import os
import select
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.agents.launcher import AgentLauncher
from ralph.adapters.domains import Domains, read_log
from ralph.adapters.gateway.calls import read_calls
from ralph.adapters.git import GitRepo
from ralph.adapters.leftovers import holders
from ralph.adapters.papers import FilePapers
from ralph.adapters.process import become_subreaper
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.config import AgentEntry, parse
from ralph.errors import ConfigError
from ralph.events import AgentEnded
from ralph.layout import Layout
from ralph.model import AgentOutcome
from ralph.ports import AgentOrder
from tests.conftest import git
from tests.provider import Provider, Reply, ToolCall, Usage, limited

REAL_KEY = "sk-real-0123456789abcdef"
USAGE = Usage(input=1000, output=50)
HAIKU_USD = (1000 * 1.0 + 50 * 5.0) / 1e6
CALLER = """
import http.client, json, os, pathlib, sys, time
address, key = os.environ["RALPH_GATEWAY"].removeprefix("http://"), os.environ["RALPH_GATEWAY_KEY"]
body = json.dumps({"model": os.environ["RALPH_MODEL"], "max_tokens": 100, "messages": []})
for _ in range(int(sys.argv[1])):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", "/v1/messages", body, {"x-api-key": key})
    print(connection.getresponse().status, flush=True)
    connection.close()
print(json.dumps(dict(os.environ)))
if "propose" in sys.argv:
    pathlib.Path("train.py").write_text("LEARNING_RATE = 0.2\\n")
    pathlib.Path(os.environ["RALPH_PROPOSAL"]).write_text(json.dumps({"hypothesis": "a larger rate; expect a gain"}))
if "linger" in sys.argv:
    time.sleep(600)
"""


class Callers(AgentLauncher):
    """Starts a program of the test's instead of the real agents: so many calls, then what the words say."""

    words: tuple[str, ...] = ("1",)

    def _argv(self, entry: AgentEntry) -> tuple[str, ...]:
        return super()._argv(entry) if self.words == () else (sys.executable, "-c", CALLER, *self.words)


@dataclass(kw_only=True)
class Desk:
    """A repository with an arena, and a launcher for it."""

    layout: Layout
    repo: GitRepo
    level: SandboxLevel

    def launcher(self, url: str, words: str, *, timeout_s: float = 30.0, **entry: Any) -> Callers:
        given = {"kind": "anthropic", "model": "claude-haiku-4-5", "price": (1.0, 5.0), "base_url": url, **entry}
        config = parse({"agent": {"use": "caller", "timeout_s": timeout_s}, "agents": {"caller": given}})
        domains = Domains(self.level, visible=(self.layout.root, self.repo.top), hidden=(self.layout.state,))
        found = Callers(layout=self.layout, repo=self.repo, config=config, seed=1, domains=domains)
        found.words = tuple(words.split())
        return found

    def order(self, **more: Any) -> AgentOrder:
        brief = self.layout.brief(1, 1)
        brief.parent.mkdir(parents=True, exist_ok=True)
        brief.write_text("Make val_bpb small.\n")
        facts = {
            "id": 1, "attempt": 1, "campaign": "c", "metric": "val_bpb", "direction": "min", "device": "cpu",
            "editable": ["train.py"], "sigma": 0.0, "incumbent": None, "refusals": [],
        }  # fmt: skip
        return AgentOrder(id=1, attempt=1, agent="caller", tree="agent-1", brief=brief, facts=facts, **more)

    def run(self, launcher: AgentLauncher, **more: Any) -> AgentEnded:
        """Start the agent in a fresh worktree and wait for its end, as the loop does."""
        order = self.order(**more)
        self.repo.checkout(order.tree, git(self.layout.root, "rev-parse", "HEAD"))
        job = launcher.start(order)
        end = time.monotonic() + 60
        while (ended := job.poll()) is None:
            assert time.monotonic() < end, "the agent does not end"
            fd = job.fileno()
            assert fd is not None
            select.select([fd], [], [], 0.5)
        for folder in (self.layout.agent(1, 1), self.layout.gateway(1, 1)):
            assert not folder.exists() or holders(folder) == []
        return ended

    @property
    def log(self) -> str:
        return read_log(self.layout.agent(1, 1))

    @property
    def environment(self) -> Mapping[str, str]:
        """What the agent found."""
        return dict(json.loads(next(line for line in self.log.splitlines() if line.startswith("{"))))


@pytest.fixture
def desk(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    become_subreaper()
    monkeypatch.setenv("ANTHROPIC_API_KEY", REAL_KEY)
    layout = Layout(root=repository, arena=repository)
    layout.state.mkdir()
    level = reached(SandboxLevel.BWRAP).level
    return Desk(layout=layout, repo=GitRepo(repository, layout.trees, ("train.py",)), level=level)


def test_what_an_agent_spends_is_on_its_end_and_its_key_is_a_dummy(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "2 propose"))
        assert [request.headers["x-api-key"] for request in provider.requests] == [REAL_KEY] * 2
    assert (ended.outcome, ended.reason) == (AgentOutcome.PROPOSED, ""), desk.log
    assert (ended.calls, ended.tokens) == (2, 2100)
    assert ended.usd == pytest.approx(2 * HAIKU_USD)
    found = desk.environment
    names = ("RALPH_AGENT_KIND", "RALPH_MODEL", "RALPH_API")
    assert [found[name] for name in names] == ["anthropic", "claude-haiku-4-5", "responses"]
    assert found["RALPH_GATEWAY"].startswith("http://127.0.0.1:")
    assert found["RALPH_GATEWAY_KEY"].startswith("ralph-dummy-")
    assert REAL_KEY not in desk.log
    kept = [path for path in desk.layout.state.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert not [path for path in kept if REAL_KEY.encode() in path.read_bytes()]
    assert REAL_KEY not in str(found)


def test_the_real_agent_works_through_the_gateway_in_the_sandbox(desk: Desk) -> None:
    edit = ToolCall("replace", {"path": "train.py", "old": "LEARNING_RATE = 0.1", "new": "LEARNING_RATE = 0.2"})
    submit = ToolCall("submit", {"hypothesis": "a larger rate because it is small; expect a gain", "learnings": []})
    with Provider([Reply(tools=[edit], usage=USAGE), Reply(tools=[submit], usage=USAGE)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "", timeout_s=60.0), usd_left=5.0)
    assert ended.outcome is AgentOutcome.PROPOSED, (ended.reason, desk.log)
    assert ended.calls == 2
    assert ended.usd == pytest.approx(2 * HAIKU_USD)


def test_a_usage_limit_is_told_with_its_end(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE), limited(3600)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "2"))
    assert (ended.outcome, "rate_limit_error" in ended.reason, ended.calls) == (AgentOutcome.LIMITED, True, 2)
    assert ended.resume_at is not None
    assert 3500 < (ended.resume_at - datetime.now(UTC)).total_seconds() <= 3600


def test_an_agent_that_its_clock_ended_while_it_waited_was_limited(desk: Desk) -> None:
    with Provider([limited(3600)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "1 linger", timeout_s=2.0))
    assert ended.outcome is AgentOutcome.LIMITED


def test_a_usable_proposal_wins_over_every_limit(desk: Desk) -> None:
    with Provider([limited(3600)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "1 propose"))
        assert (ended.outcome, ended.resume_at) == (AgentOutcome.PROPOSED, None)
        ended = desk.run(desk.launcher(provider.url, "1 propose"), usd_left=0.0)
    assert ended.outcome is AgentOutcome.PROPOSED


def test_an_agent_that_ends_without_a_proposal_after_good_calls_gave_nothing(desk: Desk) -> None:
    with Provider([limited(1), Reply(usage=USAGE)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "2"))
    assert (ended.outcome, ended.calls) == (AgentOutcome.NOTHING, 2)


def test_a_budget_holds_over_the_agents_calls(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "5"), tokens_left=3400)
        assert len(provider.requests) == ended.calls == 3
    assert (ended.outcome, ended.tokens) == (AgentOutcome.BUDGET, 3150)
    assert "250 left" in ended.reason


def test_a_restarted_supervisor_finds_the_same_end(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE), limited(600)]) as provider:
        ended = desk.run(desk.launcher(provider.url, "2"))
        again = desk.launcher(provider.url, "2").remains(desk.order())
    assert again == ended


def test_an_attempt_that_starts_again_counts_what_its_first_start_spent(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE)]) as provider:
        desk.run(desk.launcher(provider.url, "1"))
        ended = desk.run(desk.launcher(provider.url, "2 propose"), tokens_left=3400)
    assert (ended.calls, ended.tokens, ended.outcome) == (3, 3150, AgentOutcome.PROPOSED)


def test_the_record_outlives_the_tidying_of_its_experiment(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE)]) as provider:
        desk.run(desk.launcher(provider.url, "1 propose"))
    with FilePapers(desk.layout, "program.md", "val_bpb") as papers:
        papers.tidy(1, keep_artifact=False)
    assert len(read_calls(desk.layout.calls(1, 1))) == 1


def test_an_agent_that_calls_nobody_gets_no_gateway(desk: Desk) -> None:
    launcher = desk.launcher("", "0 propose", kind="command", command="true")
    launcher.words = ()
    ended = desk.run(launcher, usd_left=1.0)
    assert (ended.outcome, ended.usd, ended.calls) == (AgentOutcome.NOTHING, 0.0, 0)
    assert not desk.layout.calls(1, 1).parent.exists()


def test_a_subscription_needs_no_gateway_and_keeps_its_network(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    login = tmp_path / "home" / ".claude" / ".credentials.json"
    login.parent.mkdir(parents=True)
    login.write_text("{}")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    launcher = desk.launcher("", "", kind="command", preset="claude", command="true", login="subscription", model="")
    launcher.words = ()
    desk.run(launcher)
    assert not desk.layout.calls(1, 1).parent.exists()


def test_a_missing_key_stops_before_anything_is_started(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(ConfigError, match="ANTHROPIC_API_KEY"):
        desk.run(desk.launcher("", "1"))
    assert not desk.layout.calls(1, 1).parent.exists()


def test_a_gateway_that_cannot_work_is_named_as_the_reason(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "nonsense://127.0.0.1:9")
    ended = desk.run(desk.launcher("http://provider.invalid", "1"))
    assert ended.outcome is AgentOutcome.FAILED
    assert "its gateway ended" in ended.reason
    assert "proxy" in ended.reason.lower()


def test_no_descriptor_is_left_open(desk: Desk) -> None:
    with Provider([Reply(usage=USAGE)]) as provider:
        desk.run(desk.launcher(provider.url, "1"))
        before = sorted(os.listdir("/proc/self/fd"))
        desk.run(desk.launcher(provider.url, "1"))
        assert sorted(os.listdir("/proc/self/fd")) == before
