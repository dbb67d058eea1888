"""An agent that stands by: ready before its order comes, fresh all the same, and never left over."""

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.agents.launcher import AgentLauncher
from ralph.adapters.agents.ready import Ready
from ralph.adapters.domains import Domains
from ralph.adapters.git import GitRepo
from ralph.adapters.ledger_health import folders
from ralph.adapters.leftovers import holders
from ralph.adapters.process import recorded_exit
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.config import parse
from ralph.events import AgentEnded
from ralph.layout import Layout
from ralph.model import AgentOutcome
from ralph.ports import AgentOrder, Job
from tests.adapters.keeping import as_supervisor, die, living, nothing_survives, until
from tests.conftest import git
from tests.provider import Provider, Reply, ToolCall, Usage

LEVELS = [SandboxLevel.NONE, SandboxLevel.BWRAP]
KEPT_IN = [*LEVELS, SandboxLevel.LANDLOCK]  # there those that call a provider have no standby

pytestmark = pytest.mark.usefixtures("subreaper")


@dataclass(kw_only=True)
class Desk:
    """A repository with an arena, and what a supervisor does with agents."""

    layout: Layout
    repo: GitRepo
    launcher: AgentLauncher

    def order(self, id_: int, attempt: int = 1, agent: str = "tuner", **more: Any) -> AgentOrder:
        return AgentOrder(id=id_, attempt=attempt, agent=agent, tree=f"{id_}-agent", **more)

    def with_brief(self, order: AgentOrder) -> AgentOrder:
        brief = self.layout.brief(order.id, order.attempt)
        brief.parent.mkdir(parents=True, exist_ok=True)
        brief.write_text("Make val_bpb small.\n")
        facts = {
            "id": order.id, "attempt": order.attempt, "campaign": "c", "metric": "val_bpb", "direction": "min",
            "device": "cpu", "editable": ["train.py"], "sigma": 0.0, "incumbent": None, "refusals": [],
        }  # fmt: skip
        return AgentOrder(
            id=order.id, attempt=order.attempt, agent=order.agent, tree=order.tree, brief=brief, facts=facts
        )

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        self.repo.checkout(order.tree, self.repo.head())
        return self.launcher.start(self.with_brief(order))

    def run(self, order: AgentOrder) -> AgentEnded:
        job = self.start(order)
        end = time.monotonic() + 60
        while (ended := job.poll()) is None:
            assert time.monotonic() < end, "the agent does not end"
            fd = job.fileno()
            assert fd is not None
            select.select([fd], [], [], 0.5)
        assert holders(self.layout.agent(order.id, order.attempt)) == []
        return ended

    def edited(self, order: AgentOrder) -> str:
        return (self.layout.tree(order.tree) / "train.py").read_text()

    def gateway(self, order: AgentOrder) -> list[int]:
        """The processes of its gateway: its shim and itself, once they have begun."""
        return sorted(pid for pid, _ in holders(self.layout.gateway(order.id, order.attempt)))

    def waiting(self, order: AgentOrder) -> list[int]:
        """The processes of a standby: its shim among them, and it has started to wait."""
        folder = self.layout.agent(order.id, order.attempt)
        found = [pid for pid, _ in holders(folder)]
        return [pid for pid in found if b"agents.standby" in living().get(pid, b"")]


def desk_at(repository: Path, level: SandboxLevel, agents: Mapping[str, Any]) -> Desk:
    if reached(level).level is not level:
        pytest.skip(f"no {level} here: {reached(level).reason}")
    layout = Layout(root=repository, arena=repository)
    layout.state.mkdir(exist_ok=True)
    repo = GitRepo(repository, layout.trees, ["train.py"])
    config = parse({"agent": {"use": "tuner", "timeout_s": 30}, "agents": agents})
    domains = Domains(level, visible=(layout.root, repo.top), hidden=(layout.state,))
    return Desk(
        layout=layout,
        repo=repo,
        launcher=AgentLauncher(layout=layout, repo=repo, config=config, seed=1, domains=domains),
    )


@pytest.fixture(params=KEPT_IN)
def desk(request: pytest.FixtureRequest, repository: Path) -> Iterator[Desk]:
    made = desk_at(repository, request.param, {})
    yield made
    made.launcher.dismiss()


def test_one_that_stood_by_proposes_what_one_that_was_started_now_proposes(desk: Desk) -> None:
    order = desk.order(1)
    desk.launcher.stand_by(order)
    until(lambda: desk.waiting(order), "its start")
    ended = desk.run(order)
    assert ended.outcome is AgentOutcome.PROPOSED
    edited, proposal = desk.edited(order), desk.launcher.proposal(order)
    desk.repo.discard(order.tree)
    assert desk.run(order).outcome is AgentOutcome.PROPOSED
    assert (desk.edited(order), desk.launcher.proposal(order)) == (edited, proposal)


