"""The state beside its ledger, so that a restart, and whoever looks, reads only what came after.

It is an index and never the truth. It counts only if the very code of now wrote it, on a machine of this byte order,
all of it is there by its checksum, and the line of the ledger at which it was taken has the checksum that it had;
`restore` then goes on from that line. A loop hashes the bytes before it as well, and does not believe a snapshot of
others. What does not count is left out, and the whole ledger read: slower, and the same state.

The file: one line of JSON that says what follows, then that, end to end: the state as JSON (ralph.core.codec), the
experiments in memory as JSON, columns of plain numbers. Reading it runs nothing.

Covers: a kill while it is written (moved into its place), bits that flip, ledgers that were repaired, restored or
exchanged. Does not cover: somebody who writes a false snapshot with a checksum of its own; agents and runs cannot,
since they do not see state/. A look (`ralph status`) trusts the bytes before the snapshot; `ralph ledger verify`
never does.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from ralph import core, events, model
from ralph.adapters.files import write_atomic
from ralph.adapters.ledger import SUM_DIGITS, FileLedger, Mark, entries_of, read_entries
from ralph.core.codec import CodecError, decode_fields, encode
from ralph.core.fold import State
from ralph.core.meanings import Meanings
from ralph.core.shelf import Rows, Shelf
from ralph.core.single import experiment_of
from ralph.events import Event
from ralph.model import Experiment, Verdict

EVERY_BYTES = 1 << 19  # of ledger; so much of it a restart reads, some two hundred experiments
CHUNK = 1 << 20
APART = frozenset({"experiments", "meanings", "memo"})  # fields of the state that have a form of their own, or none
COLUMNS = ("verdicts", "scores", "errors", "runs", "run_s", "committed", "known", "stale", "discarded", "failed")


class StaleError(ValueError):
    """A snapshot that does not count, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A state and how far into its ledger it goes; `used` says whether a snapshot helped."""

    state: State
    mark: Mark
    used: bool


def restore(ledger: Path, snapshot: Path, *, check: bool) -> Restored:
    """The state that the ledger tells, with the help of a snapshot where one counts.

    With `check` the bytes before the snapshot are held against those it was taken of.

    Raises:
        LedgerError: naming file and line, when a whole line is damaged.
    """
    used = True
    try:
        state, mark = _read(ledger, snapshot, check=check)
    except (OSError, ValueError, KeyError, TypeError):  # missing, or damaged in whatever way: it is only an index
        mark, used = Mark(), False
        state = State(experiments=Shelf(partial(_experiment, ledger, mark)))
    for entry in read_entries(ledger, mark):
        state.apply(entry)
    return Restored(state=state, mark=mark, used=used)


def replay(ledger: Path) -> Iterator[tuple[State, Event]]:
    """Every event of a ledger, with the state after it: one state that goes on changing."""
    mark = Mark(digest=None)
    state = State(experiments=Shelf(partial(_experiment, ledger, mark)))
    for entry in read_entries(ledger, mark):
        state.apply(entry)
        yield state, entry.event


class Snapshots:
    """Writes the snapshot of a ledger that is being written."""

    def __init__(self, path: Path, ledger: FileLedger, taken_at: int = 0) -> None:
        """`taken_at` is the byte of the ledger at which the snapshot that is there was taken."""
        self._path, self._ledger, self._taken_at = path, ledger, taken_at

    def keep(self, state: State) -> None:
        """Write one if much came since the last, or the loop is over. One that cannot be written stops nothing."""
        new = self._ledger.mark.offset - self._taken_at
        if new < EVERY_BYTES and not (new and state.stopped is not None):
            return
        if self._ledger.mark.digest is None or state.seq != self._ledger.mark.seq or not code_version():
            return
        self._taken_at = self._ledger.mark.offset
        with contextlib.suppress(OSError, CodecError):
            write_atomic(self._path, b"".join(_written(state, self._ledger.mark)), durable=False)


@cache
def code_version() -> str:
    """A hash of the code that makes states out of ledgers; empty where there is no source to be read."""
    digest = hashlib.sha256()
    folder = Path(core.__file__).parent if core.__file__ else Path()
    files = sorted(folder.glob("*.py")) if core.__file__ else []
    for file in (*files, *(Path(each.__file__ or "") for each in (model, events))):
        with contextlib.suppress(OSError):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest() if files else ""


# --- writing


def _written(state: State, mark: Mark) -> Iterator[bytes]:
    parts = dict(_parts(state, mark))
    head = {
        "ralph": "snapshot",
        "code": code_version(),
        "byteorder": sys.byteorder,
        "seq": mark.seq,
        "offset": mark.offset,
        "link": mark.link,
        "prefix": mark.digest.hexdigest() if mark.digest else "",
        "parts": {name: len(data) for name, data in parts.items()},
    }
    body = hashlib.sha256()
    for data in parts.values():
        body.update(data)
    head["sum"] = _sum(head, body.hexdigest())
    yield json.dumps(head).encode() + b"\n"
    yield from parts.values()


def _sum(head: dict[str, Any], body: str) -> str:
    """Over head and body, so that neither can change alone."""
    said = json.dumps({name: value for name, value in head.items() if name != "sum"}, sort_keys=True)
    return hashlib.sha256(f"{body}\n{said}".encode()).hexdigest()


def _parts(state: State, mark: Mark) -> Iterator[tuple[str, bytes]]:
    numbers, whole = state.experiments.standing()
    yield "state", json.dumps(encode(State, state, APART)).encode()
    yield "shelf", json.dumps(numbers).encode()
    yield "whole", b"\n".join(b"%d %b" % each for each in whole.items())
    for name in COLUMNS:
        yield name, getattr(state.experiments.rows, name).tobytes()
    yield from zip(("keys", "ids"), state.meanings.packed(), strict=True)
    yield "places", mark.places.tobytes()


# --- reading


def _read(ledger: Path, snapshot: Path, *, check: bool) -> tuple[State, Mark]:
    """Raises StaleError, or another error of data, when it does not count."""
    data = snapshot.read_bytes()
    first = data.index(b"\n") + 1
    head = json.loads(data[:first])
    if (head["code"], head["byteorder"]) != (code_version() or None, sys.byteorder):
        raise StaleError("it was written by other code, or elsewhere")
    if head["sum"] != _sum(head, hashlib.sha256(memoryview(data)[first:]).hexdigest()):
        raise StaleError("it is damaged")
    mark = Mark(seq=head["seq"], offset=head["offset"], link=head["link"], digest=_prefix(ledger, head, check=check))
    parts, at = {}, first
    for name, length in head["parts"].items():
        parts[name], at = data[at : at + length], at + length
    mark.places.frombytes(parts["places"])
    return _state(parts, partial(_experiment, ledger, mark)), mark


def _prefix(ledger: Path, head: dict[str, Any], *, check: bool) -> "hashlib._Hash | None":
    """The digest of what was read when the snapshot was taken; None where nobody asked for it.

    Raises:
        StaleError: when the ledger is not the one that it was taken of.
    """
    with ledger.open("rb") as file:
        file.seek(max(0, head["offset"] - SUM_DIGITS - 3))
        if file.read(SUM_DIGITS + 3) != f'{head["link"]}"}}\n'.encode():
            raise StaleError("the ledger is another one")
        if not check:
            return None
        file.seek(0)
        digest, left = hashlib.sha256(), head["offset"]
        while left and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
    if left or digest.hexdigest() != head["prefix"]:
        raise StaleError("the ledger was changed")
    return digest


def _state(parts: dict[str, bytes], read: Callable[[int], Experiment]) -> State:
    shelf, rows = Shelf(read), Rows()
    for name in COLUMNS:
        getattr(rows, name).frombytes(parts[name])
    lines = (line.partition(b" ") for line in parts["whole"].split(b"\n") if line)
    shelf.stand(json.loads(parts["shelf"]), {int(id_): raw for id_, _, raw in lines}, rows)
    fields = decode_fields(State, json.loads(parts["state"]), APART)
    return State(**fields, experiments=shelf, meanings=Meanings.unpacked(parts["keys"], parts["ids"]))


def _experiment(ledger: Path, mark: Mark, id: int) -> Experiment:  # noqa: A002 - the word of the ledger
    """One experiment that is not in memory any more. What was kept may have been measured again at any time."""
    e = experiment_of(entries_of(ledger, id, mark.places[id]), id)
    if e.verdict is Verdict.KEEP:
        return experiment_of(entries_of(ledger, id, mark.places[id], to_the_end=True), id)
    return e
