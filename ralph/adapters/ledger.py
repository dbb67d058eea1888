"""The ledger on disk: JSON lines, one write and one fsync each, chained by checksums.

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
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ralph.adapters.files import write_all
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.errors import LedgerError
from ralph.events import AnyEvent, Entry, Event

SCHEMA = 1
SUM_DIGITS = 16
REMEDY = (
    "Nothing was changed. Restore the file from a backup, or see the damage with `ralph ledger verify`; "
    "`ralph ledger repair` then goes on from what stands before it"
)


@cache
def _events() -> TypeAdapter[Event]:
    return TypeAdapter(AnyEvent)


def checksum(previous: str, body: str) -> str:
    """The chain's next link."""
    return hashlib.sha256(f"{previous}\n{body}".encode()).hexdigest()[:SUM_DIGITS]


def encode(entry: Entry, previous: str) -> tuple[bytes, str]:
    """One line for `entry`, and its checksum."""
    body = _body(entry.seq, entry.at, _events().dump_python(entry.event, mode="json"))
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
        return Entry(seq=seq, at=datetime.fromisoformat(raw["at"]), event=_events().validate_python(raw["event"])), link
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise LedgerError(f"line {seq} cannot be read: {str(error).splitlines()[0]}") from None


class FileLedger:
    """The ledger in one file. Opening it repairs a torn tail; `torn` holds the bytes that were cut.

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
    ) -> None:
        self._path, self._utc, self._sync, self._redact, self._on_full = path, utc, sync, redact, on_full
        self._seq, self._link = 0, ""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._loaded = list(read_entries(path, on_link=self._remember))
        self.torn = self._cut_torn_tail()
        self._size = os.fstat(self._fd).st_size

    def entries(self) -> Iterator[Entry]:
        """All entries found on opening; they are handed out once, so that memory is not held twice."""
        loaded, self._loaded = self._loaded, []
        return iter(loaded)

    def append(self, event: Event) -> Entry:
        """Write, fsync, and only then answer.

        Raises:
            OSError: the disk is full or failing; the file is as it was before.
        """
        at, event = self._utc(), self._redact.within(event)
        entry = Entry(seq=self._seq + 1, at=at.replace(microsecond=at.microsecond // 1000 * 1000), event=event)
        line, link = encode(entry, self._link)
        try:
            self._write(line)
        except OSError as error:
            if error.errno != errno.ENOSPC or not self._on_full():
                raise
            self._write(line)
        self._seq, self._link = entry.seq, link
        return entry

    def _write(self, line: bytes) -> None:
        if os.fstat(self._fd).st_size != self._size:  # an append failed, and so did undoing it
            os.ftruncate(self._fd, self._size)
        try:
            write_all(self._fd, line)
            if self._sync:
                os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)

    def _remember(self, seq: int, link: str) -> None:
        self._seq, self._link = seq, link

    def _cut_torn_tail(self) -> bytes:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole == len(data):
            return b""
        if lost_newline(data[whole:], self._seq + 1, self._link):
            raise LedgerError(f"{self._path}: line {self._seq + 1} ends with a wrong byte. {REMEDY}")
        os.ftruncate(self._fd, whole)
        os.fsync(self._fd)
        return data[whole:]


def lost_newline(tail: bytes, seq: int, previous: str) -> bool:
    """Whether bytes behind the last newline are a whole entry and one byte more.

    A torn write leaves the beginning of a line; this one was acknowledged, and its newline is another byte now.
    """
    try:
        decode(tail[:-1], seq, previous)
    except LedgerError:
        return False
    return True


def read_entries(path: Path, on_link: Callable[[int, str], None] | None = None) -> Iterator[Entry]:
    """Entries of a ledger that somebody else may be writing: a last line without its newline is not there yet.

    Raises:
        LedgerError: naming file and line, when a whole line is damaged.
    """
    previous = ""
    try:
        with path.open("rb") as file:
            for seq, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                entry, previous = decode(line, seq, previous)
                if on_link is not None:
                    on_link(seq, previous)
                yield entry
    except FileNotFoundError:
        return
    except LedgerError as error:
        raise LedgerError(f"{path}: {error}. {REMEDY}") from None
