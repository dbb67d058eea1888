"""Learnings that are wrong by now. They stay on the page; a further line of ours, a mark, puts them out of force.

`- [nov24#50] supersedes [nov24#12] "warm-up hurts": because 600 s are enough for it (evidence: #48, #49)`

A mark names its learning by tag, by text or by both. It counts in the briefs of the campaign that wrote it, and in
everybody's where it takes back what its own campaign had learnt: of two projects that share a page neither silences the
other, since what is wrong in one arena may well hold in the next. What an agent learns again later is in force again.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ralph.core.findings import recent
from ralph.core.fold import State
from ralph.core.gist import latest
from ralph.core.learnings import TEXT_LIMIT, LearntLine, format_learning, read_line
from ralph.core.memo import known
from ralph.core.text import one_line
from ralph.model import Learning, Superseded

LATEST = 300  # learnings of a page that briefs are made from, …
PROVEN = 100  # … older ones that have the most evidence, …
MARKS = 100  # … older marks, …
SLACK = 100  # … and so many more before any are left out
QUOTED = 100  # characters of the learning that a mark quotes; longer ones are cut

_Key = tuple[str, int | str | None]

_TAG = r"\[?(?P<campaign>[^\s\[\]#]+)?#(?P<id>\d{1,9})\]?"
_NAMED = re.compile(_TAG)
_NUMBER = re.compile(r"\d{1,9}")
_MARK = re.compile(rf'supersedes(?: {_TAG})?(?: "(?P<quoted>[^"]+)")?(?:: because (?P<because>.+))?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """Which learning is meant: that of one tag (`id` None: of any), that with one text (empty: all of the tag's)."""

    campaign: str
    id: int | None = None
    quoted: str = ""

    @property
    def key(self) -> _Key:
        """What it is found by. A text is the same text in every experiment of its campaign."""
        return self.campaign, self.quoted or self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One mark, read back. `id` is the experiment of `campaign` whose agent wrote it."""

    campaign: str
    id: int
    name: Name
    because: str = ""

    def silences(self, one: LearntLine, campaign: str) -> bool:
        """Whether briefs of `campaign` leave `one`, which it names, out for it."""
        learnt_later = one.campaign == self.campaign and one.id >= self.id
        return self.campaign in (campaign, one.campaign) and not learnt_later


def read_mark(one: LearntLine) -> Mark | None:
    """A line of ours as a mark, if it is one."""
    match = _MARK.fullmatch(one.learning.text)
    if match is None or not (match["id"] or match["quoted"]):
        return None
    name = Name(
        campaign=match["campaign"] or "", id=int(match["id"]) if match["id"] else None, quoted=match["quoted"] or ""
    )
    return Mark(campaign=one.campaign, id=one.id, name=name, because=match["because"] or "")


def marks(state: State, id: int) -> tuple[str, ...]:  # noqa: A002 - the word of the ledger
    """The lines that mark what the agent of experiment `id` said is superseded, each once."""
    e = state.experiments[id]
    said = e.proposal.supersedes if e.proposal is not None else ()
    named = ((each, name) for each in said if (name := _resolved(state, id, each.learning)) is not None)
    return tuple(dict.fromkeys(_format(state.campaign, id, name, each) for each, name in named))


def in_force(lines: Iterable[str], state: State) -> list[LearntLine]:
    """The learnings of a page that hold for `state`, in the order of the page, each text once at its first place.

    Marks that give a reason are among them, since that is a learning as well. What the ledger knows to be superseded is
    left out even when its mark is not on the page.
    """
    page, marked = tuple(lines), tuple(_of_ledger(state))
    return known(state, "in force", (page, marked), lambda state: _in_force(page, marked, state.campaign))


def _in_force(page: Sequence[str], marked: Sequence[Mark], campaign: str) -> list[LearntLine]:
    on_page = [found for line in page if (found := _on_page(line)) is not None]
    told: dict[_Key, list[Mark]] = defaultdict(list)
    for each in (*(mark for _, mark in on_page if mark is not None), *marked):
        told[each.name.key].append(each)
    latest: dict[tuple[str, str], LearntLine] = {}
    for one, mark in on_page:
        naming = [each for key in _keys(one) for each in told.get(key, ())] if told else []
        if mark.because if mark else not any(each.silences(one, campaign) for each in naming):
            latest[one.campaign, one.learning.text] = one
    return list(latest.values())


@lru_cache(maxsize=8192)  # the same page is read for every brief
def _on_page(line: str) -> tuple[LearntLine, Mark | None] | None:
    one = read_line(line)
    return None if one is None else (one, read_mark(one))


def worth_memory(lines: Sequence[LearntLine]) -> tuple[LearntLine, ...]:
    """Of a long page the latest learnings, and of the older ones those with the most evidence that no mark names.

    The latest of the older marks stay as well, for what they take back. In the order of the page.
    """
    if len(lines) <= LATEST + PROVEN + MARKS + SLACK:
        return tuple(lines)
    older = [(one, read_mark(one)) for one in lines[:-LATEST]]
    told: dict[_Key, list[Mark]] = defaultdict(list)
    for mark in (mark for one in lines if (mark := read_mark(one)) is not None):
        told[mark.name.key].append(mark)
    undisputed = [one for one, mark in reversed(older) if mark is None and not (told and _disputed(one, told))]
    proven = sorted(undisputed, key=lambda one: -len(one.learning.evidence))[:PROVEN]
    kept = {id(one) for one in (*proven, *[one for one, mark in older if mark is not None][-MARKS:])}
    return (*(one for one, _ in older if id(one) in kept), *lines[-LATEST:])


def _disputed(one: LearntLine, told: Mapping[_Key, Sequence[Mark]]) -> bool:
    naming = (mark for key in _keys(one) for mark in told.get(key, ()))
    return any(mark.silences(one, mark.campaign) for mark in naming)


def _keys(one: LearntLine) -> tuple[_Key, ...]:
    quoted = _quote(one.learning.text)
    return (one.campaign, one.id), (one.campaign, quoted), ("", quoted)


def _of_ledger(state: State) -> Iterator[Mark]:
    """What recent experiments said. Older marks that the page lost are those that somebody took away."""
    known_now = latest(state)
    undecided = [(e.id, e.proposal) for e in state.experiments.several(known_now.open)]
    said = (
        *((gist.id, gist.supersedes) for gist in known_now.gists if gist.supersedes),
        *((id_, proposal.supersedes) for id_, proposal in undecided if proposal is not None),
    )
    for id_, supersedes in said:
        for each in supersedes:
            if (name := _named(state.campaign, each.learning)) is not None:
                yield Mark(campaign=state.campaign, id=id_, name=name)


def _named(campaign: str, said: str) -> Name | None:
    """What an agent of `campaign` means by `#12`, `12`, `nov24#12`, a whole line of ours, or the text of a learning."""
    if (line := read_line(said if said.startswith("- ") else f"- {said}")) is not None:
        return Name(campaign=line.campaign, id=line.id, quoted=_quote(line.learning.text))
    if (match := _NAMED.fullmatch(said)) is not None:
        return Name(campaign=match["campaign"] or campaign, id=int(match["id"]))
    if _NUMBER.fullmatch(said):
        return Name(campaign=campaign, id=int(said))
    quoted = _quote(said)
    return Name(campaign="", quoted=quoted) if any(c.isalnum() for c in quoted) else None


def _resolved(state: State, id: int, said: str) -> Name | None:  # noqa: A002
    """The same with all that the ledger adds to it; None where it names nothing that was ever learnt.

    A text without an id is looked for in recent experiments; an older one stands for itself.
    """
    name = _named(state.campaign, said)
    if name is None or name.campaign not in ("", state.campaign):
        return name
    named = [e for e in (state.experiments.get(name.id),) if e is not None] if name.id is not None else recent(state)
    own = [
        (e.id, _quote(learning.text))
        for e in named
        if e.id < id and e.proposal is not None
        for learning in e.proposal.learnings
    ]
    found = [(n, quoted) for n, quoted in own if not name.quoted or name.quoted == quoted]
    if not found:
        return name if name.quoted and not name.campaign else None
    only = found[-1][1] if name.quoted or len(found) == 1 else ""
    return Name(campaign=state.campaign, id=found[-1][0], quoted=only)


def _format(campaign: str, id: int, name: Name, said: Superseded) -> str:  # noqa: A002
    tag = f" [{name.campaign}#{name.id}]" if name.id is not None else ""
    quoted = f' "{name.quoted}"' if name.quoted else ""
    why = one_line(said.because, TEXT_LIMIT).removeprefix("because ")
    because = f": because {why}" if any(c.isalnum() for c in why) else ""
    return format_learning(campaign, id, Learning(text=f"supersedes{tag}{quoted}{because}", evidence=said.evidence))


@lru_cache(maxsize=8192)
def _quote(text: str) -> str:
    return one_line(one_line(text, TEXT_LIMIT).replace('"', "'"), QUOTED)
