"""What an agent is told that proposes what was tried before."""

from dataclasses import replace

from ralph.core.duplicates import refusal
from ralph.core.fold import fold
from ralph.events import CampaignOpened, Committed
from ralph.model import Proposal
from tests.core.states import Story


def told() -> Story:
    """A baseline, a keep, a discard, a void; meanings `m0` to `m3`."""
    story = Story().start().baseline(0.998, 0.9985)
    story.keep("wider, because there is room", 0.986)
    story.discard("narrower, because it is faster", 0.995)
    story.void("longer")
    entries = [
        replace(entry, event=replace(entry.event, meaning=f"m{getattr(entry.event, 'id', 0)}"))
        if isinstance(entry.event, CampaignOpened | Committed)
        else entry
        for entry in story.entries
    ]
    story.entries, story.state = entries, fold(entries)
    return story


def said(story: Story, meaning: str, replicates: int | None = None) -> str:
    e = story.state.experiments[story.brief()]
    return refusal(story.state, e, story.state.meanings.get(meaning), replicates)


def test_what_nobody_tried_is_run() -> None:
    assert said(told(), "new") == ""


def test_a_known_program_is_answered_with_its_old_result() -> None:
    reason = said(told(), "m2")
    assert reason.startswith("the same program as experiment #2, which was discard with 0.99")
    assert "against #1): clearly worse" in reason
    assert "+0.0090 ±" in reason
    assert '"replicates": 2' in reason


def test_the_baselines_program_is_known_too() -> None:
    assert "the same program as experiment #0, which was keep" in said(told(), "m0")


def test_a_change_that_changes_nothing_against_its_base_says_so() -> None:
    assert said(told(), "m1").startswith("changes nothing that runs: only comments, layout or the spelling of numbers")


def test_what_the_machine_spoilt_says_nothing_and_may_be_tried_again() -> None:
    story = told()
    assert said(story, "m3") == ""
    story.tell(Committed(id=story.brief(), commit="d" * 40, hypothesis="longer again", meaning="m3"))
    assert story.state.meanings.get("m3") == 5
    assert "which was not judged yet" in said(story, "m3")


def test_a_replicate_is_run_when_it_is_asked_for_by_its_number() -> None:
    story = told()
    assert said(story, "m2", replicates=2) == ""
    assert "its program is not that of #1" in said(story, "m2", replicates=1)
    assert "its program is not that of #99" in said(story, "m2", replicates=99)
    assert "its program is not that of #2" in said(story, "new", replicates=2)


def test_a_replicate_of_a_replicate_is_asked_for_by_either_number() -> None:
    story = told()
    id_ = story.brief()
    story.tell(Committed(id=id_, commit="d" * 40, hypothesis="once more", meaning="m2", replicates=2))
    assert story.state.meanings.get("m2") == 2, "the first stays the one to ask for"
    assert story.state.experiments[id_].proposal == Proposal(hypothesis="once more", replicates=2)
    assert said(story, "m2", replicates=id_) == ""


def test_ledgers_from_before_meanings_refuse_nothing() -> None:
    story = Story().start().baseline(0.998)
    story.discard("x", 0.999)
    assert len(story.state.meanings) == 0
    assert said(story, "") == ""
