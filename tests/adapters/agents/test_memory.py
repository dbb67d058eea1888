"""What the tuner remembers of a history of any length."""

import json

import pytest

from ralph.adapters.agents.memory import BEST, LATEST, read_memory
from ralph.model import Direction, Verdict

OLD = LATEST + 2000


def row(id_: int, verdict: str, score: float | None, **constants: float) -> str:
    scores = [] if score is None else [score]
    told = {"id": id_, "verdict": verdict, "reason": 'it said "verdict": "keep"', "scores": scores, "score": score}
    return json.dumps({**told, "constants": {f"train.py:{k}": v for k, v in constants.items()}})


def history(direction: Direction) -> list[str]:
    """A baseline, an early keep, and losses that get a little worse with every experiment."""
    sign = direction.sign
    losses = [row(n, "discard", sign * (1.0 + n / 1e5), LR=n / 1e4) for n in range(2, OLD)]
    losses[70] = row(72, "crash", None, LR=9.0)
    return [row(0, "keep", sign * 1.0, LR=0.1), row(1, "keep", sign * 0.9, LR=0.2), *losses]


@pytest.mark.parametrize("direction", Direction)
def test_of_a_long_history_the_keeps_the_best_and_the_latest_are_remembered(direction: Direction) -> None:
    memory = read_memory(history(direction), direction, {})
    assert [r.id for r in memory.kept()] == [0, 1]
    assert len(memory.records) == 2 + LATEST + BEST
    assert {*range(OLD - LATEST, OLD), *range(2, BEST)} - {72} <= set(memory.records)
    last = memory.records[OLD - 1]
    assert (last.base, last.verdict, last.moved) == (1, Verdict.DISCARD, ("train.py:LR",))


def test_a_short_history_is_remembered_whole() -> None:
    lines = history(Direction.MIN)[:200]
    assert list(read_memory(lines, Direction.MIN, {}).records) == list(range(200))
