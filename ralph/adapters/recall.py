"""What was tried, for those who ask: an SQLite FTS5 index of hypotheses, reasons, learnings, verdicts and diffs.

It is one file that the supervisor writes and anybody may read meanwhile, also through a read-only mount: its journal is
the kind that readers need no further file for. All of it comes from the ledger and git, so whatever is wrong with it
(missing, damaged, of another campaign or version) is mended by building it anew. Writers take turns by a lock, and each
opens the file anew, so that a rebuilt one may be moved into its place at any time.
"""

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from ralph.core.recall import fused, terms
from ralph.errors import RalphError
from ralph.model import Document

SCHEMA = 1
BUSY_S = 10.0  # for the write of one document to be over
BATCH = 500
COMMON = 2_000  # experiments; a word that more of them have finds nothing by itself …
MOST_COMMON = 3  # of one question: bm25 counts all experiments that have them
NEWEST = 5_000  # … and where all words are like that, the newest so many are ranked

_INDEXED = ("hypothesis", "reason", "learnings", "verdict", "diff")
_RANK = "bm25(words, 4.0, 2.0, 3.0, 1.0, 1.0)"  # in the order of _INDEXED
_TABLES = f"""
CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE VIRTUAL TABLE words USING fts5({", ".join(_INDEXED)}, rest UNINDEXED, tokenize = 'porter unicode61');
"""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_ACCESS = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR})


class RecallError(RalphError):
    """The index cannot be read or written."""


class DamagedIndexError(RecallError):
    """The file is not an index of this version and campaign, or is damaged; it has to be built anew."""


class Source(Protocol):
    """The ledger and git, as the index wants them."""

    def judged(self) -> AbstractSet[int]:
        """The experiments that have a verdict."""
        ...

    def documents(self, ids: Sequence[int]) -> Iterable[Document]:
        """What is to be remembered of these."""
        ...


class RecallIndex:
    """The index at `path` for those who write it. `embed_command` is kept in it for those who ask."""

    def __init__(self, path: Path, *, campaign: str, source: Source, embed_command: str = "") -> None:
        self._path, self._campaign, self._source, self._embed = path, campaign, source, embed_command

    def catch_up(self) -> None:
        """Bring in what is missing; build anew what is damaged or does not belong to this campaign.

        Raises:
            RecallError: when this machine cannot have an index, for instance for want of FTS5.
        """
        with self._locked():
            try:
                with _writing(self._path) as db:
                    _check(db, self._campaign)
                    _check_whole(db)
                    known, judged = _ids(db), self._source.judged()
                    if known <= judged:
                        _describe(db, self._campaign, self._embed)
                        self._put_all(db, sorted(judged - known))
                        return
            except DamagedIndexError:
                pass
            self._rebuild()

    def remember(self, document: Document) -> None:
        """Add one document, or put it in the place of the one that is there; the cost does not grow with the others.

        Raises:
            RecallError: when it cannot be written.
        """
        with self._locked():
            try:
                with _writing(self._path) as db:
                    _check(db, self._campaign)
                    _put(db, [document])
                    return
            except DamagedIndexError:
                self._rebuild()
            with _writing(self._path) as db:
                _put(db, [document])

    def _rebuild(self) -> None:
        """Build it beside and move it into its place. A journal of the old file must not meet the new one."""
        new = self._path.with_name(f"{self._path.name}.new")
        for leftover in (new, _journal(new)):
            leftover.unlink(missing_ok=True)
        with _writing(new) as db:
            db.executescript(_TABLES)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
            _describe(db, self._campaign, self._embed)
            self._put_all(db, sorted(self._source.judged()))
        _journal(self._path).unlink(missing_ok=True)
        new.replace(self._path)

    def _put_all(self, db: sqlite3.Connection, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), BATCH):
            _put(db, self._source.documents(ids[start : start + BATCH]))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)


def is_behind(path: Path, campaign: str, ids: Sequence[int]) -> bool:
    """Whether the index is not there, not usable, not of this campaign, or lacks one of these experiments."""
    if not path.exists():
        return True
    try:
        with _reading(path) as db:
            _check(db, campaign)
            marks = ", ".join("?" for _ in ids)
            found = db.execute(f"SELECT count(*) FROM words_docsize WHERE id IN ({marks})", list(ids)).fetchone()[0]
            return bool(found < len(set(ids)))
    except DamagedIndexError:
        return True


def search(path: Path, question: str, most: int) -> list[Document]:
    """The documents that have the question's words, best first (bm25, hypotheses and learnings weigh most).

    A document need not have all words. Words that more than `COMMON` experiments have count for the ranking only; where
    there are no others, the newest `NEWEST` experiments are ranked.

    Raises:
        RecallError: the file is missing or cannot be read.
        DamagedIndexError: it is no index of this version, or damaged.
    """
    words = terms(question)
    if not words:
        return []
    with _reading(path) as db:
        _check(db, None)
        rare = [word for word in words if _count(db, word) <= COMMON]
        common = [word for word in words if word not in rare][:MOST_COMMON]
        wanted, oldest = " OR ".join([*rare, *common]), -1
        if not rare:
            oldest = int(db.execute("SELECT coalesce(max(id), 0) FROM words_docsize").fetchone()[0]) - NEWEST
        elif common:
            wanted = f"({' OR '.join(rare)}) AND ({wanted})"
        # the numbers first, then the texts: sorting would carry every candidate's text along
        ranked = f"SELECT rowid FROM words WHERE words MATCH ? AND rowid > ? ORDER BY {_RANK}, rowid DESC LIMIT ?"
        ids = [row[0] for row in db.execute(ranked, (wanted, oldest, most)).fetchall()]
        texts = f"SELECT rowid, {', '.join(_INDEXED)}, rest FROM words WHERE rowid = ?"
        return [_document(db.execute(texts, (id_,)).fetchone()) for id_ in ids]


