"""What of a long campaign is in memory, and what of it can still be asked."""

import math
import random
from collections import defaultdict
from dataclasses import replace

import pytest

from ralph.core.findings import recent
from ralph.core.fold import State
from ralph.core.shelf import LOOK_BACK, Shelf
from ralph.core.single import experiment_of
from ralph.events import Entry, RunStarted
from ralph.model import Experiment, Phase, Verdict
from tests.core.states import Story, go_on, night, overnight


class Library:
    """A story whose state lets go of what is old; `asked` are the ids that were read again."""

    def __init__(self, story: Story) -> None:
        self.story, self.asked = story, list[int]()
        self.state = State(experiments=Shelf(self.read))
        for entry in story.entries:
            self.state.apply(entry)

    def read(self, id: int) -> Experiment:  # noqa: A002
        self.asked.append(id)
        return experiment_of(own_entries(self.story.entries)[id], id)


def own_entries(entries: list[Entry]) -> dict[int, list[Entry]]:
    own: dict[int, list[Entry]] = defaultdict(list)
    own[0].append(entries[0])
    for entry in entries:
        if (id_ := getattr(entry.event, "id", None)) is not None:
            own[id_].append(entry)
    return own


@pytest.fixture(scope="module")
def library() -> Library:
    return Library(overnight(LOOK_BACK + 300))


def test_old_experiments_leave_the_memory_and_are_read_when_asked_for(library: Library) -> None:
    shelf, told = library.state.experiments, library.story.state.experiments
    kept = set(library.state.keeps)
    old = next(i for i in range(1, 200) if i not in kept)
    library.asked.clear()
    assert shelf[old] == told[old]
    assert library.asked == [old]
    with pytest.raises(KeyError):
        shelf[len(told)]


def test_nothing_is_lost_and_nothing_is_added(library: Library) -> None:
    shelf, told = library.state.experiments, library.story.state.experiments
    assert (len(shelf), shelf.last, list(shelf)) == (len(told), told.last, list(told))
    assert {i: e for i, e in shelf.items() if i not in library.state.keeps and i} == {
        i: e for i, e in told.items() if i not in library.state.keeps and i
    }
    assert shelf.rows == told.rows or all(math.isnan(x) for x in shelf.rows.errors)


def test_what_is_looked_back_on_is_in_memory(library: Library) -> None:
    library.asked.clear()
    assert len(list(recent(library.state))) == LOOK_BACK
    assert library.state.incumbent is not None
    assert library.state.baseline is not None
    assert not library.asked


def test_what_was_kept_stays_with_its_scores_and_without_its_texts(library: Library) -> None:
    shelf, told = library.state.experiments, library.story.state.experiments
    library.asked.clear()
    for id_ in (0, *library.state.keeps):
        slim, whole = shelf[id_], told[id_]
        assert (slim.scores, slim.delta, slim.commit, slim.constants) == (
            whole.scores,
            whole.delta,
            whole.commit,
            whole.constants,
        )
        assert [(r.number, r.seconds, r.score) for r in slim.runs] == [
            (r.number, r.seconds, r.score) for r in whole.runs
        ]
    assert not library.asked
    assert shelf.whole(library.state.keeps[0]) == told[library.state.keeps[0]]


def test_sums_and_noise_are_those_of_a_state_that_keeps_everything(library: Library) -> None:
    told = library.story.state
    assert library.state.noise == told.noise
    assert library.state.counts == told.counts
    assert library.state.lineage == told.lineage


def test_an_old_incumbent_stays_until_it_is_beaten_and_an_open_experiment_until_it_is_over() -> None:
    s = Story().start().baseline(0.998, 0.9981)
    best = s.keep("early and good", 0.9, 0.9001)
    left_open = s.propose("never run so far")
    rng = random.Random(3)
    for n in range(LOOK_BACK + 50):
        s.discard(f"worse {n}", 0.95 + rng.random() / 100)
    library = Library(s)
    assert not library.asked
    assert library.state.experiments[best].runs[0].seconds
    assert library.state.experiments[left_open].phase is Phase.DECIDE
    assert not library.asked
    s.keep("better at last", 0.8, 0.8001)
    go_on(s, rng, len(s.state.experiments) + 5)
    later = Library(s)
    assert later.state.experiments.whole(best) == s.state.experiments[best]
    assert later.asked == [best]


def test_each_experiment_follows_from_its_own_entries() -> None:
    """Also one that was measured again for the sake of others."""
    story = night()
    assert any(isinstance(e.event, RunStarted) and e.event.for_id != e.event.id for e in story.entries)
    own = own_entries(story.entries)
    for id_, e in story.state.experiments.items():
        found = experiment_of(own[id_], id_)
        assert replace(found, known=e.known, stale=e.stale) == e or e.phase is not Phase.DONE


def test_rows_say_of_every_age_what_the_picture_shows(library: Library) -> None:
    rows, told = library.state.experiments.rows, library.story.state.experiments
    for id_, e in told.items():
        assert rows.verdict(id_) is e.verdict
        assert rows.runs[id_] == len(e.scores)
        assert rows.run_s[id_] == e.run_s
        assert bool(rows.committed[id_]) == bool(e.commit)
        assert (rows.known[id_], rows.stale[id_]) == (e.known, e.stale)
    assert list(rows.failed) == [i for i, e in told.items() if e.verdict not in (Verdict.KEEP, Verdict.DISCARD)]
