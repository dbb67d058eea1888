"""What is wrong with a ledger: the first line that cannot be believed, and what the lines behind it would have said.

Covers: a flipped bit, missing, doubled and swapped lines, garbage, lines of another ledger, a lost last newline, and a
ledger that ends before experiments whose folders exist. Does not cover: entries cut off the end within one experiment
leave no gap in the chain; fresh checksums over false entries are believed.
"""

import json
import os
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ralph.adapters.ledger import SUM_DIGITS, Mark, decode, lost_newline, read_entries
from ralph.errors import LedgerError
from ralph.events import Entry

SHOWN = 160  # characters of a damaged line


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """The first bad line: its number from 1, the byte at which it begins, what is wrong, and how it reads."""

    line: int
    offset: int
    problem: str
    reads: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A ledger examined: what stands (so many `entries`, the first `good_bytes` of `size`), and what does not.

    `torn` counts bytes of a last line that was never acknowledged. `lost` are the lines from the damage on, `lost_ids`
    the experiments that they speak of, as far as they can be read. `strays` are experiments with a folder, and without
    an entry that stands.
    """

    entries: int
    size: int
    good_bytes: int
    torn: int = 0
    damage: Damage | None = None
    lost: int = 0
    lost_ids: Sequence[int] = ()
    strays: Sequence[int] = ()

    @property
    def sound(self) -> bool:
        """Whether a loop can go on with it."""
        return self.damage is None and not self.strays


def examine(ledger: Path, experiments: Path) -> Health:
    """Read the ledger as far as it can be believed, and look at the folders of `experiments`."""
    mark, known, torn, damage = Mark(digest=None), set[int](), 0, None
    lines: list[bytes] = []  # all of them, once one is bad
    size = ledger.stat().st_size if ledger.exists() else 0
    for line in _lines(ledger):
        number = mark.seq + 1
        if not line.endswith(b"\n"):
            if lost_newline(line, number, mark.link):
                damage = Damage(line=number, offset=mark.offset, problem="ends with a wrong byte", reads=_shown(line))
            else:
                torn = len(line)
            break
        try:
            entry, link = decode(line, number, mark.link)
        except LedgerError:
            lines = list(_lines(ledger))
            problem = _problem(lines, number)
            damage = Damage(line=number, offset=mark.offset, problem=problem, reads=_shown(line))
            break
        mark.step(entry, line, link)
        known |= {0, getattr(entry.event, "id", 0)}
    lost = (lines or list(_lines(ledger)))[mark.seq :] if damage else []
    return Health(
        entries=mark.seq,
        size=size,
        good_bytes=mark.offset,
        torn=torn,
        damage=damage,
        lost=len(lost),
        lost_ids=sorted({id_ for line in lost if (id_ := _experiment(line)) is not None}),
        strays=folders(experiments, besides=known),
    )


def believed(ledger: Path, health: Health) -> Iterator[Entry]:
    """The entries that stand."""
    return islice(read_entries(ledger), health.entries)


def folders(experiments: Path, besides: Container[int] = ()) -> list[int]:
    """The numbers of the experiments that have a folder with something of theirs in it, `besides` those.

    Theirs are not looked into: there may be a hundred thousand.
    """
    if not experiments.is_dir():
        return []
    names = (name for name in os.listdir(experiments) if name.isdigit())  # noqa: PTH208 - nor a Path made of each
    return sorted(int(name) for name in names if int(name) not in besides and _began(experiments / name))


def _began(folder: Path) -> bool:
    """Not if all there is was made for an agent that stood by, or its gateway, as kill -9 leaves it."""
    try:
        more = {each.name for each in folder.iterdir()} - {"agent-1", "gateway-1"}
        ordered = (folder / "agent-1" / "facts.json", folder / "gateway-1" / "calls.jsonl")
        return bool(more) or any(path.exists() for path in ordered)
    except NotADirectoryError:
        return False


def _lines(ledger: Path) -> Iterator[bytes]:
    """Lines, each with its newline but perhaps the last; text mode would take a carriage return for one as well."""
    if ledger.exists():
        with ledger.open("rb") as file:
            yield from file


def _problem(lines: Sequence[bytes], number: int) -> str:
    """What is wrong with a line that cannot be believed, as precisely as it can be said."""
    line = lines[number - 1]
    if line in lines[: number - 1]:
        return f"is line {lines.index(line) + 1} once more"
    raw = _read(line)
    if raw is None:
        return "is no entry of a ledger"
    seq = raw.get("seq")
    if isinstance(seq, int) and seq > number:
        later = {found.get("seq") for each in lines[number:] if (found := _read(each))}
        gap = f"entry {number} is" if seq == number + 1 else f"entries {number} to {seq - 1} are"
        return f"is entry {seq}: {'out of order' if number in later else f'{gap} missing'}"
    if isinstance(seq, int) and seq < number:
        return f"says it is entry {seq}"
    if not isinstance(raw.get("sum"), str) or len(raw["sum"]) != SUM_DIGITS:
        return "has no checksum"
    return "does not match its checksum: it was changed, or belongs to another ledger"


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        raw = json.loads(line)
    except ValueError:
        return None
    return raw if isinstance(raw, dict) and "seq" in raw else None


def _experiment(line: bytes) -> int | None:
    raw = _read(line)
    event = raw.get("event") if raw else None
    found = event.get("id") if isinstance(event, dict) else None
    return found if isinstance(found, int) else None


def _shown(line: bytes) -> str:
    text = line.decode(errors="backslashreplace").rstrip("\n")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(line)} bytes)"
