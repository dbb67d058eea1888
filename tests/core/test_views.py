"""What programs are shown."""

import csv
import io
import json
from datetime import timedelta

import pytest

from ralph.core.fold import State
from ralph.core.spent import time_split
from ralph.core.views import history_row, log_view, results_header, results_line, show_view, status_view
from ralph.errors import ExitStatus
from ralph.model import Phase, Verdict
from tests.core.states import CONSTANTS, EVENING, GUIDANCE, Story, night, overnight, small

STATUS_KEYS = {
    "campaign": None,
    "phase": None,
    "reason": None,
    "arena": {"name", "metric", "direction", "hash", "device"},
    "baseline": {"score", "runs"},
    "incumbent": {"id", "commit", "score", "runs"},
    "noise": {"sigma", "runs"},
    "audit": None,
    "experiments": None,
    "verdicts": {"keep", "discard", "crash", "invalid", "void"},
    "in_flight": None,
    "lane_waits": None,
    "lanes": None,
    "disturbed_runs": None,
    "staleness": None,
    "time_s": {"run", "score", "agent", "idle", "overhead"},
    "cost": {"usd", "tokens"},
    "spent": None,
    "waiting": None,
}
LOG_KEYS = [
    *("id", "verdict", "reason", "scores", "delta", "hypothesis", "agent", "base", "commit", "ref"),
    *("started", "ended", "run_s", "agent_s", "usd"),
]


@pytest.mark.parametrize("story", [Story(), Story().start(), small(), night()])
def test_status_has_exactly_the_promised_keys_at_any_age(story: Story) -> None:
    status = status_view(story.state, story.at, alive=True)
    assert list(status) == list(STATUS_KEYS)
    for key, inner in STATUS_KEYS.items():
        if inner is not None:
            assert set(status[key]) == inner
    assert json.loads(json.dumps(status, allow_nan=False)) == status


def test_status_names_what_is_in_flight_and_for_how_long() -> None:
    s = night()
    [flying] = status_view(s.state, s.at, alive=True)["in_flight"]
    assert flying == {"id": 21, "phase": "run", "agent": "claude", "seconds": 192.0}


def test_status_counts_verdicts_without_the_baseline() -> None:
    s = night()
    status = status_view(s.state, s.at, alive=True)
    assert status["verdicts"] == {"keep": 5, "discard": 9, "crash": 4, "invalid": 1, "void": 1}
    assert status["experiments"] == 21
    assert status["incumbent"]["id"] == 20
    assert status["noise"]["runs"] == 2 + 1 + 1 + 1 + 1


def test_the_phase_says_running_paused_parked_stopped_and_why() -> None:
    s = small()
    assert status_view(s.state, s.at, alive=True)["phase"] == "running"
    s.ask_to_stop()
    assert "after the run in hand" in status_view(s.state, s.at, alive=True)["reason"]
    gone = status_view(s.state, s.at, alive=False)
    assert (gone["phase"], "without a word" in gone["reason"]) == ("stopped", True)
    s = small()
    s.pause("the file state/PAUSE")
    paused = status_view(s.state, s.at, alive=True)
    assert (paused["phase"], paused["reason"]) == ("paused", "paused by the file state/PAUSE")
    s.stop("12 experiments in a row gave no measurement", ExitStatus.PARKED)
    assert status_view(s.state, s.at, alive=False)["phase"] == "parked"
    assert status_view(small().stop().state, s.at, alive=False)["phase"] == "stopped"
    assert status_view(State(), s.at, alive=False)["phase"] == "stopped"


def test_the_time_adds_up_to_the_time_supervised() -> None:
    s = night()
    split = time_split(s.state, s.at, alive=True)
    assert split.supervised_s == pytest.approx((s.at - EVENING).total_seconds() - 1.0)
    assert split.away_s == pytest.approx(1.0)
    assert split.run_s == pytest.approx(s.state.run_s + 192)
    assert 0 < split.overhead_s < 0.02 * split.supervised_s


def test_a_pause_is_idle_and_a_night_without_a_supervisor_is_not() -> None:
    s = small()
    before = time_split(s.state, s.at, alive=True)
    s.pause()
    s.at += timedelta(hours=1)
    paused = time_split(s.state, s.at, alive=True)
    assert paused.idle_s == pytest.approx(before.idle_s + 3600)
    assert paused.overhead_s == pytest.approx(before.overhead_s)
    s.start()  # it was killed during the pause
    after = time_split(s.state, s.at, alive=True)
    assert after.away_s == pytest.approx(before.away_s + 3601)
    assert after.supervised_s == pytest.approx(before.supervised_s)


