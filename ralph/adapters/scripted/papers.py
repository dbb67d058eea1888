"""`Papers` in memory, for simulations: the same rules about learnings, no disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ralph.core.learnings import NEW_PAGE, appendix, format_learnings, parse
from ralph.model import Document, Learning
from ralph.ports import Guidance


class ScriptedPapers:
    """Keeps everything that it was given. `program` and `learnings` may be rewritten at any time, as by a human."""

    def __init__(self, program: str = "Make the metric better.\n") -> None:
        self.program, self.learnings = program, NEW_PAGE
        self.briefs: dict[tuple[int, int], str] = {}
        self.rows: dict[int, Mapping[str, object]] = {}
        self.lines: dict[int, str] = {}
        self.page, self.data = "", {}  # type: str, Mapping[str, object]
        self.logged: list[str] = []
        self.remembered: dict[int, Document] = {}
        self.kept: dict[int, bool] = {}

    def guidance(self) -> Guidance:
        """What the human says now, and the learnings."""
        page = parse(self.learnings)
        return Guidance(program=self.program, lines=page.human, learnings=tuple(each.line for each in page.learnings))

    def learn(self, campaign: str, id: int, learnings: Sequence[Learning], marks: Sequence[str] = ()) -> None:  # noqa: A002
        """Append these unless they are there."""
        self.learnings += appendix(self.learnings, (*format_learnings(campaign, id, learnings), *marks))

    def brief(self, id: int, attempt: int, text: str) -> Path:  # noqa: A002
        """Remember the brief; the path is only a name."""
        self.briefs[id, attempt] = text
        return Path(f"brief-{id}-{attempt}.md")

    def record(self, id: int, row: Mapping[str, object], line: str) -> None:  # noqa: A002
        """Remember the verdict, the first time."""
        self.rows.setdefault(id, row)
        self.lines.setdefault(id, line)

    def remember(self, document: Document) -> None:
        """Remember."""
        self.remembered[document.id] = document

    def progress(self, text: str) -> None:
        """Remember the newest page."""
        self.page = text

    def picture(self, data: Mapping[str, object]) -> None:
        """Remember the newest data; nothing is drawn."""
        self.data = data

    def log(self, text: str) -> None:
        """Remember."""
        self.logged.append(text)

    def tidy(self, id: int, keep_artifact: bool) -> None:  # noqa: A002
        """Remember whether the artifact was to stay."""
        self.kept[id] = keep_artifact
