"""Whole campaigns in the laboratory with agents that think ahead and lanes side by side."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from ralph.adapters.scripted.lab import Lab, Plan
from ralph.core.decision import KeepRule
from ralph.core.fold import fold
from ralph.core.lanes import Lanes
from ralph.errors import ExitStatus
from ralph.events import AuditStarted, Briefed, Entry, Judged, Rebased, RunEnded, RunStarted, Scored
from ralph.model import Outcome, Verdict
from tests.supervisor.labs import OPENING, Bench, bench


def plan(number: int) -> Plan:
    """Ideas of which a quarter is a gain; every tenth applies to its own base alone."""
    dice = random.Random(number)
    return Plan(effect=dice.gauss(0.001, 0.002), hypothesis=f"idea {number}", conflicts=dice.random() < 0.1)


def pipelined(lanes: int, lookahead: int, **lab: float) -> Bench:
    return bench(Lab(plan=plan, **lab), in_flight=lanes + lookahead, lanes=Lanes(count=lanes))  # type: ignore[arg-type]


def lane_seconds(entries: Sequence[Entry]) -> float:
    """Seconds in which lanes were taken, all lanes together."""
    since, total = dict[tuple[int, int], float](), 0.0
    for entry in entries:
        event, at = entry.event, entry.at.timestamp()
        match event:
            case RunStarted():
                since[event.id, event.run] = at
            case RunEnded() if event.outcome is not Outcome.OK:
                total += at - since.pop((event.id, event.run))
            case Scored():
                total += at - since.pop((event.id, event.run))
            case _:
                pass
    return total


def test_with_one_agent_ahead_the_lane_never_waits_for_one() -> None:
    serial, ahead = pipelined(1, 0, agent_s=90.0), pipelined(1, 1, agent_s=90.0)
    for made in (serial, ahead):
        made.run(30)
    assert lane_seconds(serial.ledger.log) / serial.lab.clock.seconds < 0.90
    last = max(e.at for e in ahead.ledger.log if isinstance(e.event, Scored)) - ahead.lab.clock.start
    assert lane_seconds(ahead.ledger.log) / last.total_seconds() > 0.97
    assert ahead.supervisor.state.hidden_s > 0.9 * ahead.supervisor.state.agent_s


@pytest.mark.parametrize(
    ("lanes", "lookahead"),
    [(1, 1), (1, 4), pytest.param(3, 0, marks=pytest.mark.slow), pytest.param(8, 8, marks=pytest.mark.slow)],
)
def test_whatever_the_order_of_results_what_is_kept_was_measured_on_the_incumbent_that_it_replaces(
    lanes: int, lookahead: int
) -> None:
    """The repository of the laboratory refuses to move a branch that is not at the base of what is kept."""
    made = pipelined(lanes, lookahead)
    made.run(40 * lanes)
    state = made.supervisor.state
    line = [state.base]
    measured = {e.event.commit: e.seq for e in made.ledger.log if isinstance(e.event, Rebased)}
    for id_ in state.keeps:
        kept = state.experiments[id_]
        assert kept.base == line[-1]
        assert kept.against == state.kept_as[kept.base]
        own = [run for run in kept.own_runs if run.score is not None and run.for_id == id_]
        assert own
        if kept.commit in measured:
            starts = {(e.event.id, e.event.run): e.seq for e in made.ledger.log if isinstance(e.event, RunStarted)}
            assert all(starts[id_, run.number] > measured[kept.commit] for run in own)
        line.append(kept.commit)
    assert made.repo.branches["lab"] == line[-1]
    assert len(state.keeps) > 3
    truths = [made.lab.truth(commit) for commit in line]
    assert truths[-1] < truths[0]


@pytest.mark.parametrize("lanes", [1, 2, pytest.param(8, marks=pytest.mark.slow)])
def test_no_lane_ever_has_two_runs(lanes: int) -> None:
    made = pipelined(lanes, lanes)
    made.run(20 * lanes)
    state, most = fold([]), 0
    for entry in made.ledger.log:
        state.apply(entry)
        taken = [state.run_of(hand).lane for hand in state.at_work.values()]
        if state.audits.at_work:
            taken.append(state.audits.at_work.lane)
        assert max(Counter(taken).values(), default=0) <= 1
        assert set(taken) <= set(range(lanes))
        most = max(most, len(taken))
    assert most == lanes


@pytest.mark.slow
def test_sixty_four_lanes_are_all_busy() -> None:
    made = pipelined(64, 32)
    made.run(640)
    state, start = fold([]), None
    for entry in made.ledger.log:
        state.apply(entry)
        if start is None and state.incumbent is not None:
            start = entry.at
    last_brief = max(e.at for e in made.ledger.log if isinstance(e.event, Briefed) and e.event.attempt == 1)
    assert start is not None
    window = [e for e in made.ledger.log if start <= e.at <= last_brief and isinstance(e.event, RunStarted | Scored)]
    taken, since, busy = 0, start, 0.0
    for entry in window:
        busy += taken * (entry.at - since).total_seconds()
        since, taken = entry.at, taken + (1 if isinstance(entry.event, RunStarted) else -1)
    assert busy / (64 * (since - start).total_seconds()) > 0.93


@pytest.mark.parametrize(("lanes", "lookahead"), [(1, 0), (1, 2), (8, 8)])
def test_when_time_is_over_what_was_measured_is_decided_and_the_rest_waits_for_the_next_start(
    lanes: int, lookahead: int
) -> None:
    made = pipelined(lanes, lookahead)
    hours = 4.0
    end = made.run(None, hours=hours)
    state, log = made.supervisor.state, made.ledger.log
    assert end.status is ExitStatus.DONE
    waiting = set(state.open_ids)
    assert end.reason == "4 hours are over" + (f"; open for the next start: {len(waiting)}" if waiting else "")
    assert len(waiting) >= lookahead
    late_s = (log[-1].at - log[0].at).total_seconds() - hours * 3600
    assert late_s < KeepRule().max_runs * 400, "one decision, no second one after it"
    over = log[0].at + timedelta(hours=hours)
    assert not [e for e in log if e.at > over and isinstance(e.event, Briefed | Rebased)]
    made.run(state.judged + 3 * lanes)
    verdicts = [made.supervisor.state.experiments[id_].verdict for id_ in waiting]
    assert None not in verdicts
    assert Verdict.VOID not in verdicts


def test_audits_find_a_lane_among_many() -> None:
    lab = Lab(plan=plan)
    made = bench(lab, in_flight=6, lanes=Lanes(count=3))
    opening = replace(OPENING, arena=replace(OPENING.arena, audit=True))
    made.run(60, opening)
    assert made.supervisor.state.keeps
    audits = [e.event for e in made.ledger.log if isinstance(e.event, AuditStarted)]
    assert len(audits) >= len(made.supervisor.state.keeps)
    assert not made.supervisor.state.audits.pending


def test_a_supervisor_that_is_replaced_at_any_entry_goes_on_with_what_is_at_work() -> None:
    """Cut the ledger after each entry in turn: the next supervisor repeats no run that ended, and ends in a verdict."""
    whole = pipelined(2, 2)
    whole.run(8)
    for cut in range(3, len(whole.ledger.log), 7):
        made = pipelined(2, 2)
        made.ledger.log = list(whole.ledger.log[:cut])
        kept = fold(made.ledger.log).incumbent
        made.repo.branches["lab"] = kept.commit if kept else "c0"
        for entry in made.ledger.log:
            commit = getattr(entry.event, "commit", None)
            if commit:
                made.lab.true[commit] = whole.lab.truth(commit)
                made.repo.refs[f"refs/ralph/lab/experiments/{entry.event.id}"] = commit  # type: ignore[union-attr]
        made.run(8)
        ends = Counter((e.event.id, e.event.run) for e in made.ledger.log if isinstance(e.event, RunEnded))
        assert max(ends.values()) == 1
        judged = Counter(e.event.id for e in made.ledger.log if isinstance(e.event, Judged))
        assert max(judged.values()) == 1
        assert made.supervisor.state.judged >= 8


def test_without_lookahead_the_story_is_the_same_as_ever() -> None:
    made = pipelined(1, 0)
    made.run(12)
    kinds = Counter(e.event.kind for e in made.ledger.log)
    assert (kinds["rebased"], kinds["refused"]) == (0, 0)
    assert set(made.supervisor.state.staleness) == {0}
    assert made.supervisor.state.counts[Verdict.INVALID] == 0


def test_nothing_has_an_effect_before_what_it_follows_from_would_outlive_a_power_cut() -> None:
    made = pipelined(2, 2)
    unsure: list[str] = []

    def look(point: str) -> None:
        lasting, written = made.ledger.lasting, len(made.ledger.log)
        if point.endswith(("_started", "advanced", "noted", "judged", "briefed", "rebased")) and lasting < written:
            unsure.append(f"{point}: {made.ledger.log[-1].event.kind}")

    made.world = replace(made.world, reach=look)
    made.run(20)
    assert unsure == []
    assert made.ledger.lasting == len(made.ledger.log)


def test_the_next_run_begins_before_the_verdict_on_the_last_one_is_carried_out() -> None:
    made = pipelined(1, 1)
    points: list[str] = []
    made.world = replace(made.world, reach=points.append)
    made.run(6)
    verdicts = [n for n, point in enumerate(points) if point == "noted"]
    assert len(verdicts) >= 6
    before = [points[:n][::-1].index("run_started") < points[:n][::-1].index("scored") for n in verdicts[2:-2]]
    assert all(before)
