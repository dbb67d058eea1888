"""A human edits learnings.md without a pause while learnings are appended.

Held here: no byte of the human's is lost, whatever the way of editing, with leases or without. With leases no line of
ours is torn or doubled. A save of a copy that was read before our append loses our line; it is appended once more, so
that a line is missing at the end only if it was saved over twice.
"""

import fcntl
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ralph.adapters.learnings_page import CHANCES, LearningsPage
from ralph.core.learnings import HEADING, NEW_PAGE

HUMAN = Path(__file__).with_name("hasty_human.py")


def drill(folder: Path, edits: int, seed: int) -> tuple[str, list[str], Counter[str]]:
    """The page in the end, the lines we added to it, and how often each was appended."""
    path, memory = folder / "learnings.md", folder / "learned.jsonl"
    path.write_text(NEW_PAGE)
    ours = LearningsPage(path, memory)
    added: list[str] = []
    with subprocess.Popen([sys.executable, str(HUMAN), str(path), str(edits), str(seed)]) as human:
        while human.poll() is None:
            added.append(f"- [c#{len(added)}] learning {len(added)} {'x' * (len(added) % 90)} (no evidence given)")
            ours.add("c", added[-1:])
        assert human.returncode == 0
    ours.add("c", [])
    times = Counter(json.loads(row)["line"] for row in memory.read_text().splitlines())
    return path.read_text(), added, times


def assert_the_human_lost_nothing(text: str, edits: int) -> None:
    """Every token once and in order; and without our lines only the blank ones that we put before a heading differ."""
    assert [int(n) for n in re.findall(r"<(\d+)>", text)] == list(range(edits))
    head = NEW_PAGE.removesuffix(f"{HEADING}\n\n")
    assert text.startswith(head)


def assert_no_line_of_ours_is_torn(text: str, added: list[str]) -> None:
    known = {*added, *NEW_PAGE.splitlines(), HEADING, ""}
    strangers = [line for line in text.split("\n") if line not in known and not re.fullmatch(r"<\d+>", line)]
    assert strangers == []
    assert max(Counter(line for line in text.split("\n") if line in set(added)).values()) == 1


def check(folder: Path, edits: int, seed: int) -> int:
    """How many lines had to be appended again."""
    text, added, times = drill(folder, edits, seed)
    assert_the_human_lost_nothing(text, edits)
    assert_no_line_of_ours_is_torn(text, added)
    present = set(text.split("\n"))
    lost = [line for line in added if line not in present]
    assert [line for line in lost if times[line] < CHANCES] == []
    assert len(added) - len(lost) > 0
    again = sum(count > 1 for count in times.values())
    print(f"{edits} edits, {len(added)} lines of ours: {again} appended again, {len(lost)} saved over twice")
    return again


needs_leases = pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="leases are a Linux thing")


@needs_leases
def test_a_hundred_edits_while_learnings_are_appended(hostile: Path) -> None:
    check(hostile, edits=100, seed=1)


def test_without_leases_the_human_loses_nothing_either(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(fcntl, "F_SETLEASE", raising=False)
    text, _, _ = drill(hostile, edits=300, seed=2)
    assert_the_human_lost_nothing(text, 300)


@needs_leases
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_thousand_edits_while_learnings_are_appended(hostile: Path, seed: int) -> None:
    assert check(hostile, edits=1000, seed=seed) > 0
