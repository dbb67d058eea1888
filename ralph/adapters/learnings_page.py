"""learnings.md on disk: guidance comes out of it, learnings are appended to it.

Why in this way: docs/decisions/0002-learnings-append.md.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ralph.adapters.files import append_line
from ralph.adapters.shared_page import append_shared, read_steady
from ralph.core import learnings
from ralph.core.learnings import NEW_PAGE, Page

CHANCES = 2  # a line is appended, and once more if it disappears; after that its absence is somebody's wish


class LearningsPage:
    """The page at `path`; `memory` is the file that remembers what was appended, across restarts."""

    def __init__(self, path: Path, memory: Path) -> None:
        self._path, self._memory = path, memory
        self._appended = _remembered(memory)
        self._campaign = ""

    def read(self) -> Page:
        """The page as it is now; made first if it is missing. Lines of this campaign that an editor lost come back."""
        text = read_steady(self._path)
        if text is None or (self._campaign and self._lost(text, self._ours(()))):
            self._append(())
            text = read_steady(self._path)
        return learnings.parse(text or "")

    def add(self, campaign: str, lines: Iterable[str]) -> None:
        """See to it that our `lines` are on the page; repeating this changes nothing.

        Raises:
            OSError: when the page cannot be written.
        """
        self._campaign = campaign
        self._append(tuple(lines))

    def _append(self, new: tuple[str, ...]) -> None:
        lines = self._ours(new)
        appended: tuple[str, ...] = ()

        def compose(text: str) -> str:
            nonlocal appended
            appended = self._lost(text, lines)
            return learnings.appendix(text, appended)

        append_shared(self._path, compose, NEW_PAGE)
        for line in lines:
            if line in appended or not self._appended[line]:
                append_line(self._memory, json.dumps({"line": line}))
                self._appended[line] += 1

    def _ours(self, new: tuple[str, ...]) -> tuple[str, ...]:
        """Every line of this campaign that we ever appended, and `new`."""
        tag = f"- [{self._campaign}#"
        return tuple(dict.fromkeys([*(line for line in self._appended if line.startswith(tag)), *new]))

    def _lost(self, text: str, lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(line for line in learnings.missing(text, lines) if self._appended[line] < CHANCES)


def _remembered(memory: Path) -> Counter[str]:
    """How often each line was appended; an unreadable row is a line that may come back once too often."""
    counts: Counter[str] = Counter()
    try:
        rows = memory.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return counts
    for row in rows[:-1]:
        try:
            counts[json.loads(row)["line"]] += 1
        except (ValueError, KeyError, TypeError):
            continue
    return counts
