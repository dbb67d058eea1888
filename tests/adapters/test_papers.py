import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ralph.adapters.papers import FilePapers
from ralph.adapters.scripted.papers import ScriptedPapers
from ralph.core import picture, views
from ralph.errors import ConfigError
from ralph.layout import Layout
from ralph.model import Learning
from ralph.ports import Papers
from tests.core.states import small

LEARNT = [Learning(text="warm-up hurts", evidence=(1, 2))]


@pytest.fixture
def layout(hostile: Path) -> Layout:
    arena = hostile / "workspace"
    arena.mkdir()
    (arena / "program.md").write_text("Make it small.\n")
    return Layout(root=hostile, arena=arena)


@pytest.fixture
def papers(layout: Layout) -> Iterator[FilePapers]:
    with FilePapers(layout, "program.md", "val_bpb") as opened:
        yield opened


def record_all(papers: Papers) -> None:
    state = small().state
    for id_ in sorted(state.experiments):
        papers.record(id_, views.history_row(state, id_), views.results_line(state, id_))


def test_real_and_scripted_papers_agree_on_guidance_and_learnings(papers: FilePapers, layout: Layout) -> None:
    scripted = ScriptedPapers(program="Make it small.\n")
    both: tuple[Papers, Papers] = (papers, scripted)
    for each in both:
        each.learn("nov23", 3, LEARNT)
        each.learn("nov23", 3, LEARNT)
    assert papers.guidance() == scripted.guidance()
    assert papers.guidance().learnings == ("- [nov23#3] warm-up hurts (evidence: #1, #2)",)
    assert layout.learnings.read_text() == scripted.learnings


def test_a_missing_program_is_an_error_that_says_what_to_do(papers: FilePapers, layout: Layout) -> None:
    (layout.arena / "program.md").unlink()
    with pytest.raises(ConfigError, match=r"program\.md.*Write it, or name another file"):
        papers.guidance()


def test_what_is_not_utf_8_is_read_all_the_same(papers: FilePapers, layout: Layout) -> None:
    (layout.arena / "program.md").write_bytes(b"gr\xfc\xdfe")
    layout.learnings.write_bytes(b"\xff\xfe no\n")
    assert papers.guidance().program == "gr\ufffd\ufffde"
    assert papers.guidance().lines == ("\ufffd\ufffd no",)


def test_each_verdict_is_in_both_tables_once_however_often_it_is_recorded(papers: FilePapers, layout: Layout) -> None:
    record_all(papers)
    record_all(papers)
    rows = [json.loads(row) for row in layout.history.read_text().splitlines()]
    table = layout.results.read_text().splitlines()
    assert [row["id"] for row in rows] == list(range(7))
    assert table[0].split("\t")[:5] == ["commit", "val_bpb", "memory_gb", "status", "description"]
    assert [line.split("\t")[5] for line in table[1:]] == [str(n) for n in range(7)]


def test_a_crash_between_the_two_tables_is_made_good(papers: FilePapers, layout: Layout) -> None:
    record_all(papers)
    whole = layout.results.read_bytes()
    layout.results.write_bytes(whole[:-9])
    record_all(papers)
    assert layout.results.read_bytes() == whole


def test_tables_that_were_lost_are_rebuilt_as_they_were(papers: FilePapers, layout: Layout) -> None:
    record_all(papers)
    before = layout.history.read_bytes(), layout.results.read_bytes()
    layout.history.write_text("nonsense")
    layout.results.unlink()
    state = small().state
    ids = sorted(state.experiments)
    papers.rebuild((views.history_row(state, n), views.results_line(state, n)) for n in ids)
    assert (layout.history.read_bytes(), layout.results.read_bytes()) == before


def test_numbers_that_json_has_no_word_for_become_null(papers: FilePapers, layout: Layout) -> None:
    papers.record(1, {"id": 1, "score": float("nan"), "scores": [float("inf"), 1.0]}, "x")
    assert json.loads(layout.history.read_text()) == {"id": 1, "score": None, "scores": [None, 1.0]}


def test_briefs_and_progress_are_stored_where_the_layout_says(papers: FilePapers, layout: Layout) -> None:
    path = papers.brief(3, 2, "brief \udcff")
    assert path == layout.brief(3, 2)
    assert path.read_text() == "brief \\udcff"
    papers.progress("page\n")
    assert layout.progress.read_text() == "page\n"


def test_the_log_says_when(papers: FilePapers, layout: Layout) -> None:
    papers.log("Traceback\n  line\n")
    papers.log("again")
    first, second, third = layout.log.read_text().splitlines()
    assert first.endswith("Z Traceback")
    assert second == "  line"
    assert third.endswith("Z again")


@pytest.mark.parametrize("keep", [True, False])
def test_tidying_keeps_what_explains_an_experiment_and_drops_the_rest(
    papers: FilePapers, layout: Layout, keep: bool, tmp_path: Path
) -> None:
    agent, run = layout.agent(3, 1), layout.run(3, 1)
    for folder in (agent / "home" / ".cache", agent / "tmp", run / "home", run / "out" / "checkpoints"):
        folder.mkdir(parents=True)
        (folder / "big").write_text("x")
    (agent / "home" / ".cache").chmod(0)
    for name in ("artifact.pt2", "report.json", "progress.jsonl"):
        (run / "out" / name).touch()
    for name in ("log.txt", "exit.json"):
        (run / name).touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (run / "tmp").symlink_to(elsewhere)
    papers.tidy(3, keep_artifact=keep)
    papers.tidy(3, keep_artifact=keep)
    papers.tidy(4, keep_artifact=keep)
    assert (elsewhere / "precious").exists()
    assert list(agent.iterdir()) == []
    assert {p.name for p in run.iterdir()} == {"log.txt", "exit.json", "out"}
    small_reports = {"report.json", "progress.jsonl"}
    assert {p.name for p in (run / "out").iterdir()} == small_reports | (
        {"artifact.pt2", "checkpoints"} if keep else set()
    )


def test_the_picture_is_drawn_in_the_background_and_nothing_of_it_is_left(
    layout: Layout, marked: Callable[[], list[int]]
) -> None:
    with FilePapers(layout, "program.md", "val_bpb") as papers:
        for _ in range(5):
            papers.picture(picture.picture_data(small().state))
        assert len(marked()) <= 3  # shim, and at most one drawing on its way to be nice
        papers.finish_picture()
        assert layout.picture.read_bytes().startswith(b"\x89PNG")
        assert not layout.log.exists()
