"""The ledger on disk: JSON lines, one write each, fsynced before anything follows from them, chained by checksums.

A line is `{"v":1,"seq":7,"at":"…Z","event":{…},"sum":"…"}`. `sum` is the first 16 hex digits of the SHA-256 of the line
before it (its own `sum` included) and of this line without its `sum`, so a changed, lost or swapped line shows.

Covers: a torn last line (cut back to the last newline on opening: it was never acknowledged), a short write or a full
disk during an append (the file is cut back, and the append tried once more if `on_full` made room), damage anywhere
else, the last newline included (a LedgerError that names the line; nothing is dropped). Does not cover: somebody who
rewrites the whole file with fresh checksums, or who cuts whole lines off its end.
"""

import errno
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ralph.adapters.files import write_all
from ralph.core.ledger_form import event_form, event_of
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.errors import LedgerError
from ralph.events import Briefed, CampaignOpened, Entry, Event, Settled

SCHEMA = 1
SUM_DIGITS = 16
REMEDY = (
    "Nothing was changed. Restore the file from a backup, or see the damage with `ralph ledger verify`; "
    "`ralph ledger repair` then goes on from what stands before it"
)


def checksum(previous: str, body: str) -> str:
    """The chain's next link."""
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()[:SUM_DIGITS]


def encode(entry: Entry, previous: str) -> tuple[bytes, str]:
    """One line for `entry`, and its checksum."""
    body = _body(entry.seq, entry.at, event_form(entry.event))
    link = checksum(previous, body)
    return f'{body[:-1]},"sum":"{link}"}}\n'.encode(), link


def _body(seq: int, at: datetime, event: Any) -> str:
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"v": SCHEMA, "seq": seq, "at": stamp, "event": event}, separators=(",", ":"), ensure_ascii=False)


def decode(line: bytes, seq: int, previous: str) -> tuple[Entry, str]:
    """Check and read line number `seq`. Raises LedgerError saying what is wrong with it."""
    try:
        text = line.decode()
        raw = json.loads(text)
        link, version = raw.pop("sum"), raw["v"]
        if version > SCHEMA:
            raise LedgerError(f"line {seq} was written by a newer ralph (schema {version}); upgrade ralph to read it")
        body = text.rstrip("\n").removesuffix(f',"sum":"{link}"}}') + "}"
        if checksum(previous, body) != link:
            raise LedgerError(f"line {seq} does not match its checksum")
        if raw["seq"] != seq:
            raise LedgerError(f"line {seq} says it is entry {raw['seq']}")
        return Entry(seq=seq, at=datetime.fromisoformat(raw["at"]), event=event_of(raw["event"])), link
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"line {seq} cannot be read: {str(error).splitlines()[0]}") from None


@dataclass(slots=True, kw_only=True)
class Mark:
    """How far a ledger was read: `seq` entries, `offset` bytes, the last one's checksum.

    `digest` is over all these bytes, where all were read; `places` are the bytes at which experiments begin, by id.
    """

    seq: int = 0
    offset: int = 0
    link: str = ""
    digest: "hashlib._Hash | None" = field(default_factory=hashlib.sha256)
    places: "array[int]" = field(default_factory=lambda: array("Q"))

    def step(self, entry: Entry, line: bytes, link: str) -> None:
        """One more entry was read, or written."""
        event = entry.event
        begun = 0 if isinstance(event, CampaignOpened) else event.id if isinstance(event, Briefed) else -1
        if begun >= len(self.places):
            self.places.extend([self.offset] * (begun + 1 - len(self.places)))
        self.seq, self.offset, self.link = entry.seq, self.offset + len(line), link
        if self.digest is not None:
            self.digest.update(line)


