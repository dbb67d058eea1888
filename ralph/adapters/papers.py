"""The port `Papers`: every file that humans and agents read, written so that none is ever seen half."""

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ralph.adapters.drawing import Drawing
from ralph.adapters.files import append_line, append_text, last_lines, remove_tree, write_atomic
from ralph.adapters.learnings_page import LearningsPage
from ralph.adapters.recall import RecallError, RecallIndex
from ralph.adapters.shared_page import read_steady
from ralph.core.learnings import Page, format_learnings
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.core.views import results_columns
from ralph.errors import ConfigError
from ralph.layout import Layout
from ralph.model import Document, Learning
from ralph.ports import Guidance

NUMBERS = frozenset({"kept", "discarded", "failed"})  # of a picture: thousands of them, and no word of anybody else's
SMALL_REPORTS = frozenset({"progress.jsonl", "config.json", "report.json"})  # of a run, worth more than their bytes


class FilePapers:
    """The papers of one folder; `program` is the strategy's path relative to the arena, `recall` the index to keep.

    The human's pages stay as they are; what is read from them, and all that is written, is without secrets.
    A context: leaving it ends the process that draws, at once; `finish_picture` before that waits for it.
    """

    def __init__(
        self,
        layout: Layout,
        program: str,
        metric: str,
        recall: RecallIndex | None = None,
        redact: Redactor = SHAPES_ONLY,
        remove: Callable[[Path], None] = remove_tree,
    ) -> None:
        self._layout, self._header, self._redact = layout, results_columns(metric), redact
        self._remove = remove
        self._recall = recall
        self._program = layout.arena / program
        self._learnings = LearningsPage(layout.learnings, layout.learned)
        self._page, self._clean = Page(), {}  # type: Page, dict[str, str]
        self._drawing = Drawing(layout.picture_data, layout.picture, layout.picture_domain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawing.close()

    def guidance(self) -> Guidance:
        """What the human says now, and the learnings on file.

        Raises:
            ConfigError: when there is no program.
        """
        program = read_steady(self._program)
        if program is None:
            raise ConfigError(
                f"there is no {self._program}: it tells agents what to aim for. Write it, or name another file as "
                f"`program` under [arena] in {self._layout.arena_toml}"
            )
        page = self._learnings.read()
        if page is not self._page:
            known, lines = self._clean, (each.line for each in page.learnings)
            self._page, self._clean = page, {line: known.get(line) or self._redact(line) for line in lines}
        return Guidance(
            program=self._redact(program),
            lines=tuple(map(self._redact, page.human)),
            learnings=tuple(self._clean[each.line] for each in page.learnings),
        )

    def learn(self, campaign: str, id: int, learnings: Sequence[Learning], marks: Sequence[str] = ()) -> None:  # noqa: A002
        """Append these, and our lines `marks`, to learnings.md unless they are there; no other byte changes."""
        self._learnings.add(
            campaign,
            (*format_learnings(campaign, id, self._redact.within(tuple(learnings))), *map(self._redact, marks)),
        )

    def brief(self, id: int, attempt: int, text: str) -> Path:  # noqa: A002
        """Store what an agent will know."""
        path = self._layout.brief(id, attempt)
        write_atomic(path, self._redact(text), durable=False)  # a restart that has no end of its agent writes it anew
        return path

    def record(self, id: int, row: Mapping[str, object], line: str) -> None:  # noqa: A002
        """Add one verdict to both tables, once per experiment id.

        Only the ends of the files are looked at: what a restart repeats is among the last verdicts.
        """
        rows = (each for each in last_lines(self._layout.history) if str(id) in each)  # few are worth parsing
        if id not in map(_id_of, rows):
            append_line(self._layout.history, _json(self._redact.within(row)))
        present = last_lines(self._layout.results)
        if not present:
            write_atomic(self._layout.results, self._header + "\n")
        line = self._redact(line)
        if line not in present:
            append_line(self._layout.results, line)

    def has_tables(self) -> bool:
        """Whether both tables are there; where one is not, `rebuild` makes them from the ledger."""
        return self._layout.history.exists() and self._layout.results.exists()

    def rebuild(self, verdicts: Iterable[tuple[Mapping[str, object], str]]) -> None:
        """Write both tables anew, for a folder that lost them: row and line of all verdicts, oldest first."""
        rows, lines = list[str](), [self._header]
        for row, line in verdicts:
            rows.append(_json(self._redact.within(row)))
            lines.append(self._redact(line))
        write_atomic(self._layout.history, "".join(f"{each}\n" for each in rows))
        write_atomic(self._layout.results, "".join(f"{each}\n" for each in lines))

    def remember(self, document: Document) -> None:
        """Make an experiment known to those who ask; an index that cannot be written stops no loop."""
        self._with_recall(lambda recall: recall.remember(document))

    def catch_up(self) -> None:
        """Bring the index up to the ledger, for a folder that lost it."""
        self._with_recall(lambda recall: recall.catch_up())

    def _with_recall(self, work: Callable[[RecallIndex], None]) -> None:
        if self._recall is None:
            return
        try:
            work(self._recall)
        except RecallError as error:
            self.log(f"nothing can be recalled until the next start: {error}")
            self._recall = None

    def progress(self, text: str) -> None:
        """Replace progress.md; the ledger has what it says, and every start writes it anew."""
        write_atomic(self._layout.progress, self._redact.by_line(text), durable=False)
        self._drawing.tend()

    def picture(self, data: Mapping[str, object]) -> None:
        """Redraw the picture, some time soon, in a process of its own."""
        self._drawing.show(self.picture_text(data))

    def picture_text(self, data: Mapping[str, object]) -> str:
        """What is drawn, as JSON. Its many numbers are not searched for secrets."""
        texts = self._redact.within({name: value for name, value in data.items() if name not in NUMBERS})
        return _json({**data, **texts})

    def finish_picture(self, within_s: float = 60.0) -> None:
        """Wait until the picture shows the newest data."""
        if not self._drawing.finish(within_s):
            self.log(f"the picture was not drawn within {within_s:g} s; see {self._layout.picture_domain}")

    def log(self, text: str) -> None:
        """Add to the supervisor's own log."""
        append_text(self._layout.log, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {self._redact(text.rstrip())}\n")

    def tidy(self, id: int, keep_artifact: bool) -> None:  # noqa: A002
        """Drop what nobody needs of an experiment that is over: homes, caches, artifacts of the discarded.

        Briefs, logs, endings and the small reports of its runs stay. What cannot be removed is named in the log.
        """
        folder = self._layout.experiment(id)
        with contextlib.suppress(FileNotFoundError):
            for domain in (each for each in folder.iterdir() if each.is_dir() and not each.is_symlink()):
                spent = [domain / "home", domain / "tmp", domain / "cache"]
                out = domain / "out"
                if not keep_artifact and out.is_dir() and not out.is_symlink():
                    spent += [each for each in out.iterdir() if each.name not in SMALL_REPORTS]
                for path in spent:
                    self._drop(path)

    def _drop(self, path: Path) -> None:
        try:
            self._remove(path)
        except OSError as error:
            self.log(f"{path} could not be removed: {error}")


def _id_of(row: str) -> object:
    try:
        found = json.loads(row)
    except ValueError:
        return None
    return found.get("id") if isinstance(found, dict) else None


def _json(value: object) -> str:
    """One line of JSON that any parser takes: numbers that are not finite become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value