def embed_command(path: Path) -> str:
    """The program that the arena names for ranking by meaning; empty for none."""
    with _reading(path) as db:
        row = db.execute("SELECT value FROM about WHERE key = 'embed_command'").fetchone()
        return str(row[0]) if row else ""


def ranked_again(found: Sequence[Document], alike: Sequence[int]) -> list[Document]:
    """`found`, ranked by words, merged with a ranking of the same ids by meaning."""
    by_id = {each.id: each for each in found}
    return [by_id[id_] for id_ in fused([list(by_id), alike])]


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, open for one transaction. Its errors come as ours."""
    with _explained(path), contextlib.closing(sqlite3.connect(path, timeout=BUSY_S)) as db:
        # DELETE and not WAL: a reader that sees this one file and nothing else must be able to open it
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = NORMAL")
        with db:
            yield db


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, for reading; where locks are refused (some network file systems), as if nobody could write it."""
    if not path.is_file():
        raise RecallError(
            f"there is no index of experiments at {path}: nothing was tried yet, or the loop could not make one"
        )
    with _explained(path), contextlib.ExitStack() as opened:
        for options in ("mode=ro", "mode=ro&immutable=1"):
            db = opened.enter_context(
                contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?{options}", uri=True, timeout=BUSY_S))
            )
            try:
                db.execute("PRAGMA user_version").fetchone()
                break
            except sqlite3.OperationalError as error:
                if _code(error) not in _NO_ACCESS or "immutable" in options:
                    raise
        yield db


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        text = str(error)
        if "no such module" in text:
            raise RecallError(
                f"the SQLite of this Python ({sqlite3.sqlite_version}) lacks FTS5, so nothing can be recalled; "
                "use a Python whose sqlite3 has it (python.org's, Debian's and conda's do)"
            ) from None
        if _code(error) in _DAMAGE or "no such table" in text or "no such column" in text:
            raise DamagedIndexError(
                f"{path} is damaged ({text}); `ralph recall` in your folder builds it anew"
            ) from None
        raise RecallError(f"{path} cannot be used: {text}") from None


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _check(db: sqlite3.Connection, campaign: str | None) -> None:
    """Raise DamagedIndexError for a file of another version or, where one is given, of another campaign."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA:
        raise DamagedIndexError(f"the index of experiments is of version {version}, not {SCHEMA}")
    row = db.execute("SELECT value FROM about WHERE key = 'campaign'").fetchone()
    if campaign is not None and (row is None or row[0] != campaign):
        raise DamagedIndexError(f"the index of experiments is not that of campaign {campaign}")


def _check_whole(db: sqlite3.Connection) -> None:
    row = db.execute("PRAGMA quick_check(1)").fetchone()
    if row is None or row[0] != "ok":
        raise DamagedIndexError(f"the index of experiments is damaged: {row[0] if row else 'no answer'}")


def _describe(db: sqlite3.Connection, campaign: str, embed: str) -> None:
    rows = (("campaign", campaign), ("embed_command", embed))
    db.executemany("INSERT OR REPLACE INTO about (key, value) VALUES (?, ?)", rows)


def _ids(db: sqlite3.Connection) -> set[int]:
    return set(chain.from_iterable(db.execute("SELECT id FROM words_docsize")))


def _put(db: sqlite3.Connection, documents: Iterable[Document]) -> None:
    rows = (
        (each.id, each.hypothesis, each.reason, "\n".join(each.learnings), each.verdict, each.diff, _rest(each))
        for each in documents
    )
    db.executemany(
        f"INSERT OR REPLACE INTO words (rowid, {', '.join(_INDEXED)}, rest) VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def _rest(each: Document) -> str:
    return json.dumps({k: v for k, v in asdict(each).items() if k in ("score", "delta", "delta_se", "agent")})


def _document(row: Sequence[object]) -> Document:
    id_, hypothesis, reason, learnings, verdict, diff, rest = row
    return Document(
        id=int(str(id_)),
        hypothesis=str(hypothesis),
        reason=str(reason),
        learnings=tuple(line for line in str(learnings).split("\n") if line),
        verdict=str(verdict),
        diff=str(diff),
        **json.loads(str(rest)),
    )


def _count(db: sqlite3.Connection, word: str) -> int:
    """How many documents have a word, as far as it matters."""
    counted = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
    return int(db.execute(counted, (word, COMMON + 1)).fetchone()[0])


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")
