"""What to do next when agents think ahead and lanes work side by side."""

from dataclasses import replace
from datetime import timedelta

from ralph.core.actions import Action, Brief, End, Measure, Prepare, Propose, Rebase, Record, Score, Settle
from ralph.core.decision import KeepRule
from ralph.core.lanes import Lanes, free_lanes, repeat_in_the_gap
from ralph.core.step import Limits, Rules, next_actions
from ralph.events import Briefed, Judged, Paused, Rebased, Refused, RunEnded, RunStarted, Scored, Settled, StopRequested
from ralph.model import Outcome, Verdict
from tests.core.states import Story

RULES = Rules(keep=KeepRule(max_runs=3))
AHEAD = replace(RULES, in_flight=2)
TWO = replace(RULES, in_flight=4, lanes=Lanes(count=2))
GOOD, BAD = 0.9500, 1.0200
SCORES = (0.9979, 0.9971, 0.9975, 0.9973, 0.9977)


def actions(story: Story, rules: Rules = AHEAD) -> list[Action]:
    return next_actions(story.state, story.at, rules)


def with_baseline() -> Story:
    return Story().start().baseline(*SCORES)


def runs(found: list[Action]) -> list[RunStarted]:
    return [a.event for a in found if isinstance(a, Record) and isinstance(a.event, RunStarted)]


def verdicts(found: list[Action]) -> list[Judged]:
    return [a.event for a in found if isinstance(a, Record) and isinstance(a.event, Judged)]


def carried(story: Story, id_: int) -> None:
    """The rebase that step wants is done."""
    rebase = next(a for a in actions(story) if isinstance(a, Rebase) and a.id == id_)
    story.tell(Rebased(id=id_, base=rebase.onto, commit=f"{id_}on{rebase.onto}"[:40], constants={"train.py:DEPTH": 9}))


def kept_beside(story: Story) -> tuple[int, int]:
    """Two candidates on the baseline, of which the first is kept and the second has not run."""
    first, second = story.propose("first"), story.propose("second")
    story.run(first, GOOD)
    story.judge(first, Verdict.KEEP, "better")
    return first, second


def test_the_next_agent_thinks_while_a_run_trains_and_its_candidate_waits_for_the_lane() -> None:
    story = with_baseline()
    story.begin_run(story.propose("first"))
    measure, brief = actions(story)
    assert isinstance(measure, Measure)
    assert isinstance(brief, Brief)
    story.propose("second")
    assert actions(story) == [measure]


def test_a_candidate_that_waited_is_carried_over_to_what_was_kept_meanwhile() -> None:
    story = with_baseline()
    first, second = kept_beside(story)
    kept = story.state.experiments[first].commit
    assert actions(story)[0] == Rebase(id=second, onto=kept)
    carried(story, second)
    [run] = runs(actions(story))
    assert (run.id, run.run, story.state.experiments[second].base) == (second, 1, kept)
    assert story.state.resolved_constants(second)["train.py:DEPTH"] == 9


def test_a_discard_moves_nothing_and_the_candidate_that_waited_is_run_as_it_is() -> None:
    story = with_baseline()
    first, second = story.propose("first"), story.propose("second")
    story.run(first, BAD)
    story.judge(first, Verdict.DISCARD, "worse")
    [run] = runs(actions(story))
    assert run.id == second


def test_how_many_verdicts_an_agent_did_not_know_is_on_record() -> None:
    story = with_baseline()
    _, second = kept_beside(story)
    carried(story, second)
    story.run(second, BAD)
    assert story.state.experiments[second].stale == 1
    story.judge(second, Verdict.DISCARD, "worse")
    story.discard("third", BAD)
    assert story.state.staleness == {0: (2, 1), 1: (1, 0)}


def test_a_change_that_does_not_apply_goes_to_a_fresh_agent_on_the_new_incumbent_and_is_nobodys_mistake() -> None:
    story = with_baseline()
    first, second = kept_beside(story)
    kept = story.state.experiments[first].commit
    for attempt in range(2, 7):
        story.tell(Refused(id=second, attempt=attempt - 1, reason="both changed train.py", moved=True))
        brief = actions(story)[0]
        assert brief == Brief(id=second, agent="claude", attempt=attempt, base=kept)
        story.tell(Briefed(id=second, base=kept, agent="claude", attempt=attempt))
    e = story.state.experiments[second]
    assert (e.refusals, len(e.drafts), e.drafts[0].moved) == ((), 5, True)
    assert e.known == 1  # the fresh agent knows of the keep


