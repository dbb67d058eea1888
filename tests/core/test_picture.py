"""What the picture shows, before anything is drawn."""

import json

import pytest

from ralph.core import picture
from ralph.core.picture import MOST_FAILED, MOST_KEPT, MOST_LABELS, MOST_POINTS, picture_data, short, thinned
from ralph.model import Direction
from tests.core.states import Story, night, overnight, small


def test_points_are_the_judged_experiments_with_a_score() -> None:
    data = picture_data(night().state)
    assert data["kept"]["id"] == [0, 1, 2, 8, 17, 20]
    assert data["discarded"]["id"] == [3, 5, 7, 9, 10, 14, 15, 16, 19]
    assert data["failed"] == {"crash": [4, 11, 12, 18], "invalid": [6], "void": [13]}
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_the_staircase_stands_at_the_re_measured_means() -> None:
    s = night()
    kept = picture_data(s.state)["kept"]
    assert kept["id"][3] == 8
    assert kept["score"][3] == pytest.approx((0.98033 + 0.98071) / 2)
    assert kept["se"][3] == pytest.approx((s.state.noise.sigma or 0) / 2**0.5)


def test_a_long_campaign_is_thinned_but_keeps_every_keep() -> None:
    s = overnight(20)
    for n in range(MOST_POINTS + 500):
        s.discard(f"idea {n}", 0.999)
    for n in range(MOST_FAILED + 100):
        s.crash(f"idea {n}")
    late = s.keep("a late keep", 0.9)
    data = picture_data(s.state)
    assert len(s.state.keeps) < MOST_KEPT
    assert len(data["discarded"]["id"]) == MOST_POINTS
    assert sum(map(len, data["failed"].values())) == MOST_FAILED
    assert data["kept"]["id"] == [0, *s.state.keeps]
    assert data["kept"]["id"][-1] == late
    assert len(data["labels"]) <= MOST_LABELS


def test_of_many_keeps_those_with_words_and_the_ends_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MOST_KEPT", 3)
    s = Story().start().baseline(0.998)
    for n in range(MOST_LABELS + 20):
        s.keep(f"idea {n}", 0.9 - n / 1000)
    data = picture_data(s.state)
    kept = data["kept"]
    assert {each["id"] for each in data["labels"]} < set(kept["id"])
    assert (kept["id"][0], kept["id"][-1]) == (0, s.state.keeps[-1])
    assert kept["id"] == sorted(kept["id"])
    assert len(kept["id"]) <= MOST_LABELS + 3
    assert min(data["ylim"]) < min(kept["score"])


def test_thinning_keeps_the_first_and_the_last() -> None:
    assert thinned(range(1000), 7) == [0, 166, 333, 499, 666, 832, 999]
    assert thinned([], 5) == []


@pytest.mark.parametrize("direction", list(Direction))
def test_a_terrible_outlier_does_not_flatten_the_picture(direction: Direction) -> None:
    s = overnight(60, direction=direction)
    before = picture_data(s.state)["ylim"]
    s.discard("a disaster", 0.998 + direction.sign * 1000.0)
    low, high = picture_data(s.state)["ylim"]
    assert high - low < 2 * (before[1] - before[0])
    stairs = picture_data(s.state)["kept"]["score"]
    assert low < min(stairs) <= max(stairs) < high


@pytest.mark.parametrize("score", [0.998, 0.0, -3.5, 1e9, 1e-12])
def test_a_baseline_alone_has_an_axis_of_some_height(score: float) -> None:
    low, high = picture_data(Story().start().baseline(score).state)["ylim"]
    assert low < score < high


def test_without_a_score_there_is_no_axis() -> None:
    assert picture_data(Story().state)["ylim"] is None
    assert picture_data(Story().start().state)["kept"]["id"] == []


def test_the_subtitle_says_what_was_gained() -> None:
    assert picture_data(small().state)["subtitle"] == "0.9975 → 0.9818 (−0.0157 ± 0.0007) · 2 kept of 6 experiments"


@pytest.mark.parametrize(
    ("hypothesis", "label"),
    [
        ("remove the softcap; expect -0.001", "remove the softcap"),
        ("because", "because"),
        (": because of it", ": because of it"),
        ("lower LR to 0.02 because the loss jumps", "lower LR to 0.02"),
        ("w" * 99, "w" * 33 + "…"),
        ("", ""),
    ],
)
def test_labels_say_what_was_done_in_a_few_words(hypothesis: str, label: str) -> None:
    assert short(hypothesis) == label