def test_until_its_release_there_is_nothing_for_it_to_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-0123456789")
    order = desk.order(1)
    desk.launcher.stand_by(order)
    until(lambda: desk.waiting(order), "its start")
    folder = desk.layout.agent(1, 1)
    assert {each.name for each in folder.iterdir()} <= {"home", "tmp", "lock", "log.txt"}
    assert list(desk.layout.tree(order.tree).iterdir()) == []
    for pid in desk.waiting(order):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"SOME_API_KEY" not in environment
        assert {line.split(b"=")[0] for line in environment.split(b"\0") if line.startswith(b"RALPH_")} <= {
            b"RALPH_DOMAIN"
        }
    desk.launcher.dismiss()


def test_one_that_nobody_wants_leaves_nothing(desk: Desk) -> None:
    order = desk.order(1)
    with nothing_survives(desk.layout.agent(1, 1)):
        desk.launcher.stand_by(order)
        desk.launcher.dismiss()
        desk.launcher.dismiss()
    assert not desk.layout.experiment(1).exists()
    assert not desk.layout.tree(order.tree).exists()


def test_another_order_than_the_expected_ends_it_and_is_served_all_the_same(desk: Desk) -> None:
    desk.launcher.stand_by(desk.order(1))
    with nothing_survives(desk.layout.agent(1, 1)):
        assert desk.run(desk.order(2)).outcome is AgentOutcome.PROPOSED
    assert desk.run(desk.order(1)).outcome is AgentOutcome.PROPOSED


def test_a_repair_before_the_expected_order_leaves_it_standing(desk: Desk) -> None:
    expected = desk.order(2)
    desk.launcher.stand_by(expected)
    until(lambda: desk.waiting(expected), "its start")
    before = desk.waiting(expected)
    assert desk.run(desk.order(1, attempt=2)).outcome is AgentOutcome.PROPOSED
    assert set(before) <= set(desk.waiting(expected))  # those that had started by then
    assert desk.run(expected).outcome is AgentOutcome.PROPOSED


def test_one_that_would_see_an_old_index_of_experiments_is_not_used(desk: Desk) -> None:
    desk.layout.recall.write_bytes(b"old")
    order = desk.order(1)
    desk.launcher.stand_by(order)
    until(lambda: desk.waiting(order), "its start")
    before = desk.waiting(order)
    (desk.layout.state / "new").write_bytes(b"new")
    (desk.layout.state / "new").replace(desk.layout.recall)
    assert desk.run(order).outcome is AgentOutcome.PROPOSED
    assert not set(before) & set(living())


def test_one_that_has_died_is_replaced(desk: Desk) -> None:
    order = desk.order(1)
    desk.launcher.stand_by(order)
    until(lambda: desk.waiting(order), "its start")
    for pid in desk.waiting(order):
        with contextlib.suppress(ProcessLookupError):  # a sandbox dies with what it holds, and the other way round
            os.kill(pid, 9)
    until(lambda: recorded_exit(desk.layout.agent(1, 1)), "its end")
    assert desk.run(order).outcome is AgentOutcome.PROPOSED


def test_what_it_waited_is_none_of_its_time(desk: Desk) -> None:
    order = desk.order(1)
    desk.launcher.stand_by(order)
    until(lambda: desk.waiting(order), "its start")
    ended, whole = desk.run(order), recorded_exit(desk.layout.agent(1, 1))
    assert whole is not None
    assert 0 < ended.seconds < whole.seconds


def test_after_kill_9_of_the_supervisor_none_is_left_and_none_is_taken_for_an_agent_that_ended(desk: Desk) -> None:
    order = desk.order(1)

    def supervisor() -> None:
        desk.launcher.stand_by(order)
        until(lambda: desk.waiting(order), "its start")
        die(None)  # type: ignore[arg-type]

    with nothing_survives(desk.layout.agent(1, 1), within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: recorded_exit(desk.layout.agent(1, 1)), "its end")
    assert desk.launcher.remains(order) is None
    desk.launcher.stand_by(order)  # where something is left, the start to come sees to it
    assert desk.run(order).outcome is AgentOutcome.PROPOSED


def test_a_cli_has_no_standby(repository: Path) -> None:
    desk = desk_at(repository, SandboxLevel.NONE, {"cli": {"kind": "command", "command": "true"}})
    desk.launcher.stand_by(desk.order(1, agent="cli"))
    assert not desk.layout.agent(1, 1).exists()


SAID = {"hypothesis": "a larger rate, because it is the next; expect a gain", "expected": "better"}
SCRIPT = [
    Reply(tools=[ToolCall("write", {"path": "train.py", "text": "LEARNING_RATE = 0.2\n"})], usage=Usage()),
    Reply(tools=[ToolCall("submit", SAID)], usage=Usage()),
]


