"""The rule of the audit, what it is counted from, and when step lets one begin."""

import math
from dataclasses import replace

import pytest

from ralph.core.actions import Action, Audit, Brief, End, Propose, Record
from ralph.core.audit import ALARM_RATE, SHARE_LEFT, Finding, audit_of, difference_error, sentence
from ralph.core.audit import Audit as Numbers
from ralph.core.decision import KeepRule
from ralph.core.report import render_progress
from ralph.core.statistics import Noise, t_quantile
from ralph.core.step import Limits, Rules, next_actions
from ralph.core.views import status_view
from ralph.errors import ExitStatus
from ralph.events import Audited, AuditStarted, Judged, RunStarted, Settled
from ralph.model import Direction, Outcome, Verdict
from tests.core.states import Story

RULES = Rules(keep=KeepRule(max_runs=3), limits=Limits(experiments=1))


def audited_story(direction: Direction = Direction.MIN) -> Story:
    story = Story(direction=direction)
    story.arena = replace(story.arena, audit=True)
    return story.start().baseline(0.9970, 0.9975, 0.9980)


def actions(story: Story) -> list[Action]:
    return next_actions(story.state, story.at, RULES)


def audit(story: Story, *scores: float) -> None:
    """Everything that is owed, in its order."""
    for score in scores:
        id_, run = story.state.audits.owed[0]
        story.tell(AuditStarted(id=id_, run=run, attempt=1))
        story.tell(Audited(id=id_, run=run, outcome=Outcome.OK, score=score, seconds=6.0), after_s=6.1)


def begun(story: Story) -> AuditStarted | None:
    events = [a.event for a in actions(story) if isinstance(a, Record)]
    return next((e for e in events if isinstance(e, AuditStarted)), None)


# --- the rule


def numbers(excess_se: float, *, keeps: int, dof: int = 20, share: float = 0.5) -> Numbers:
    """Gains whose excess is so many standard errors and leaves `share` of the gain on the audit split."""
    se = 0.001
    gain = excess_se * se / (1 - share)
    return Numbers(keeps=keeps, search_gain=gain, audit_gain=share * gain, se=se, dof=dof)


@pytest.mark.parametrize("keeps", [1, 2, 10, 50])
def test_the_bar_rises_with_every_keep_so_that_all_looks_together_err_rarely(keeps: int) -> None:
    bar = t_quantile(1 - ALARM_RATE / (keeps * (keeps + 1)), 20)
    assert numbers(0.99 * bar, keeps=keeps).finding is Finding.AGREES
    assert numbers(1.01 * bar, keeps=keeps).finding is Finding.OVERFITTING
    assert sum(ALARM_RATE / (k * (k + 1)) for k in range(1, 10_000)) < ALARM_RATE


def test_a_gain_that_is_mostly_left_is_no_over_fitting_however_clear_the_difference() -> None:
    assert numbers(50, keeps=3, share=SHARE_LEFT + 0.01).finding is Finding.LESS
    assert numbers(50, keeps=3, share=SHARE_LEFT - 0.01).finding is Finding.OVERFITTING


def test_few_repeats_make_the_bar_higher_and_no_noise_makes_it_none() -> None:
    assert numbers(4, keeps=2, dof=2).finding is Finding.AGREES
    assert numbers(4, keeps=2, dof=200).finding is Finding.OVERFITTING
    exact = Numbers(keeps=9, search_gain=0.01, audit_gain=0.001, se=0.0, dof=4)
    assert exact.finding is Finding.OVERFITTING
    assert replace(exact, audit_gain=0.01).finding is Finding.AGREES


def test_the_standard_error_is_that_of_two_gains_which_share_nothing() -> None:
    assert difference_error(Noise(sigma=0.001, dof=5), 3, 4) == pytest.approx(0.001 * math.sqrt(2 * (1 / 3 + 1 / 4)))


def test_the_sentence_shows_no_score_and_no_share_finer_than_a_twentieth() -> None:
    found = Numbers(keeps=2, search_gain=0.01234, audit_gain=0.00456, se=0.0005, dof=9)
    assert sentence(found).startswith("The gain on the audit split is only 35% of the gain on the validation set:")
    assert "0." not in sentence(found)
    assert "split is none: the campaign is over-fitting" in sentence(replace(found, audit_gain=-0.001))
    assert sentence(replace(found, se=None, dof=0)) == ""
    assert sentence(None) == ""


# --- what is compared


@pytest.mark.parametrize(("direction", "sign"), [(Direction.MIN, 1.0), (Direction.MAX, -1.0)])
def test_gains_are_those_of_the_same_artifacts_of_baseline_and_newest_audited_keep(
    direction: Direction, sign: float
) -> None:
    story = audited_story(direction)
    audit(story, 1.100, 1.101, 1.102)
    assert audit_of(story.state) is None, "nothing is kept yet"
    story.keep("one", 0.9900, 0.9910)
    audit(story, 1.095)  # its second artifact is still owed
    found = audit_of(story.state)
    assert found is not None
    assert found.search_gain == pytest.approx(sign * (0.9975 - 0.9900))
    assert found.audit_gain == pytest.approx(sign * (1.101 - 1.095))
    audit(story, 1.094)
    story.keep("two", 0.9800)
    story.state.audits.owed.index((2, 1))
    found = audit_of(story.state)
    assert found is not None
    assert found.keeps == 1, "the newest keep has no audit yet"
    audit(story, 1.080)
    shown = status_view(story.state, story.at, alive=True)["audit"]
    assert (shown["keeps"], shown["audit_gain"]) == (2, pytest.approx(sign * (1.101 - 1.080)))