def test_what_loses_against_the_incumbent_it_was_made_on_is_discarded_there() -> None:
    story = with_baseline()
    first, second = story.propose("first"), story.propose("second")
    story.run(second, BAD)
    story.run(first, GOOD)
    story.judge(first, Verdict.KEEP, "better")
    [verdict] = verdicts(actions(story, TWO))
    assert (verdict.id, verdict.verdict, verdict.against) == (second, Verdict.DISCARD, 0)


def test_what_wins_there_is_measured_anew_on_what_was_kept_since() -> None:
    """It would be a keep by its scores; but these say nothing about the two changes together."""
    story = with_baseline()
    first, second = story.propose("first"), story.propose("second")
    story.run(second, GOOD)
    story.run(first, GOOD)
    story.judge(first, Verdict.KEEP, "better")
    assert Rebase(id=second, onto=story.state.experiments[first].commit) in actions(story, TWO)
    carried(story, second)
    e = story.state.experiments[second]
    assert (e.scores, e.drafted_runs, len(e.runs)) == ((), 1, 1)
    [run] = runs(actions(story, TWO))
    assert (run.id, run.run) == (second, 2)
    story.run(second, GOOD - 0.03)
    verdict = next(v for v in verdicts(actions(story, TWO)) if v.id == second)
    assert (verdict.verdict, verdict.against) == (Verdict.KEEP, first)


def test_two_that_win_at_the_same_moment_are_not_both_kept_on_one_incumbent() -> None:
    story = with_baseline()
    first, second = story.propose("first"), story.propose("second")
    story.run(first, GOOD)
    story.run(second, GOOD)
    [verdict] = verdicts(actions(story, TWO))
    assert (verdict.id, verdict.verdict) == (first, Verdict.KEEP)
    story.tell(verdict)
    found = actions(story, TWO)
    assert found[:2] == [Settle(id=first), Rebase(id=second, onto=story.state.experiments[first].commit)]


def test_each_lane_takes_one_run_and_gives_it_back_with_the_score() -> None:
    story = with_baseline()
    ids = [story.propose(name) for name in ("a", "b", "c")]
    both = runs(actions(story, TWO))
    assert [(run.id, run.lane) for run in both] == [(ids[0], 0), (ids[1], 1)]
    for run in both:
        story.tell(run)
    assert free_lanes(story.state, TWO.lanes) == []
    assert runs(actions(story, TWO)) == []
    story.tell(RunEnded(id=ids[1], run=1, outcome=Outcome.OK, seconds=1))
    assert free_lanes(story.state, TWO.lanes) == []
    assert free_lanes(story.state, replace(TWO.lanes, scoring=False)) == [1]
    assert Score(id=ids[1], run=1) in actions(story, TWO)
    story.tell(Scored(id=ids[1], run=1, outcome=Outcome.OK, score=BAD))
    [run] = runs(actions(story, TWO))
    assert (run.id, run.lane) == (ids[2], 1)


def test_of_an_incumbent_no_more_runs_go_on_at_once_than_it_lacks_and_who_waits_takes_no_room() -> None:
    story = Story().start().baseline(0.9970, 0.9980, 0.9990)
    ids = [story.propose(name) for name in ("a", "b", "c")]
    for id_ in ids:
        story.run(id_, 0.9965)
    rules = replace(RULES, in_flight=3, lanes=Lanes(count=3))
    found = actions(story, rules)
    [again] = runs(found)
    assert (again.id, again.run, again.for_id) == (0, 4, ids[0])
    briefs = [a for a in found if isinstance(a, Brief)]
    assert len(briefs) == 1  # two wait for the run that the first one asked for
    story.tell(again)
    story.tell(RunEnded(id=0, run=4, outcome=Outcome.OK, seconds=1))
    story.tell(Scored(id=0, run=4, outcome=Outcome.OK, score=0.9980))
    assert {a.event.kind for a in actions(story, rules) if isinstance(a, Record)} <= {"judged", "run_started"}