def test_what_waits_for_a_decision_during_a_pause_is_idle() -> None:
    s = small()
    id_ = s.propose("an idea")
    s.pause()
    before = time_split(s.state, s.at, alive=True)
    s.at += timedelta(minutes=10)
    after = time_split(s.state, s.at, alive=True)
    assert s.state.experiments[id_].phase is Phase.DECIDE
    assert (after.idle_s - before.idle_s, after.overhead_s - before.overhead_s) == (600.0, 0.0)


def test_an_agent_that_thinks_while_a_run_goes_on_costs_no_time() -> None:
    s = small()
    first = s.propose("an idea")
    s.begin_run(first)
    before = time_split(s.state, s.at, alive=True)
    s.brief()
    s.at += timedelta(seconds=30)
    after = time_split(s.state, s.at, alive=True)
    assert after.agent_s - before.agent_s == 30.0
    assert after.waited_s == pytest.approx(before.waited_s, abs=0.5)
    assert after.run_s - before.run_s == pytest.approx(30.3)


def test_log_has_one_row_for_every_experiment_oldest_first() -> None:
    s = night()
    rows = log_view(s.state)
    assert [row["id"] for row in rows] == list(range(22))
    assert all(list(row) == LOG_KEYS for row in rows)
    assert rows[1]["ref"] == "refs/ralph/nov23/experiments/1"
    assert rows[6]["ref"] is None, "an invalid experiment has nothing to pin"
    assert rows[21]["verdict"] is None
    assert rows[0]["started"] == "2026-11-22T22:31:00.000Z"
    assert rows[8]["scores"] == [0.98033, 0.98071], "a re-measured incumbent has all its scores"


def test_show_has_the_row_of_the_log_and_every_run() -> None:
    s = night()
    shown = show_view(s.state, 17)
    assert {k: shown[k] for k in LOG_KEYS} == log_view(s.state)[17]
    assert [run["score"] for run in shown["runs"]] == [0.97410, 0.97455]
    assert show_view(s.state, 8)["runs"][1]["for_id"] == 17
    assert show_view(s.state, 6)["refusals"] == ["prepare.py changed; only train.py may"] * 3
    with pytest.raises(KeyError):
        show_view(s.state, 999)


def test_history_has_all_constants_for_the_baseline_and_differences_for_the_rest() -> None:
    s = night()
    assert history_row(s.state, 0)["constants"] == dict(CONSTANTS)
    assert history_row(s.state, 9)["constants"] == {
        "train.py:DEPTH": 9,
        "train.py:WINDOW_PATTERN": "SSSSL",
        "train.py:WARMUP_RATIO": 0.01,
    }
    assert history_row(s.state, 4)["crash"] == "out of memory"


def test_results_are_a_table_that_a_plain_tsv_reader_understands() -> None:
    s = night()
    nasty = s.discard('a\ttab, a\nnew line, "quotes" and \x1b[31mcolour', 0.99)
    lines = [results_header(s.state), *(results_line(s.state, e) for e in range(len(s.state.experiments)) if e != 21)]
    rows = list(csv.DictReader(io.StringIO("\n".join(lines)), delimiter="\t"))
    assert list(rows[0])[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert {row["status"] for row in rows} == {"keep", "discard", "crash"}
    assert [r["val_bpb"] for r in rows if r["status"] == "crash"] == ["0.000000"] * 6
    assert rows[0] | {"commit": ""} == rows[0] | {"commit": "", "val_bpb": "0.997900", "status": "keep"}
    assert rows[1]["memory_gb"] == "44.0"
    assert rows[-1]["id"] == str(nasty)
    assert rows[-1]["description"] == "a tab, a new line, 'quotes' and colour"
    assert {r["verdict"] for r in rows} == {str(v) for v in Verdict}


def test_the_state_folded_again_gives_the_same_views() -> None:
    s = overnight(60)
    again = s.folded()
    assert log_view(again) == log_view(s.state)
    assert status_view(again, s.at, alive=True) == status_view(s.state, s.at, alive=True)
    assert [history_row(again, e) for e in again.experiments] == [history_row(s.state, e) for e in s.state.experiments]


def test_guidance_is_remembered_with_the_brief_that_had_it_first() -> None:
    assert night().state.guidance == {GUIDANCE: 7}
