"""The page a person reads in the morning. Golden pages: `python -m tests.core.test_report` writes them anew."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from ralph.core.fold import State
from ralph.core.report import Live, render_progress
from ralph.errors import ExitStatus
from ralph.model import CrashKind, Direction, Outcome, Verdict
from ralph.ports import News
from tests.core.states import HERE, Story, growth, night, overnight, small

GOLDEN = Path(__file__).parent / "golden"
TRAINING = News(stage="training", stage_s=183.0, step=812, loss=2.7131)
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def _night() -> str:
    s = night()
    [hand] = s.state.at_work.values()
    return render_progress(s.state, s.morning, Live(news={(hand.owner, hand.run): TRAINING}))


def _nothing() -> str:
    return render_progress(State(), night().morning, Live(alive=False))


def _baseline_running() -> str:
    s = Story().start()
    s.run(0, 0.998)
    s.begin_run(0)
    s.at += timedelta(seconds=30)
    return render_progress(s.state, s.morning)


def _baseline_only() -> str:
    s = Story().start().baseline(0.998)
    s.brief("tuner")
    s.at += timedelta(seconds=4)
    return render_progress(s.state, s.morning)


def _no_baseline() -> str:
    s = Story().start()
    s.fail(0, Outcome.CRASH, "ModuleNotFoundError: No module named 'torch'", CrashKind.EXCEPTION)
    s.judge(0, Verdict.CRASH, "ModuleNotFoundError: No module named 'torch'", CrashKind.EXCEPTION)
    s.stop("there is no baseline: ModuleNotFoundError: No module named 'torch'", ExitStatus.CONFIG)
    return render_progress(s.state, s.morning, Live(alive=False))


def _parked() -> str:
    s = Story().start().baseline(0.998, 0.9975)
    for n in range(12):
        s.crash(f"idea {n}", CrashKind.EXCEPTION, f"RuntimeError: no kernel image for device {n}")
    s.stop("12 experiments in a row gave no measurement; the last: #12 crash: RuntimeError", ExitStatus.PARKED)
    s.at += timedelta(hours=5)
    return render_progress(s.state, s.morning, Live(alive=False))


def _paused() -> str:
    s = small()
    id_ = s.propose("a last idea")
    s.begin_run(id_)
    s.pause("the file state/PAUSE")
    s.at += timedelta(seconds=75)
    return render_progress(s.state, s.morning)


PAGES: dict[str, Callable[[], str]] = {
    "night": _night,
    "nothing": _nothing,
    "baseline_running": _baseline_running,
    "baseline_only": _baseline_only,
    "no_baseline": _no_baseline,
    "parked": _parked,
    "paused": _paused,
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_as_in_the_golden_file(name: str) -> None:
    assert PAGES[name]() == (GOLDEN / f"{name}.md").read_text(encoding="utf-8")


def _tokens(page: str) -> list[Token]:
    return [child for token in READER.parse(page) for child in (token, *(token.children or []))]


def test_every_section_of_a_night_is_there() -> None:
    headings = [
        t.content
        for t, before in zip(_tokens(_night())[1:], _tokens(_night()), strict=False)
        if before.type == "heading_open"
    ]
    assert headings[0] == "nov23 · charlm · val_bpb, lower is better"
    assert headings[1:] == [
        "Kept, newest first",
        "Read this",
        "Failures by kind",
        "Where the time and the money went",
        "The last twenty",
        "Steer",
    ]


@pytest.mark.parametrize(
    ("story", "live", "start"),
    [
        (small(), Live(), "**running** · between two experiments"),
        (
            small(),
            Live(wait_until=small().at + timedelta(minutes=5), wait_reason="3 failures in a row"),
            "**running** · waiting until 00:16: 3 failures in a row",
        ),
        (small(), Live(alive=False), "**stopped** at 00:"),
        (small().stop("it is 07:00"), Live(alive=False), "**stopped** at 00:"),
    ],
)
def test_the_first_line_says_what_is_going_on(story: Story, live: Live, start: str) -> None:
    page = render_progress(story.state, story.morning, live)
    assert page.splitlines()[0].startswith(start)


def test_a_run_of_the_incumbent_for_a_candidate_is_called_that() -> None:
    s = small()
    id_ = s.propose("an idea")
    s.run(id_, 0.9815)
    s.begin_run(4, for_id=id_)
    first = render_progress(s.state, s.morning).splitlines()[0]
    assert "experiment 7, the incumbent #4 measured again for it, 0:00 so far with 5:00 to train" in first


def test_the_agent_that_thinks_while_a_run_goes_on_is_named_too() -> None:
    s = small()
    s.begin_run(s.propose("an idea"))
    s.brief("tuner")
    assert "tuner is thinking about experiment 8" in render_progress(s.state, s.morning).splitlines()[0]


def test_a_page_after_two_thousand_experiments_is_no_longer_than_after_two_hundred() -> None:
    """But for wider numbers."""
    assert growth(lambda s: len(render_progress(s.state, s.morning))) < 1.04


def test_the_longest_words_make_a_page_of_bounded_length() -> None:
    s = Story().start().baseline(0.998, 0.9985)
    score = 0.99
    for n in range(60):
        s.keep("|" * 5000, score - n / 1000, reason="<" * 5000, guidance=["_" * 3000 + str(n)])
        s.crash("*" * 5000, CrashKind.NAN, "`" * 5000)
    assert len(render_progress(s.state, s.morning)) < 40_000


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("|`*_<>[]()#!~$&\\\n\r\t -+=:/w.@")), min_size=1))
def test_no_words_of_an_agent_change_the_shape_of_the_page(words: str) -> None:
    assert _shape(_strange(f"x{words}x")) == _shape(_strange("x"))


def _strange(words: str) -> str:
    """A page with these words wherever an agent, a program or a person may put some."""
    s = Story().start().baseline(0.998, 0.9985)
    s.keep(words, 0.98, reason=words, guidance=[words], agent=words)
    s.discard(words, 0.9799, reason=words)
    for _ in range(2):
        s.crash(words, reason=words)
        s.invalid(words)
    s.begin_run(s.propose(words, agent=words))
    s.stop(words, ExitStatus.PARKED)
    return render_progress(s.state, s.morning, Live(alive=False))


def _shape(page: str) -> list[str]:
    """Everything but plain text."""
    return [t.type for t in _tokens(page) if t.type not in ("text", "text_special")]


def test_where_higher_is_better_a_gain_has_a_plus() -> None:
    s = Story(direction=Direction.MAX, metric="accuracy").start().baseline(0.700, 0.704)
    s.keep("a better idea", 0.75, 0.754)
    page = render_progress(s.state, s.morning)
    assert "accuracy, higher is better" in page
    assert "| 0.7020 ± 0.0020 (2 runs) | **0.7520 ± 0.0020** (#1, 2 runs) | +0.0500 ± 0.0028 (7.12%) |" in page


def test_every_number_of_the_headline_can_be_found_by_hand() -> None:
    """Baseline 0.9979 and 0.9971: mean 0.9975, sigma 0.00057; the incumbent has one run at 0.9818."""
    page = render_progress(small().state, small().morning)
    row = next(line for line in page.splitlines() if line.startswith("| 0.9975"))
    assert row.startswith("| 0.9975 ± 0.0004 (2 runs) | **0.9818 ± 0.0006** (#4, 1 run) | −0.0157 ± 0.0007 (1.57%)")


def test_unknown_noise_is_called_unknown() -> None:
    s = Story().start().baseline(0.998)
    s.keep("an idea", 0.99)
    page = render_progress(s.state, s.morning)
    assert "± ?" in page
    assert "Noise: unknown" in page
    assert "small gains may be luck" in page


def test_shares_of_the_time_add_up_to_all_of_it() -> None:
    s = overnight(100)
    line = next(x for x in render_progress(s.state, s.morning).splitlines() if x.startswith("runs "))
    shares = [int(x) for x in re.findall(r"(\d+)%", line)]
    assert len(shares) == 5
    assert abs(sum(shares) - 100) <= 3


def test_a_night_without_keeps_says_so() -> None:
    s = Story().start().baseline(0.998, 0.9985)
    for n in range(25):
        s.discard(f"idea {n}", 1.01)
    page = render_progress(s.state, s.morning)
    assert "the baseline itself" in page
    assert "Nothing was kept among the last twenty" in page


def test_the_page_is_in_the_time_of_its_reader() -> None:
    s = small()
    assert s.morning.tzinfo is HERE
    assert "since the start at 23:31" in render_progress(s.state, s.morning)
    assert "since the start at 22:31" in render_progress(s.state, s.at)


if __name__ == "__main__":
    for name, page in PAGES.items():
        (GOLDEN / f"{name}.md").write_text(page(), encoding="utf-8")
