"""The line below the events: it fits its terminal, and says the most useful first."""

import pytest

from ralph.front.watcher import BAR, live_text
from ralph.ports import News
from tests.core.states import small

TRAINING = News(stage="training", stage_s=150.0, step=12, loss=2.5)


def line(room: int, news: News | None = TRAINING) -> str:
    story = small()
    story.begin_run(story.propose("an idea"))
    return live_text(story.state, story.at, news, room)


@pytest.mark.parametrize("room", [20, 40, 57, 77, 107, 300])
def test_it_fits_and_loses_whole_parts_from_its_end(room: int) -> None:
    whole, text = line(1000), line(room)
    assert len(text) <= room
    parts = whole.split(" · ")
    assert text.split(" · ")[1:] == parts[1 : len(text.split(" · "))]


def test_a_bar_shows_the_share_of_the_budget_and_shrinks_with_the_terminal() -> None:
    assert line(200).startswith("█" * (BAR // 2) + "░" * (BAR // 2) + " 150/300 s · loss 2.500 · ")
    assert line(57).startswith("█" * 6 + "░" * 5 + " 150/300 s · loss 2.500")


def test_without_training_there_is_no_bar() -> None:
    for news in (None, News(stage="set-up", stage_s=3.0)):
        assert "█" not in line(200, news)
        assert "#7 run" in line(200, news)