def test_a_lane_that_waits_for_a_slow_agent_measures_the_incumbent_again() -> None:
    story = with_baseline()
    for name in ("a", "b", "c"):
        story.discard(name, BAD)
    first, second = story.propose("d", seconds=2000.0), None
    story.run(first, GOOD)
    story.judge(first, Verdict.KEEP, "better")
    story.discard("e", BAD)
    story.discard("f", BAD, reason="worse")
    second = story.brief()
    story.state.agent_seconds["claude"] = 2000.0 * story.state.agent_ends["claude"]
    [propose, repeat] = actions(story)[0], runs(actions(story))[0]
    assert propose == Propose(id=second, attempt=1)
    assert (repeat.id, repeat.for_id, repeat.run) == (first, first, 2)
    story.tell(repeat)
    assert story.state.experiments[first].verdict is Verdict.KEEP
    assert Measure(id=first, run=2) in actions(story)
    story.tell(RunEnded(id=first, run=2, outcome=Outcome.OK, seconds=300))
    assert Score(id=first, run=2) in actions(story)
    story.tell(Scored(id=first, run=2, outcome=Outcome.OK, score=GOOD + 0.001))
    incumbent = story.state.incumbent
    assert incumbent is not None
    assert incumbent.scores == (GOOD, GOOD + 0.001)
    assert not story.state.at_work


def test_no_repeat_for_an_agent_that_is_likely_to_be_done_before_it_or_for_a_spoilt_one() -> None:
    story = with_baseline()
    kept = story.keep("a", GOOD)
    story.discard("b", BAD)
    story.discard("c", BAD)
    story.brief()
    assert repeat_in_the_gap(story.state, story.at, RULES.keep, 0) is None  # 25 s of thinking, 312 s of running
    story.state.agent_seconds["claude"] = 2000.0 * story.state.agent_ends["claude"]
    assert repeat_in_the_gap(story.state, story.at, RULES.keep, 0) is not None
    late = story.at + timedelta(seconds=1900)
    assert repeat_in_the_gap(story.state, late, RULES.keep, 0) is None
    assert repeat_in_the_gap(story.state, story.at, KeepRule(max_runs=1), 0) is None
    story.tell(RunStarted(id=kept, run=2, seed=2, for_id=kept))
    assert repeat_in_the_gap(story.state, story.at, RULES.keep, 0) is None
    story.tell(RunEnded(id=kept, run=2, outcome=Outcome.VOID, reason="lost"))
    assert repeat_in_the_gap(story.state, story.at, RULES.keep, 0) is None


def test_no_end_comes_while_a_repeat_in_a_gap_is_at_work() -> None:
    story = with_baseline()
    kept = story.keep("a", GOOD)
    story.tell(RunStarted(id=kept, run=2, seed=2, for_id=kept))
    story.invalid("its agent breaks a rule meanwhile")
    rules = replace(AHEAD, limits=Limits(experiments=2))
    assert not story.state.open_ids
    assert actions(story, rules) == [Measure(id=kept, run=2)]
    story.tell(RunEnded(id=kept, run=2, outcome=Outcome.OK, seconds=300))
    assert actions(story, rules) == [Score(id=kept, run=2)]
    story.tell(Scored(id=kept, run=2, outcome=Outcome.OK, score=GOOD))
    [end] = actions(story, rules)
    assert isinstance(end, End)


def test_the_process_of_the_next_run_is_started_while_its_lane_is_taken_if_the_arena_allows_it() -> None:
    story = with_baseline()
    story.begin_run(story.propose("first"))
    second = story.propose("second")
    early = replace(AHEAD, lanes=Lanes(early=True))
    assert actions(story, early)[-1] == Prepare(id=second, run=1, seed=1000 * second + 1, lane=0)
    assert not any(isinstance(a, Prepare) for a in actions(story))
    over = replace(early, limits=Limits(device_hours=1e-9))
    assert not any(isinstance(a, Prepare) for a in actions(story, over)), "its run would not begin any more"
    story.tell(Paused(by="x"))
    assert not any(isinstance(a, Prepare) for a in actions(story, early))


def test_a_stop_lets_both_lanes_finish_and_begins_nothing() -> None:
    story = with_baseline()
    ids = [story.propose(name) for name in ("a", "b", "c")]
    for run in runs(actions(story, TWO)):
        story.tell(run)
    story.tell(StopRequested(now=False, by="ralph stop"))
    assert actions(story, TWO) == [Measure(id=ids[0], run=1), Measure(id=ids[1], run=1)]


def test_the_last_experiments_are_finished_before_a_limit_ends_the_loop() -> None:
    story = with_baseline()
    first, second = story.propose("first"), story.propose("second")
    rules = replace(AHEAD, limits=Limits(experiments=2))
    story.run(first, BAD)
    story.judge(first, Verdict.DISCARD, "worse")
    assert [run.id for run in runs(actions(story, rules))] == [second]
    story.run(second, BAD)
    story.judge(second, Verdict.DISCARD, "worse", settled=False)
    assert actions(story, rules) == [Settle(id=second)]
    story.tell(Settled(id=second))
    [end] = actions(story, rules)
    assert isinstance(end, End)
