"""Which devices are lanes, and that each run and score is its lane's."""

from typing import Any

import pytest

from ralph.adapters.lanes import LaneRunner, LaneScorer, lane_devices, shown_alone
from ralph.adapters.scripted.lab import Lab, LabRunner, LabScorer, Plan
from ralph.config import parse
from ralph.errors import ConfigError
from ralph.ports import RunOrder, ScoreOrder

H100, A10 = "NVIDIA H100", "NVIDIA A10"


def devices(device: str, gpus: list[str], *, run: str = "auto", **lanes: object) -> tuple[str, ...]:
    return lane_devices(parse({"run": {"device": run}, "lanes": lanes}), device, gpus)


@pytest.mark.parametrize(
    ("device", "run", "lanes", "found"),
    [
        ("cuda:0", "auto", {}, ("cuda:0", "cuda:2")),
        ("cuda:0", "cuda", {}, ("cuda:0", "cuda:2")),
        ("cuda:1", "cuda:1", {}, ("cuda:1",)),
        ("cuda:0", "auto", {"devices": ["cuda:2", "cuda:0"]}, ("cuda:2", "cuda:0")),
        ("cuda:0", "auto", {"devices": ["cuda:1"]}, ("cuda:1",)),
        ("cpu", "auto", {}, ("cpu",)),
        ("none", "none", {}, ("none",)),
        ("none", "none", {"count": 3}, ("none", "none", "none")),
    ],
)
def test_each_gpu_of_one_kind_is_a_lane_unless_the_arena_says_otherwise(
    device: str, run: str, lanes: dict[str, Any], found: tuple[str, ...]
) -> None:
    assert devices(device, [H100, A10, H100], run=run, **lanes) == found


@pytest.mark.parametrize(
    ("device", "lanes", "why"),
    [
        ("cuda:0", {"devices": ["cuda:0", "cuda:1"]}, "cuda:1 is a NVIDIA A10, cuda:0 a NVIDIA H100"),
        ("cuda:0", {"devices": ["cuda:7"]}, "torch sees cuda:0, cuda:1"),
        ("cuda:0", {"count": 2}, 'goes with run.device = "none"'),
        ("cpu", {"count": 2}, "Name GPUs with lanes.devices"),
        ("cpu", {"devices": ["cuda:0"]}, "runs are on the CPU here"),
    ],
)
def test_lanes_that_cannot_be_are_an_error_that_says_why(device: str, lanes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        devices(device, [H100, A10], **lanes)


def test_a_device_is_not_named_twice() -> None:
    with pytest.raises(ConfigError, match="names a device twice"):
        parse({"lanes": {"devices": ["cuda:0", "cuda:0"]}})


def test_a_run_is_shown_its_own_gpu_alone() -> None:
    assert shown_alone("4f0c") == {"CUDA_VISIBLE_DEVICES": "GPU-4f0c"}
    assert shown_alone("MIG-1") == {"CUDA_VISIBLE_DEVICES": "MIG-1"}
    assert shown_alone("") == {}


def test_each_order_goes_to_its_lane_and_a_lane_that_is_gone_to_another() -> None:
    labs = [Lab(plan=lambda _: Plan()) for _ in range(2)]
    runner, scorer = LaneRunner([LabRunner(lab) for lab in labs]), LaneScorer([LabScorer(lab) for lab in labs])
    orders = [RunOrder(id=n, run=1, seed=n, commit=f"c{n}", tree="t", lane=n) for n in range(3)]
    for order in orders:
        runner.start(order)
        scorer.start(ScoreOrder(id=order.id, run=1, seed=1, commit=order.commit, lane=order.lane))
    assert [lab.started for lab in labs] == [["run 0.1", "score 0.1", "run 2.1", "score 2.1"], ["run 1.1", "score 1.1"]]


def test_what_is_prepared_is_prepared_for_one_lane_and_dropped_everywhere() -> None:
    labs = [Lab(plan=lambda _: Plan()) for _ in range(2)]
    runner = LaneRunner([LabRunner(lab) for lab in labs])
    ours = RunOrder(id=1, run=1, seed=1, commit="c1", tree="t", lane=1)
    other = RunOrder(id=1, run=1, seed=1, commit="c1", tree="t", lane=0)
    runner.prepare(ours)
    assert (runner.prepared(ours), runner.prepared(other)) == (True, False)
    runner.drop()
    assert not runner.prepared(ours)


def test_a_scorer_is_prepared_on_the_lane_of_its_run_and_dropped_there_or_everywhere() -> None:
    labs = [Lab(plan=lambda _: Plan()) for _ in range(2)]
    scorer = LaneScorer([LabScorer(lab) for lab in labs])
    orders = [ScoreOrder(id=n, run=1, seed=1, commit=f"c{n}", lane=n) for n in range(4)]
    for order in orders:
        scorer.prepare(order)
    scorer.drop(orders[1])
    assert [lab.started[2:] for lab in labs] == [[], ["drop score 1.1"]]
    scorer.drop()
    assert [lab.started[-1] for lab in labs] == ["drop score 2.1", "drop score 3.1"]
