"""What is kept from one look to the next is what one look at the whole history finds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ralph.core import gist
from ralph.core.brief import BriefInput, render_brief
from ralph.core.findings import dead_ends, failures, false_keeps, near_misses
from ralph.core.fold import State
from ralph.core.learnings import format_learnings
from ralph.core.memo import known
from ralph.core.picture import picture_data
from ralph.core.report import render_progress
from ralph.core.superseded import in_force
from ralph.model import CrashKind, Learning, Superseded, Verdict
from ralph.ports import Guidance
from tests.core.states import HERE, Story, small

WINDOW = 6  # experiments that are looked back on, where else a thousand are
IN_FLIGHT = 3
Idea = tuple[str, Mapping[str, int], Verdict, float, int]

WORDS = st.sampled_from(("dropout 5%", "dropout 7%", "tie the weights"))
CHANGES = st.sampled_from(({}, {"train.py:DEPTH": 9}, {"train.py:DEPTH": 7}, {"train.py:DEPTH": 9, "train.py:LR": 1}))
VERDICTS = st.sampled_from((Verdict.DISCARD, Verdict.DISCARD, Verdict.DISCARD, *Verdict))
SCORES = st.sampled_from((0.9, 0.9975, 0.9985, 1.1, 1.2))
IDEAS = st.lists(st.tuples(WORDS, CHANGES, VERDICTS, SCORES, st.integers(0, IN_FLIGHT)), max_size=4 * WINDOW)


def campaign(ideas: Sequence[Idea]) -> Iterator[Story]:
    """A campaign at every moment worth a look. Of some in flight the verdicts come in any order, if at all."""
    s, waiting = Story().start().baseline(0.998, 0.9985), list[tuple[int, Verdict]]()
    for words, constants, verdict, score, turn in ideas:
        taken_back = (Superseded(learning=words),) if turn == 1 else ()
        id_ = s.propose(words, constants=constants, learnings=(Learning(text=words),), supersedes=taken_back)
        for each in (score, score + 0.0004)[: 1 + turn % 2] if verdict in (Verdict.KEEP, Verdict.DISCARD) else ():
            s.run(id_, each)
        yield s
        waiting.append((id_, verdict))
        if turn < len(waiting) or len(waiting) > IN_FLIGHT:
            judged, its = waiting.pop(turn % len(waiting))
            s.judge(judged, its, f"{its} at {turn}", CrashKind.NAN if its is Verdict.CRASH else None)
            yield s
            if s.state.incumbent_id and turn == 0:  # measured again, as for a challenger
                s.run(s.state.incumbent_id, 0.998, for_id=id_)
                yield s


def everything(s: Story, state: State) -> tuple[object, ...]:
    """All that is shown of a state."""
    page = render_progress(state, s.at.astimezone(HERE))
    learnt = ((e.id, e.proposal.learnings) for e in state.experiments.values() if e.proposal is not None)
    lines = tuple(line for id_, said in learnt for line in format_learnings(state.campaign, id_, said))
    guidance = Guidance(program="Make it better.", lines=(), learnings=lines)
    brief = render_brief(BriefInput(state=state, id=len(state.experiments), attempt=1, agent="x", guidance=guidance))
    found = (near_misses(state, 99), dead_ends(state, 99), failures(state), false_keeps(state), in_force(lines, state))
    return *found, picture_data(state), page, brief


@settings(max_examples=25, deadline=None)
@given(ideas=IDEAS)
def test_what_is_kept_between_looks_is_what_one_look_at_the_whole_history_finds(ideas: Sequence[Idea]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gist, "LOOK_BACK", WINDOW)
        for s in campaign(ideas):
            fresh = replace(s.state, memo={})
            assert everything(s, s.state) == everything(s, fresh)
        assert not ideas or everything(s, s.state) == everything(s, s.folded())


def test_what_left_the_window_is_no_dead_end_any_more() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gist, "LOOK_BACK", WINDOW)
        s = Story().start().baseline(0.998, 0.9985)
        for _ in range(3):
            s.discard("deeper", 1.01, constants={"train.py:DEPTH": 9})
        assert [end.ids for end in dead_ends(s.state)] == [(1, 2, 3)]
        for n in range(WINDOW - 2):
            s.invalid(f"rule {n}")
        assert dead_ends(s.state) == []


def test_a_value_is_found_once_for_each_stamp() -> None:
    s, asked = small(), list[int]()

    def find(state: State) -> int:
        asked.append(state.seq)
        return len(asked)

    assert [known(s.state, "many", stamp, find) for stamp in (1, 1, 2, 1)] == [1, 1, 2, 3]