class FileLedger:
    """The ledger in one file. Opening it repairs a torn tail; `torn` holds the bytes that were cut.

    What stands before `after` is not read again; the mark goes on with what is read and written here.

    `on_full` is asked when the disk is full; it says whether it made room. What `redact` takes for a secret is in no
    entry, and so in nothing that is made from entries.
    """

    def __init__(
        self,
        path: Path,
        utc: Callable[[], datetime],
        *,
        sync: bool = True,
        redact: Redactor = SHAPES_ONLY,
        on_full: Callable[[], bool] = lambda: False,
        after: Mark | None = None,
    ) -> None:
        self._path, self._utc, self._sync, self._redact, self._on_full = path, utc, sync, redact, on_full
        self.mark = Mark() if after is None else after
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._loaded = list(read_entries(path, self.mark))
        self.torn = self._cut_torn_tail()
        self._size = os.fstat(self._fd).st_size
        self._unsynced = False

    def entries(self) -> Iterator[Entry]:
        """All entries found on opening; they are handed out once, so that memory is not held twice."""
        loaded, self._loaded = self._loaded, []
        return iter(loaded)

    def append(self, event: Event, *, durable: bool = True) -> Entry:
        """Write, and with `durable` fsync this entry and those before it; only then answer.

        An entry that is not durable yet outlives the death of this process, but maybe not that of the machine.

        Raises:
            OSError: the disk is full or failing; the file is as it was before.
        """
        at, event = self._utc(), self._redact.within(event)
        entry = Entry(seq=self.mark.seq + 1, at=at.replace(microsecond=at.microsecond // 1000 * 1000), event=event)
        line, link = encode(entry, self.mark.link)
        try:
            self._write(line, durable)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._on_full():
                raise
            self._write(line, durable)
        self.mark.step(entry, line, link)
        return entry

    def sync(self) -> None:
        """Make durable what was written without that; nothing happens if there is nothing. Raises OSError."""
        if not self._unsynced:
            return
        try:
            self._flush()
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._on_full():
                raise
            self._flush()

    def _flush(self) -> None:
        if self._sync:
            os.fsync(self._fd)
        self._unsynced = False

    def _write(self, line: bytes, durable: bool) -> None:
        if os.fstat(self._fd).st_size != self._size:  # an append failed, and so did undoing it
            os.ftruncate(self._fd, self._size)
        try:
            write_all(self._fd, line)
            if durable:
                self._flush()
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)
        self._unsynced = self._unsynced or not durable

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)

    def _cut_torn_tail(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self.mark.offset)
            tail = file.read()
        if tail:
            seq = self.mark.seq + 1
            if lost_newline(tail, seq, self.mark.link):
                raise LedgerError(f"{self._path}: line {seq} ends with a wrong byte. {REMEDY}")
            os.ftruncate(self._fd, self.mark.offset)
            os.fsync(self._fd)
        return tail


def lost_newline(tail: bytes, seq: int, previous: str) -> bool:
    """Whether bytes behind the last newline are a whole entry and one byte more.

    A torn write leaves the beginning of a line; this one was acknowledged, and its newline is another byte now.
    """
    try:
        decode(tail[:-1], seq, previous)
    except LedgerError:
        return False
    return True


def read_entries(path: Path, mark: Mark | None = None) -> Iterator[Entry]:
    """Entries of a ledger that somebody else may be writing: a last line without its newline is not there yet.

    With a `mark` only those behind it; it moves along.

    Raises:
        LedgerError: naming file and line, when a whole line is damaged.
    """
    at = Mark(digest=None) if mark is None else mark
    try:
        with path.open("rb") as file:
            file.seek(at.offset)
            for seq, line in enumerate(file, start=at.seq + 1):
                if not line.endswith(b"\n"):
                    return
                entry, link = decode(line, seq, at.link)
                at.step(entry, line, link)
                yield entry
    except FileNotFoundError:
        return
    except LedgerError as error:
        raise LedgerError(f"{path}: {error}. {REMEDY}") from None


def entries_of(path: Path, id: int, place: int, *, to_the_end: bool = False) -> Iterator[Entry]:  # noqa: A002
    """The entries of one experiment, which begins at byte `place`, up to the one that settles it, or to the end.

    Of what was read before; the checksums are not looked at again.

    Raises:
        LedgerError: when a line is not what it was.
    """
    wanted = b'"id":%d,' % id, b'"id":%d}' % id, b'"campaign_opened"'
    with path.open("rb") as file:
        file.seek(place)
        for line in file:
            if not line.endswith(b"\n") or not any(each in line for each in wanted):
                continue
            entry = _believed(path, line)
            if getattr(entry.event, "id", 0 if isinstance(entry.event, CampaignOpened) else None) == id:
                yield entry
                if isinstance(entry.event, Settled) and not to_the_end:
                    return


def _believed(path: Path, line: bytes) -> Entry:
    try:
        raw = json.loads(line)
        return Entry(seq=raw["seq"], at=datetime.fromisoformat(raw["at"]), event=event_of(raw["event"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path} was changed: {str(error).splitlines()[0]}. {REMEDY}") from None
