"""learnings.md as text: which lines are ours, which are the human's, and what to append.

A line is a learning of ours when it stands under our heading and has our form, tag in front and evidence behind;
several projects may share one file, so the tag carries the campaign. Every other line is the human's guidance,
wherever it stands, except blank lines, the title and heading of an untouched page, and text in HTML comments:
what the human commented out is out of force.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ralph.core.text import one_line
from ralph.model import Learning

HEADING = "## Learnings (appended by ralph)"
GUIDANCE_HEADING = "## Guidance"
TEXT_LIMIT = 300  # characters of one learning
EVIDENCE_LIMIT = 12  # experiments named by one learning
NEW_PAGE = f"""\
# Learnings

<!-- This page is yours. Write under Guidance while the loop runs: the next brief has it, marked new, above everything.
ralph only appends lines under its own heading and never changes or removes a byte. A line of ralph's that disappears is
appended once more, since an editor may have saved an older copy over it; delete it again and it stays away. -->

{GUIDANCE_HEADING}

{HEADING}

"""

_FURNITURE = frozenset({"# Learnings", GUIDANCE_HEADING, HEADING})
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SECTION = re.compile(r"#{1,6}(\s|$)")
_TAG = re.compile(r"- \[[^\s\[\]#]+#\d{1,9}\] ")
_NUMBER = re.compile(r"\d+")
_OURS = re.compile(
    r"- \[(?P<campaign>[^\s\[\]#]+)#(?P<id>\d{1,9})\] (?P<text>\S.*)"
    r" \((?:no evidence given|evidence: (?P<evidence>#\d{1,9}(?:, #\d{1,9})*))\)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearntLine:
    """One line of ours, read back. `id` is the experiment whose agent wrote it."""

    campaign: str
    id: int
    learning: Learning
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """learnings.md, sorted: the human's lines and ours, each in the order of the file."""

    human: tuple[str, ...] = ()
    learnings: tuple[LearntLine, ...] = ()


def parse(text: str) -> Page:
    """Sort the lines of learnings.md. A comment that is never closed hides nothing."""
    human: list[str] = []
    ours: list[LearntLine] = []
    in_ours = False
    for raw in _COMMENT.sub("", text).split("\n"):
        line = raw.rstrip()
        if _SECTION.match(line):
            in_ours = line == HEADING
        learnt = read_line(line) if in_ours else None
        if learnt is not None:
            ours.append(learnt)
        elif line and line not in _FURNITURE:
            human.append(line)
    return Page(human=tuple(human), learnings=tuple(ours))


@lru_cache(maxsize=8192)  # the same page is read for every brief
def read_line(line: str) -> LearntLine | None:
    """One line in our form, or None. A line of ours that a human added words to is the human's."""
    match = _OURS.fullmatch(line)
    if match is None:
        return None
    evidence = tuple(int(n) for n in _NUMBER.findall(match["evidence"] or ""))
    learning = Learning(text=match["text"], evidence=evidence)
    return LearntLine(campaign=match["campaign"], id=int(match["id"]), learning=learning, line=line)


def format_learning(campaign: str, id: int, learning: Learning) -> str:  # noqa: A002 - the word of the ledger
    """Our line for what the agent of experiment `id` learnt; empty when it says nothing.

    >>> format_learning("nov23", 12, Learning(text="warm-up hurts", evidence=(12, 9)))
    '- [nov23#12] warm-up hurts (evidence: #12, #9)'
    """
    text = one_line(learning.text, TEXT_LIMIT)
    if not any(c.isalnum() for c in text):
        return ""
    shown = [n for n in dict.fromkeys(learning.evidence) if 0 <= n < 10**9][:EVIDENCE_LIMIT]
    evidence = f"evidence: {', '.join(f'#{n}' for n in shown)}" if shown else "no evidence given"
    return f"- [{campaign}#{id}] {text} ({evidence})"


def format_learnings(campaign: str, id: int, learnings: Iterable[Learning]) -> tuple[str, ...]:  # noqa: A002
    """Our lines for all that the agent of experiment `id` learnt, each once."""
    lines = (format_learning(campaign, id, learning) for learning in learnings)
    return tuple(dict.fromkeys(line for line in lines if line))


def missing(text: str, lines: Iterable[str]) -> tuple[str, ...]:
    """Those of our `lines` that `text` neither has nor has in the human's wording.

    A line that the human rewrote but left its tag counts as there: a line with the same tag and most of its words that
    is not in `lines` stands for it, so `lines` must hold everything we ever wrote under that tag. A project that shares
    the page and has a campaign of the same name writes lines with our tags too; they have other words.
    """
    wanted = dict.fromkeys(lines)
    present = [line.strip() for line in text.split("\n")]
    seen = set(present)
    rewritten = [line for line in present if line not in wanted and _TAG.match(line)]
    lost = []
    for line in (each for each in wanted if each not in seen):
        stands_for_it = next((other for other in rewritten if _reworded(line, other)), None)
        if stands_for_it is None:
            lost.append(line)
        else:
            rewritten.remove(stands_for_it)
    return tuple(lost)


def _reworded(line: str, other: str) -> bool:
    tag = _TAG.match(line)
    if tag is None or not other.startswith(tag[0]):
        return False
    learnt = read_line(line)
    words = _words(learnt.learning.text if learnt is not None else line[tag.end() :])
    return 4 * len(words & _words(other[tag.end() :])) >= 3 * len(words)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def appendix(text: str, lines: Iterable[str]) -> str:
    """Exactly what to append to `text` so that it has our `lines`, word for word: empty when it has them all.

    A last line without a newline gets one first; our heading comes before the lines unless the last heading of the
    file is ours already.
    """
    present = {line.rstrip() for line in text.split("\n")}
    absent = [line for line in dict.fromkeys(lines) if line not in present]
    if not absent:
        return ""
    return _joint(text, HEADING) + "".join(line + "\n" for line in absent)


def guidance_appendix(text: str, guidance: str) -> str:
    """What to append to `text` for a line of guidance given by a command; nothing when it is there word for word."""
    line = f"- {' '.join(guidance.split())}"
    if line in (each.rstrip() for each in text.split("\n")):
        return ""
    return f"{_joint(text, GUIDANCE_HEADING)}{line}\n"


def _joint(text: str, heading: str) -> str:
    """What has to stand between `text` and further lines under `heading`."""
    joint = "" if not text or text.endswith("\n") else "\n"
    headings = [line.rstrip() for line in text.split("\n") if _SECTION.match(line)]
    if headings and headings[-1] == heading:
        return joint
    blank = "" if not text or (text + joint).endswith("\n\n") else "\n"
    return f"{joint}{blank}{heading}\n\n"
