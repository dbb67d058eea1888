"""proposal.json as agents write it, and as our own agents write it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.agents.contract import write_proposal
from ralph.adapters.agents.proposal import PROPOSAL, read_proposal
from ralph.errors import RefusedError
from ralph.model import Learning, Proposal, Superseded


def read(folder: Path, raw: dict[str, Any]) -> Proposal:
    path = folder / PROPOSAL
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"hypothesis": "x because y", **raw}))
    return read_proposal(folder)


def test_what_is_superseded_is_a_name_or_says_why(hostile: Path) -> None:
    said = ["#12", 9, {"learning": "warm-up hurts", "because": "it\nhelps now", "evidence": [48, 49]}, {"learning": 7}]
    assert read(hostile, {"supersedes": said}).supersedes == (
        Superseded(learning="#12"),
        Superseded(learning="9"),
        Superseded(learning="warm-up hurts", because="it helps now", evidence=(48, 49)),
        Superseded(learning="7"),
    )


def test_a_replicate_is_asked_for_by_its_number(hostile: Path) -> None:
    assert read(hostile, {"replicates": 12}).replicates == 12
    assert read(hostile, {"replicates": None}).replicates is None
    assert read(hostile, {}).replicates is None


@pytest.mark.parametrize(
    "wrong", [{"replicates": "the last one"}, {"replicates": -1}, {"supersedes": [{"because": "x"}]}]
)
def test_what_is_not_of_the_contract_is_refused_with_its_place(hostile: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=f"is not usable: {next(iter(wrong))}"):
        read(hostile, wrong)


def test_what_our_own_agents_write_is_read_back_the_same(hostile: Path) -> None:
    proposal = Proposal(
        hypothesis="x because y",
        expected="-0.001",
        learnings=(Learning(text="a", evidence=(1,)),),
        supersedes=(Superseded(learning="#3"), Superseded(learning="b", because="c", evidence=(4,))),
        replicates=12,
    )
    write_proposal(hostile / PROPOSAL, proposal)
    assert read_proposal(hostile) == proposal
    assert json.loads((hostile / PROPOSAL).read_text())["supersedes"][0] == "#3", "as short as the agent meant it"
