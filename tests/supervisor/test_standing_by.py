"""When the agent that is expected next is told to stand by: while nobody waits, and not beside one that begins."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest

from ralph.adapters.scripted.lab import Lab, LabAgents, Plan
from ralph.events import AgentEnded, RunEnded, RunStarted
from ralph.ports import AgentOrder, Job
from tests.supervisor.labs import bench


class Watched(LabAgents):
    """Notes by the clock who begins and who is told to stand by."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.begun: dict[int, float] = {}
        self.told: dict[int, float] = {}
        self.beside_runs: list[int] = []
        self.runs_at_work: Callable[[], int] = lambda: 0
        self._clock = lab.clock

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        self.begun[order.id] = self._clock.seconds
        return super().start(order)

    def stand_by(self, order: AgentOrder) -> None:
        assert order.id not in self.told, "told once"
        self.told[order.id] = self._clock.seconds
        if self.runs_at_work():
            self.beside_runs.append(order.id)
        super().stand_by(order)


def campaign(agent_s: float, **rules: object) -> Watched:
    made = bench(Lab(plan=lambda number: Plan(effect=0.0, hypothesis=f"idea {number}"), agent_s=agent_s), **rules)
    agents = Watched(made.lab)
    made.world = replace(made.world, agents=agents)

    def runs_at_work() -> int:
        kinds = Counter(type(entry.event) for entry in made.ledger.log)
        return kinds[RunStarted] - kinds[RunEnded]

    agents.runs_at_work = runs_at_work
    made.run(4)
    return agents


@pytest.mark.parametrize(("agent_s", "after_s"), [(25.0, 1.0), (0.25, 0.25)])
def test_the_next_is_told_when_an_agent_has_begun_or_is_over(agent_s: float, after_s: float) -> None:
    agents = campaign(agent_s, gated=True)
    assert len(agents.begun) >= 3
    for id_, told in agents.told.items():
        assert told - agents.begun[id_ - 1] == pytest.approx(after_s)
    assert set(agents.told) == set(agents.begun) - {1}, "the first comes at once, and after the last none is expected"


def test_none_is_told_beside_a_run_whose_clock_counts_from_its_start() -> None:
    agents = campaign(0.25)
    assert agents.told, "while a run is scored, say"
    assert not agents.beside_runs
    assert campaign(0.25, in_flight=2).beside_runs, "agents think beside runs there anyway"
    assert campaign(0.25, gated=True).beside_runs, "its clock has not begun"