def test_a_run_of_the_incumbent_for_a_later_candidate_is_audited_as_well() -> None:
    story = audited_story()
    audit(story, 1.1, 1.1, 1.1)
    story.keep("one", 0.99, remeasured=(0.9972,))
    assert set(story.state.audits.owed) == {(0, 4), (1, 1)}


def test_what_was_not_kept_is_never_audited() -> None:
    story = audited_story()
    audit(story, 1.1, 1.1, 1.1)
    story.discard("worse", 0.9990)
    story.crash("broken")
    assert story.state.audits.owed == ()


@pytest.mark.parametrize("outcome", [Outcome.CRASH, Outcome.INVALID])
def test_a_finding_about_the_artifact_ends_its_audit_without_a_score(outcome: Outcome) -> None:
    story = audited_story()
    story.tell(AuditStarted(id=0, run=1))
    story.tell(Audited(id=0, run=1, outcome=outcome, reason="not causal"))
    assert story.state.audits.scores == {(0, 1): None}
    assert story.state.audits.owed == ((0, 2), (0, 3))
    audit(story, 1.1, 1.1)
    story.keep("one", 0.99)
    audit(story, 1.09)
    found = audit_of(story.state)
    assert found is not None
    assert found.search_gain == pytest.approx((0.9975 + 0.9980) / 2 - 0.99), "without the artifact that has no audit"


def test_scores_noise_and_verdicts_are_untouched_by_audits() -> None:
    plain, story = Story().start().baseline(0.9970, 0.9975, 0.9980), audited_story()
    audit(story, 2.0, 3.0, 4.0)
    assert story.state.noise == plain.state.noise
    assert story.state.experiments[0].scores == plain.state.experiments[0].scores
    assert story.folded() == story.state


def test_the_page_says_nothing_before_there_is_anything_to_say() -> None:
    story = audited_story()
    story.keep("one", 0.99)
    assert "udit" not in render_progress(story.state, story.morning)


def test_the_page_says_that_an_audit_goes_on_while_nothing_else_does() -> None:
    story = audited_story()
    story.tell(AuditStarted(id=0, run=1))
    assert "what was kept is being audited" in render_progress(story.state, story.morning).splitlines()[0]


# --- when


def test_an_audit_begins_beside_the_next_agent_and_the_run_waits_for_it() -> None:
    story = audited_story()
    assert begun(story) == AuditStarted(id=0, run=1, attempt=1)
    assert any(isinstance(a, Brief) for a in actions(story)), "an agent needs no lane"
    story.tell(AuditStarted(id=0, run=1))
    id_ = story.propose("an idea")
    assert actions(story) == [Audit(id=0, run=1, attempt=1)], "the lane is taken"
    story.tell(Audited(id=0, run=1, outcome=Outcome.OK, score=1.1))
    (action,) = actions(story)
    assert isinstance(action, Record)
    assert isinstance(action.event, RunStarted), "it waited for one; the next audit waits for it"
    story.run(id_, 0.9971)
    (action,) = actions(story)
    assert isinstance(action, Record)
    assert not isinstance(action.event, AuditStarted), "nor does one come between two runs of an experiment"
    story.tell(Judged(id=id_, verdict=Verdict.DISCARD, reason="x"))
    story.tell(Settled(id=id_))
    assert begun(story) == AuditStarted(id=0, run=2, attempt=1)


def test_an_audit_goes_before_the_first_run_of_an_experiment_that_has_not_waited() -> None:
    story = audited_story()
    id_ = story.propose("an idea")
    assert begun(story) is not None
    assert not [a for a in actions(story) if isinstance(a, Record) and isinstance(a.event, RunStarted)]
    story.begin_run(id_)
    assert begun(story) is None, "a run has the lane"


def test_what_is_owed_is_done_before_a_limit_ends_the_loop_but_not_after_a_wish_to_stop() -> None:
    story = audited_story()
    story.discard("an idea", 0.9990)
    assert len(actions(story)) == 1, "no end as long as something is owed"
    audit(story, 1.1, 1.1, 1.1)
    (end,) = actions(story)
    assert isinstance(end, End)
    assert end.status is ExitStatus.DONE
    story = audited_story()
    story.tell(AuditStarted(id=0, run=1))
    story.ask_to_stop()
    assert actions(story) == [Audit(id=0, run=1, attempt=1)]
    story.tell(Audited(id=0, run=1, outcome=Outcome.OK, score=1.1))
    (end,) = actions(story)
    assert isinstance(end, End)


def test_a_pause_begins_no_audit() -> None:
    story = audited_story()
    story.brief()
    story.pause()
    assert [type(a) for a in actions(story)] == [Propose]
