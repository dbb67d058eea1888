"""What an agent remembers of runs that were stopped early: a hint, never a measurement."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from ralph.adapters.agents.evidence import comparisons
from ralph.adapters.agents.memory import Memory, read_memory
from ralph.adapters.agents.proposing import propose
from ralph.core.search_space import dimension
from ralph.model import Direction
from tests.adapters.agents.test_tuner import SOURCE, baseline, changed, facts, verdict

LR = "train.py:MATRIX_LR"


def stopped(number: int, constants: Mapping[str, Any], expected: object) -> str:
    early = {"share": 0.35, "behind": 0.4, "allowed": 0.1, "expected": expected, "spared": False}
    line = json.loads(verdict(number, constants, None))
    return json.dumps(line | {"verdict": "discard", "early": early})


def memory(expected: object, direction: Direction = Direction.MIN) -> Memory:
    lines = [baseline(), stopped(1, {"MATRIX_LR": 0.5}, expected)]
    return read_memory(lines, direction, {LR: 0.02})


def test_a_stopped_run_is_guessed_by_the_likes_of_it_and_has_no_loss() -> None:
    record = memory(0.05).records[1]
    assert record.guess == pytest.approx(1.65)
    assert (record.loss, record.counts, record.runs) == (None, False, 0)
    assert memory(0.05).guessed(5) == [record]


def test_a_guess_is_never_better_than_the_incumbent_and_nonsense_is_none() -> None:
    assert memory(-0.3).records[1].guess == pytest.approx(1.6)
    assert memory(-0.3, Direction.MAX).records[1].guess == pytest.approx(-1.3)
    for nonsense in (None, "x", [1], True, float("nan")):
        assert memory(nonsense).records[1].guess is None
    assert read_memory([baseline(), verdict(1, {}, None, early=7)], Direction.MIN, {}).records[1].guess is None


def test_no_learning_is_drawn_from_a_guess() -> None:
    space = dimension(LR, 0.02)
    assert space is not None
    assert comparisons(memory(0.05), [space]) == []


def test_the_tuner_turns_away_from_where_runs_were_stopped_and_tries_none_of_them_again() -> None:
    wide = [0.03, 0.04, 0.06, 0.08]
    lines = [baseline(), *(stopped(n, {"MATRIX_LR": lr}, 0.1) for n, lr in enumerate(wide, start=1))]
    for seed in range(6):
        proposal = changed(propose(facts(id=9), {"train.py": SOURCE}, lines, seed)[1])
        assert proposal.get("MATRIX_LR") not in wide
