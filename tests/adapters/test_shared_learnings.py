"""Two projects and a human write one learnings.md at the same time, and nobody loses anything.

As in the drill of one project, a line of ours that the human saved over comes back once, and stays away the second
time; no line is torn or doubled, and no line of one project is taken for one of the other's.
"""

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ralph.adapters.learnings_page import CHANCES
from ralph.core.learnings import HEADING, NEW_PAGE, format_learning, parse
from tests.adapters.project import learnt
from tests.adapters.test_learnings_drill import HUMAN, assert_the_human_lost_nothing, needs_leases

PROJECT = Path(__file__).with_name("project.py")
EXPERIMENTS = 40


def project(folder: Path, page: Path) -> Path:
    """A project whose learnings.md is a link to the shared page."""
    (folder / "state").mkdir(parents=True)
    (folder / "program.md").write_text("Make it small.\n")
    (folder / "learnings.md").symlink_to(page)
    return folder


def started(root: Path, campaign: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(PROJECT), str(root), campaign, str(EXPERIMENTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT.parents[2],
        env={"PYTHONPATH": str(PROJECT.parents[2])},
    )


def appended(root: Path) -> Counter[str]:
    """How often each line was appended, as the project remembers it."""
    return Counter(json.loads(row)["line"] for row in (root / "state" / "learned.jsonl").read_text().splitlines())


def lines_of(root: Path, campaign: str) -> list[str]:
    said = [format_learning(campaign, n, learnt(campaign, n, root.name)) for n in range(1, EXPERIMENTS + 1)]
    marks = [line for line in appended(root) if "supersedes" in line]
    assert len(marks) == EXPERIMENTS // 3
    return [*said, *marks]


@needs_leases
@pytest.mark.parametrize("names", [("left23", "right23"), ("nov23", "nov23")], ids=["own names", "one name"])
def test_two_projects_and_a_human_at_one_page_lose_nothing(hostile: Path, names: tuple[str, str]) -> None:
    page, edits = hostile / "shared.md", 60
    page.write_text(NEW_PAGE)
    roots = [project(hostile / name, page) for name in ("left", "right")]
    with contextlib.ExitStack() as all_ended:
        at_work = [all_ended.enter_context(started(*each)) for each in zip(roots, names, strict=True)]
        human = all_ended.enter_context(subprocess.Popen([sys.executable, str(HUMAN), str(page), str(edits), "7"]))
        assert human.wait(60) == 0
        for each in at_work:
            assert each.stdin is not None
            assert each.stdout is not None
            while int(each.stdout.readline()) < EXPERIMENTS:
                pass
        for each in at_work:  # one after the other: what one brings back the other must not mind
            each.communicate("done\n", timeout=60)
            assert each.returncode == 0
    text = page.read_text()
    assert_the_human_lost_nothing(text, edits)
    present = Counter(text.split("\n"))
    for root, campaign in zip(roots, names, strict=True):
        times = appended(root)
        ours = lines_of(root, campaign)
        assert [line for line in ours if line not in present and times[line] < CHANCES] == []
        assert sum(line in present for line in ours) > EXPERIMENTS / 2
    known = {*lines_of(roots[0], names[0]), *lines_of(roots[1], names[1]), *NEW_PAGE.split("\n"), HEADING, ""}
    shared = set(lines_of(roots[0], names[0])) & set(lines_of(roots[1], names[1]))  # marks of one name are one line
    assert [line for line in present if line not in known and not line.startswith("<")] == []
    assert max(present[line] for line in known - shared - {"", HEADING}) == 1
    assert all(one.line in known for one in parse(text).learnings)
