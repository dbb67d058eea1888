"""Hopeless runs are ended in the loop: the hours, the ledger, the page, and who is never touched."""

import json
import random
from dataclasses import replace

import pytest

from ralph.adapters.scripted.lab import Lab, Plan
from ralph.core.codec import decode, encode
from ralph.core.curves import LOOKS, Past
from ralph.core.fold import fold
from ralph.core.pruning import PruneRule
from ralph.core.views import history_row, results_line, show_view
from ralph.errors import ExitStatus
from ralph.events import Judged, RunEnded, Scored
from ralph.model import Outcome, Verdict
from ralph.ports import RunOrder
from tests.supervisor.labs import Bench, bench

BAD = 0.02  # forty sigmas
RULE = PruneRule(false_stop_rate=0.05)


def bad(id_: int) -> bool:
    """Every third idea is."""
    return id_ % 3 == 2


def plan(id_: int) -> Plan:
    """What an experiment is worth."""
    return Plan(effect=BAD if bad(id_) else 0.0)


def curve(order: RunOrder, share: float) -> float:
    noise = random.Random(order.seed * 100 + round(share * 100)).gauss(0, 0.01)
    return 6.0 - 2.0 * share + 20 * plan(order.id).effect * share + noise


def night(experiments: int = 60, rule: PruneRule | None = None, **lab: object) -> Bench:
    done = bench(Lab(plan=plan, curve=curve, **lab), prune=rule or RULE)  # type: ignore[arg-type]
    assert done.run(experiments).status is ExitStatus.DONE
    return done


def stopped(done: Bench) -> list[RunEnded]:
    return [e.event for e in done.ledger.log if isinstance(e.event, RunEnded) and e.event.outcome is Outcome.STOPPED]


def test_bad_ideas_are_discarded_before_their_time_with_the_reason_and_without_a_score() -> None:
    done = night()
    ends = stopped(done)
    assert len(ends) >= 8
    assert sum(not bad(end.id) for end in ends) <= 2, "a good idea is stopped at the stated rate"
    assert min(end.id for end in ends) > RULE.least
    scored = {e.event.id for e in done.ledger.log if isinstance(e.event, Scored)}
    verdicts = {e.event.id: e.event for e in done.ledger.log if isinstance(e.event, Judged)}
    for end in ends:
        assert end.seconds < 0.9 * done.lab.budget_s
        assert end.id not in scored
        verdict = verdicts[end.id]
        assert (verdict.verdict, verdict.delta) == (Verdict.DISCARD, None)
        assert verdict.reason.startswith(f"stopped at {end.early.share:.0%} of its budget" if end.early else "?")


def test_it_saves_the_time_that_the_page_says_and_makes_the_night_shorter() -> None:
    with_it, without = night(), night(rule=PruneRule(false_stop_rate=0.0))
    assert stopped(without) == []
    saved_s = with_it.supervisor.state.past.saved_s
    assert saved_s > 8 * 0.2 * 300
    assert with_it.lab.clock.seconds < without.lab.clock.seconds - saved_s
    assert "stopped early, which saved" in with_it.papers.page
    assert "stopped early" not in without.papers.page


def test_a_look_comes_at_its_moment_of_the_budget_and_no_later() -> None:
    for end in stopped(night()):
        assert end.early is not None
        assert end.early.share in LOOKS
        assert 0 <= end.seconds - end.early.share * 300 < 3


def test_spot_checks_go_on_to_the_end_and_are_scored() -> None:
    done = night(rule=replace(RULE, spot_checks=1.0))
    assert stopped(done) == []
    past = done.supervisor.state.past
    assert past.spared >= 8
    assert past.mistaken <= 2
    assert f"{past.mistaken} of {past.spared} spot checks" in done.papers.page
    spared = [e.event for e in done.ledger.log if isinstance(e.event, RunEnded) and e.event.early]
    assert all(end.early and end.early.spared and end.outcome is Outcome.OK for end in spared)


def test_neither_the_baseline_nor_a_repeat_nor_a_run_that_logs_nothing_is_stopped() -> None:
    def repeats_look_awful(order: RunOrder, share: float) -> float:
        return curve(order, share) + (99.0 if order.id and order.run > 1 else 0.0)

    done = bench(Lab(plan=lambda id_: Plan(effect=0.0002 * (id_ % 3)), curve=repeats_look_awful))
    assert done.run(45).status is ExitStatus.DONE
    runs = [e.event for e in done.ledger.log if isinstance(e.event, RunEnded)]
    assert any(run.run > 1 and run.id > 25 for run in runs), "no candidate was run again"
    assert all(run.run == 1 and run.id for run in runs if run.outcome is Outcome.STOPPED)
    silent = bench(Lab(plan=plan))
    assert silent.run(60).status is ExitStatus.DONE
    assert stopped(silent) == []


def test_a_run_on_a_disturbed_device_is_void_and_not_stopped_for_it() -> None:
    def busy(order: RunOrder, _: object) -> str:
        return "another program" if order.id == 41 and order.run == 1 else ""

    done = night(busy=busy)
    first, second = (
        e.event for e in done.ledger.log if isinstance(e.event, RunEnded) and e.event.id == 41 and e.event.run <= 2
    )
    assert first.outcome is Outcome.VOID
    assert second.outcome is Outcome.STOPPED


def test_a_stopped_experiment_is_shown_as_one_that_was_never_scored() -> None:
    done = night()
    state, id_ = done.supervisor.state, next(end.id for end in stopped(done) if bad(end.id))
    shown = show_view(state, id_)
    assert (shown["verdict"], shown["scores"], shown["delta"]) == ("discard", [], None)
    early = shown["runs"][0]["early"]
    assert early["behind"] > early["allowed"]
    row = history_row(state, id_)
    assert row["early"] == early
    assert row["early"]["expected"] == pytest.approx(BAD, rel=0.2), "what those came to that looked alike"
    assert results_line(state, id_).split("\t")[1:4] == ["0.000000", "0.0", "crash"]
    assert results_line(state, id_).split("\t")[6] == "discard"


def test_a_stopped_candidate_is_no_challenger_that_the_incumbent_has_seen_off() -> None:
    done = night()
    state = done.supervisor.state
    since = [e for e in state.experiments.values() if e.id > (state.incumbent_id or 0)]
    assert state.challengers == sum(e.verdict is Verdict.DISCARD and bool(e.scores) for e in since)


def test_a_restart_has_the_same_past_from_the_ledger_or_from_what_a_snapshot_writes() -> None:
    done = night()
    past = done.supervisor.state.past
    assert fold(done.ledger.entries()).past == past
    assert decode(Past, json.loads(json.dumps(encode(Past, past)))) == past


def test_several_runs_at_work_are_each_looked_at() -> None:
    """Lanes: the looks of one do not wait for those of another."""
    from ralph.supervisor.early_stops import EarlyStops

    done = night()
    state = fold(done.ledger.entries())
    ended = stopped(done)[:2]
    jobs = {}
    for end in ended:
        e = replace(state.experiments[end.id], scores=())
        state.experiments[end.id] = e
        order = RunOrder(id=end.id, run=1, seed=e.runs[0].seed, commit=e.commit, tree="")
        jobs[("run", end.id, 1)] = done.world.runner.start(order)
    stops = EarlyStops(done.world, state, PruneRule())
    assert 60 <= stops.look(jobs) < 63
    done.lab.clock.seconds += 0.9 * 300
    stops.look(jobs)
    assert [job.poll().outcome for job in jobs.values()] == [Outcome.STOPPED] * 2  # type: ignore[union-attr]