def model_desk(
    repository: Path, level: SandboxLevel, provider: Provider, kind: str = "openai", api: str = "chat"
) -> Desk:
    """An arena whose agent `model` calls this provider."""
    url = provider.url if kind == "anthropic" else f"{provider.url}/v1"
    entry = {"kind": kind, "model": "model", "base_url": url, "price": (1.0, 1.0)}
    return desk_at(repository, level, {"model": entry if kind == "anthropic" else {**entry, "api": api}})


def test_nothing_is_left_of_a_gateway_that_nobody_wants(repository: Path) -> None:
    with Provider([]) as provider:
        desk = model_desk(repository, SandboxLevel.NONE, provider)
    order = desk.order(1, agent="model")
    with nothing_survives(desk.layout.gateway(1, 1)):
        desk.launcher.stand_by(order)
        until(lambda: len(desk.gateway(order)) == 2, "the gateway's start")
        desk.launcher.dismiss()
    assert not desk.layout.experiment(1).exists()


@pytest.mark.parametrize("opened", [False, True])
def test_an_agent_that_could_not_be_started_leaves_nothing_that_stood_by(
    opened: bool, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Provider([]) as provider:
        desk = model_desk(repository, SandboxLevel.NONE, provider)
    order = desk.order(1, agent="model")
    with nothing_survives(desk.layout.agent(1, 1)), nothing_survives(desk.layout.gateway(1, 1)):
        desk.launcher.stand_by(order)
        until(lambda: desk.waiting(order) and len(desk.gateway(order)) == 2, "their start")
        if opened:  # the gateway has its orders by then
            monkeypatch.setattr(Ready, "release", full_disk)
            with pytest.raises(OSError, match="No space left"):
                desk.start(order)
        else:
            with pytest.raises(FileNotFoundError):
                desk.launcher.start(replace(order, brief=desk.layout.brief(1, 1)))
        assert not desk.waiting(order)
        assert not desk.gateway(order)


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_another_order_than_the_expected_has_a_gateway_of_its_own(repository: Path) -> None:
    with Provider(SCRIPT) as provider:
        desk = model_desk(repository, SandboxLevel.NONE, provider)
        desk.launcher.stand_by(desk.order(1, agent="model"))
        with nothing_survives(desk.layout.gateway(1, 1)):
            assert desk.run(desk.order(2, agent="model")).calls == 2


@pytest.mark.slow
def test_a_gateway_that_has_died_is_replaced(repository: Path) -> None:
    with Provider(SCRIPT) as provider:
        desk = model_desk(repository, SandboxLevel.NONE, provider)
        order = desk.order(1, agent="model")
        desk.launcher.stand_by(order)
        until(lambda: len(desk.gateway(order)) == 2, "the gateway's start")
        for pid in desk.gateway(order):
            os.kill(pid, 9)
        until(lambda: not desk.gateway(order), "its end")
        ended = desk.run(order)
    assert (ended.outcome, ended.calls) == (AgentOutcome.PROPOSED, 2)


def test_after_kill_9_of_the_supervisor_no_gateway_is_left(repository: Path) -> None:
    desk = desk_at(repository, SandboxLevel.NONE, {"model": {"kind": "openai", "model": "m", "base_url": "http://x"}})
    order = desk.order(1, agent="model")

    def supervisor() -> None:
        desk.launcher.stand_by(order)
        until(lambda: len(desk.gateway(order)) == 2, "the gateway's start")
        die(None)  # type: ignore[arg-type]

    with nothing_survives(desk.layout.gateway(1, 1), within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: recorded_exit(desk.layout.agent(1, 1)), "its end")
    assert desk.launcher.remains(order) is None
    assert desk.layout.gateway(1, 1).exists()
    assert folders(desk.layout.experiments) == [], "a restart does not take it for an experiment that the ledger lost"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("kind", "api"),
    [
        ("openai", "responses"),
        pytest.param("openai", "chat", marks=pytest.mark.slow),
        pytest.param("anthropic", "responses", marks=pytest.mark.slow),
    ],
)
def test_a_model_is_reached_through_the_gateway_of_the_order(
    kind: str, api: str, level: SandboxLevel, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-real-0123456789abcdef")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-real-0123456789abcdef")
    with Provider(SCRIPT) as provider:
        desk = model_desk(repository, level, provider, kind, api)
        order = desk.order(1, agent="model")
        desk.launcher.stand_by(order)
        until(lambda: desk.waiting(order) and len(desk.gateway(order)) == 2, "their start")
        before, gateway = set(desk.waiting(order)), desk.gateway(order)
        job = desk.start(order)
        assert before & set(desk.waiting(order)), "another one was started"
        assert gateway == desk.gateway(order), "another gateway was started"
        end = time.monotonic() + 60
        while (ended := job.poll()) is None:
            assert time.monotonic() < end, "the agent does not end"
            select.select([], [], [], 0.01)
    assert ended.outcome is AgentOutcome.PROPOSED, ended
    assert ended.calls == 2
    assert desk.edited(order) == "LEARNING_RATE = 0.2\n"
    assert git(repository, "status", "--porcelain", "train.py") == ""
