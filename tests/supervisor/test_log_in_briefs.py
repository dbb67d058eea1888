"""The incumbent's branch in briefs: asked of git once for each incumbent, and never without a note that is there."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ralph.adapters.scripted.lab import Lab, LabRepo, Plan
from ralph.core.lanes import Lanes
from ralph.events import Briefed, Settled
from tests.supervisor.labs import bench


class Branch(LabRepo):
    """Tells of the commit that it is asked for, and remembers the question."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.asked: list[str] = []

    def history(self, commit: str, limit: int) -> Sequence[str]:
        """One line: the commit with its note as it is now."""
        self.asked.append(commit)
        return [f"{commit} {self.notes.get(commit, 'has no note yet')}"][:limit]


def plan(number: int) -> Plan:
    """Every fourth idea is a gain."""
    return Plan(effect=-0.01 if number % 4 == 0 else 0.01, hypothesis=f"idea {number}")


@pytest.mark.parametrize(("lanes", "ahead"), [(1, 0), (1, 1), (3, 3)])
def test_every_brief_has_the_notes_of_its_branch_and_git_is_asked_once_for_each(lanes: int, ahead: int) -> None:
    lab = Lab(plan=plan)
    made = bench(lab, in_flight=lanes + ahead, lanes=Lanes(count=lanes))
    branch = Branch(lab)
    made.world = replace(made.world, repo=branch)
    made.run(30 * lanes)
    state, settled, briefs = made.supervisor.state, set[int](), 0
    for entry in made.ledger.log:
        match entry.event:
            case Settled(id=id_):
                settled.add(id_)
            case Briefed(id=id_, attempt=attempt, base=base):
                briefs += 1
                text = made.papers.briefs[id_, attempt]
                assert f"{base} " in text
                assert f"{base} has no note yet" not in text or state.kept_as[base] not in settled
            case _:
                pass
    assert len(state.keeps) > 3
    assert len(set(branch.asked)) <= len(branch.asked) < briefs
    if not ahead:
        assert len(branch.asked) == len(set(branch.asked)), "once for each incumbent"
