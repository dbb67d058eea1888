"""learnings.md on disk: guidance comes out of it, learnings are appended to it.

Why in this way: docs/decisions/0002-learnings-append.md. A page that nobody touched since we read it, or left it, is
not read again: it grows with every learning.
"""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ralph.adapters.files import append_line, last_lines
from ralph.adapters.shared_page import append_shared, read_steady, same_version
from ralph.core import learnings
from ralph.core.learnings import NEW_PAGE, Page
from ralph.core.superseded import worth_memory

CHANCES = 2  # a line is appended, and once more if it disappears; after that its absence is somebody's wish
REMEMBERED = 4096  # lines that were appended; older ones do not come back
REMEMBERED_BYTES = 1 << 20  # of the memory, in which they are


class LearningsPage:
    """The page at `path`; `memory` is the file that remembers what was appended, across restarts.

    Of a page with thousands of learnings `read` answers those that are worth the memory.
    """

    def __init__(self, path: Path, memory: Path) -> None:
        self._path, self._memory = path, memory
        self._appended = _remembered(memory)
        self._campaign = self._checked = ""  # the campaign of which the page that we know lacks no line
        self._page, self._seen = Page(), None  # type: Page, os.stat_result | None
        self._ends_with_ours = False

    def read(self) -> Page:
        """The page as it is now; made first if it is missing. Lines of this campaign that an editor lost come back."""
        before = _state_of(self._path)
        if self._is_known(before) and self._checked == self._campaign:
            return self._page
        text = read_steady(self._path)
        if text is None or (self._campaign and self._lost(text, self._ours(()))):
            self._append(())
            before, text = _state_of(self._path), read_steady(self._path)
        page = learnings.parse(text or "")
        self._page = Page(human=page.human, learnings=worth_memory(page.learnings))
        probe = "- x"
        self._ends_with_ours = learnings.appendix(text or "", (probe,)) == f"{probe}\n"
        after, self._checked = _state_of(self._path), self._campaign
        self._seen = after if before is not None and after is not None and same_version(before, after) else None
        return self._page

    def add(self, campaign: str, lines: Iterable[str]) -> None:
        """See to it that our `lines` are on the page; repeating this changes nothing.

        Raises:
            OSError: when the page cannot be written.
        """
        self._campaign = campaign
        self._append(tuple(lines))

    def _append(self, new: tuple[str, ...]) -> None:
        was_known, appended = False, ()  # type: bool, tuple[str, ...]

        def compose(text: str) -> str:
            nonlocal appended
            appended = self._lost(text, self._ours(new))
            return learnings.appendix(text, appended)

        def known(state: os.stat_result) -> str | None:
            nonlocal appended, was_known
            was_known = self._is_known(state) and self._ends_with_ours
            if not was_known or self._checked != self._campaign:
                return None
            present = {each.line for each in self._page.learnings}
            appended = tuple(line for line in dict.fromkeys(new) if not self._appended[line] and line not in present)
            return "".join(f"{line}\n" for line in appended)

        left = append_shared(self._path, compose, NEW_PAGE, known=known)
        self._checked = self._campaign
        if appended:
            self._seen = left if was_known and self._take_in(appended) else None
        for line in dict.fromkeys((*appended, *new)):
            if line in appended or not self._appended[line]:
                append_line(self._memory, json.dumps({"line": line}))
                self._appended[line] += 1
        if len(self._appended) > 2 * REMEMBERED:
            self._appended = Counter(dict(list(self._appended.items())[-REMEMBERED:]))

    def _is_known(self, state: os.stat_result | None) -> bool:
        return state is not None and self._seen is not None and same_version(state, self._seen)

    def _take_in(self, lines: tuple[str, ...]) -> bool:
        """Put lines that were appended to a known page into what we know of it, unless they may change the rest."""
        found = [one for line in lines if (one := learnings.read_line(line)) is not None and "-->" not in line]
        if len(found) == len(lines):
            self._page = Page(human=self._page.human, learnings=worth_memory((*self._page.learnings, *found)))
        return len(found) == len(lines)

    def _ours(self, new: tuple[str, ...]) -> tuple[str, ...]:
        """Every line of this campaign that we appended and remember, and `new`."""
        tag = f"- [{self._campaign}#"
        return tuple(dict.fromkeys([*(line for line in self._appended if line.startswith(tag)), *new]))

    def _lost(self, text: str, lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(line for line in learnings.missing(text, lines) if self._appended[line] < CHANCES)


def _state_of(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat()
    return None


def _remembered(memory: Path) -> Counter[str]:
    """How often each line was appended; an unreadable row is a line that may come back once too often."""
    counts: Counter[str] = Counter()
    for row in last_lines(memory, REMEMBERED_BYTES):
        try:
            counts[json.loads(row)["line"]] += 1
        except (ValueError, KeyError, TypeError):
            continue
    return counts
