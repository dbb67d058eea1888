"""A night with a provider that misbehaves, in small: every verdict, the budget unbroken, nothing left."""

from pathlib import Path

import pytest

from benchmarks.night import night
from ralph.model import Verdict


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_night_of_faults_limits_and_kills_ends_with_every_verdict_and_within_its_budget(tmp_path: Path) -> None:
    told = night(tmp_path, experiments=16)
    assert told["experiments"] == 16
    assert set(told["verdicts"]) <= {Verdict.KEEP, Verdict.DISCARD, Verdict.INVALID}
    assert (told["kills"], told["supervisors"], told["closed_for_an_hour"]) == (3, 4, 2)
    assert told["agents"]["model: limited"] >= 2
    assert sum(told["faults"].values()) > 5
    assert 0 < told["spent_usd"] <= told["budget_usd"]
    assert told["spent_usd"] <= told["if_all_had_been_answered_usd"]
    assert told["survivors"] == 0
