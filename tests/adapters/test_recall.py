"""The index of what was tried: found by its words, mended by itself, read while it is written."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ralph.adapters.recall import RecallError, RecallIndex, is_behind, search
from ralph.adapters.sandbox import Policy, SandboxLevel, reached, wrap
from ralph.model import Document

needs_bwrap = pytest.mark.skipif(
    reached(SandboxLevel.BWRAP).level is not SandboxLevel.BWRAP, reason="bubblewrap does not work here"
)


def doc(id_: int, hypothesis: str = "", **more: object) -> Document:
    made = Document(id=id_, verdict="discard", reason="clearly worse", hypothesis=hypothesis or f"idea {id_}")
    return replace(made, **more)  # type: ignore[arg-type]


@dataclass
class Told:
    """A source that knows what it is given, and remembers what it was asked for."""

    known: dict[int, Document] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    def judged(self) -> set[int]:
        return set(self.known)

    def documents(self, ids: Sequence[int]) -> Iterable[Document]:
        self.asked += ids
        return (self.known[id_] for id_ in ids)


def source_of(*documents: Document) -> Told:
    return Told(known={each.id: each for each in documents})


THREE = (
    doc(1, "5% warm-up, because early steps are noisy", score=0.9826, delta=0.001, delta_se=0.0004, agent="claude"),
    doc(2, "depth 9", learnings=("MATRIX_LR must shrink with depth",), diff="-DEPTH = 8\n+DEPTH = 9"),
    doc(
        3, "batch 192", verdict="crash", reason="torch.OutOfMemoryError: CUDA out of memory", diff="+DEVICE_BATCH = 192"
    ),
)


@pytest.fixture
def path(hostile: Path) -> Path:
    return hostile / "state" / "recall.db"


def index(path: Path, source: Told, campaign: str = "nov23") -> RecallIndex:
    return RecallIndex(path, campaign=campaign, source=source)


def ids(path: Path, question: str, most: int = 10) -> list[int]:
    return [each.id for each in search(path, question, most)]


def all_ids(path: Path) -> set[int]:
    with sqlite3.connect(path) as db:
        found = {row[0] for row in db.execute("SELECT rowid FROM words")}
    db.close()
    return found


def test_an_experiment_is_found_by_hypothesis_reason_learning_verdict_and_diff(path: Path) -> None:
    index(path, source_of(*THREE)).catch_up()
    assert ids(path, "warm-up") == [1]
    assert ids(path, "outofmemoryerror") == [3]
    assert ids(path, "matrix_lr shrinking") == [2], "in any form of its words"
    assert ids(path, "crash") == [3]
    assert ids(path, "DEVICE_BATCH") == [3]
    assert ids(path, "nothing like it") == []


def test_answers_come_back_as_they_were_told(path: Path) -> None:
    index(path, source_of(*THREE)).catch_up()
    assert search(path, "depth warm-up batch", 9) == sorted(
        THREE, key=lambda each: ids(path, "depth warm-up batch").index(each.id)
    )


def test_what_a_hypothesis_says_counts_more_than_what_a_diff_has(path: Path) -> None:
    index(path, source_of(doc(1, "x", diff="+rotary"), doc(2, "rotary base"), doc(3, "y", diff="+rotary"))).catch_up()
    assert ids(path, "rotary")[0] == 2
    assert ids(path, "rotary", most=1) == [2]


def test_the_one_with_more_of_the_words_comes_first(path: Path) -> None:
    index(path, source_of(doc(1, "rotary base"), doc(2, "short rotary window"), doc(3, "window"))).catch_up()
    assert ids(path, "rotary window")[0] == 2


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60) | st.text(alphabet="\"*^:-+()' ANDORNEAR.,", max_size=40))
def test_no_question_is_a_syntax_error(path: Path, question: str) -> None:
    if not path.exists():
        index(path, source_of(*THREE)).catch_up()
    search(path, question, 3)


def test_remembering_once_more_changes_nothing_and_a_newer_one_takes_the_place(path: Path) -> None:
    made = index(path, source_of(*THREE))
    made.catch_up()
    for _ in range(2):
        made.remember(doc(4, "tie the weights"))
    assert ids(path, "tie") == [4]
    made.remember(doc(4, "untie the weights"))
    assert (ids(path, "tie"), ids(path, "untie"), len(all_ids(path))) == ([], [4], 4)


def test_only_what_is_missing_is_brought_in(path: Path) -> None:
    source = source_of(*THREE)
    index(path, source).catch_up()
    source.asked.clear()
    source.known[4] = doc(4)
    index(path, source).catch_up()
    assert source.asked == [4]
    assert all_ids(path) == {1, 2, 3, 4}


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    match how:
        case "missing":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "no database":
            path.write_bytes(b"not a database\n" * 500)
        case "truncated":
            path.write_bytes(data[: len(data) // 2])
        case "overwritten":
            path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
        case "of another version":
            with sqlite3.connect(path) as db:
                db.execute("PRAGMA user_version = 99")
            db.close()
        case "without its table":
            with sqlite3.connect(path) as db:
                db.execute("DROP TABLE words")
            db.close()
        case "with a dead writer's journal":
            path.write_bytes(b"not a database\n" * 500)
            path.with_name(path.name + "-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\1" * 4000)
        case "ahead of its ledger":
            index(path, source_of(*THREE)).remember(doc(99))
        case _:
            raise AssertionError(how)


HARMS = (
    "missing",
    "empty",
    "no database",
    "truncated",
    "overwritten",
    "of another version",
    "without its table",
    "with a dead writer's journal",
    "ahead of its ledger",
)


@pytest.mark.parametrize("how", HARMS)
def test_whatever_is_wrong_with_the_file_it_is_built_anew(path: Path, how: str) -> None:
    index(path, source_of(*THREE)).catch_up()
    damage(path, how)
    index(path, source_of(*THREE)).catch_up()
    assert all_ids(path) == {1, 2, 3}
    assert ids(path, "warm-up") == [1]
    assert sorted(each.name for each in path.parent.iterdir()) == ["recall.db", "recall.db.lock"]


@pytest.mark.parametrize("how", [how for how in HARMS if how != "ahead of its ledger"])
def test_damage_is_mended_while_the_loop_goes_on(path: Path, how: str) -> None:
    made = index(path, source_of(*THREE))
    made.catch_up()
    damage(path, how)
    made.remember(doc(4, "tie the weights"))
    if how not in ("truncated", "overwritten"):  # a page that no write touches is found by the next start
        assert all_ids(path) == {1, 2, 3, 4}
    made.catch_up()
    assert all_ids(path) >= {1, 2, 3}


def test_another_campaigns_index_is_not_this_ones(path: Path) -> None:
    index(path, source_of(*THREE)).catch_up()
    index(path, source_of(doc(1, "new")), campaign="nov24").catch_up()
    assert all_ids(path) == {1}
    assert ids(path, "new") == [1]


def test_a_reader_knows_when_the_index_is_behind(path: Path) -> None:
    assert is_behind(path, "nov23", [])
    index(path, source_of(*THREE)).catch_up()
    assert not is_behind(path, "nov23", [1, 3, 3])
    assert is_behind(path, "nov23", [3, 4])
    assert is_behind(path, "nov24", [3])
    damage(path, "no database")
    assert is_behind(path, "nov23", [3])


def test_without_an_index_the_error_says_why_there_is_none(path: Path) -> None:
    with pytest.raises(RecallError, match="nothing was tried yet"):
        search(path, "x", 3)


def test_an_sqlite_without_fts5_is_named_and_not_taken_for_damage(path: Path) -> None:
    """A table of a module that no SQLite has stands in for one that this SQLite has not."""
    index(path, source_of(*THREE)).catch_up()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET sql = replace(sql, 'USING fts5', 'USING fts9') WHERE name = 'words'")
    db.close()
    for use in (lambda: search(path, "x", 3), lambda: index(path, source_of(*THREE)).remember(doc(4))):
        with pytest.raises(RecallError, match=r"lacks FTS5.*use a Python whose sqlite3 has it"):
            use()


def test_it_is_read_while_somebody_writes(path: Path) -> None:
    index(path, source_of(*THREE)).catch_up()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE about SET value = 'x'")
    assert ids(path, "warm-up") == [1]
    writer.execute("ROLLBACK")
    writer.close()


SEARCH = """
import pathlib, sys
from ralph.adapters.recall import search

print(*[each.id for each in search(pathlib.Path(sys.argv[1]), sys.argv[2], 3)])
"""


def confined(path: Path, question: str) -> "subprocess.CompletedProcess[str]":
    """Search where of the folder only this one file can be seen, read-only."""
    policy = Policy(read_only=(path,), hidden=(path.parent.parent,))
    argv = wrap(SandboxLevel.BWRAP, policy, (sys.executable, "-P", "-c", SEARCH, str(path), question))
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@needs_bwrap
def test_it_is_read_through_a_read_only_mount_while_the_supervisor_writes(path: Path) -> None:
    made = index(path, source_of(*THREE))
    made.catch_up()
    assert confined(path, "warm-up").stdout == "1\n"
    made.remember(doc(4, "tie the weights"))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    done = confined(path, "tie")
    writer.execute("ROLLBACK")
    writer.close()
    assert (done.stdout, done.stderr) == ("4\n", "")


@needs_bwrap
def test_a_file_that_cannot_be_locked_is_read_as_if_nobody_could_write_it(path: Path) -> None:
    """A file in WAL mode cannot be opened on a read-only mount in the usual way."""
    index(path, source_of(*THREE)).catch_up()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal"
    db.close()
    assert confined(path, "warm-up").stdout == "1\n"


WRITER = """
import pathlib, sys
from ralph.adapters.recall import RecallIndex
from ralph.model import Document

class Nothing:
    def judged(self): return set()
    def documents(self, ids): return ()

made = RecallIndex(pathlib.Path(sys.argv[1]), campaign="nov23", source=Nothing())
for n in range(10_000):
    made.remember(Document(id=n, verdict="keep", hypothesis=f"idea {n} " + "because " * 50, diff="+x\\n" * 400))
    print(n, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_told(path: Path) -> None:
    for kill_after in (1, 7, 15):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            told = [int(writer.stdout.readline()) for _ in range(kill_after)]
            os.kill(writer.pid, signal.SIGKILL)
            told += [int(line) for line in writer.stdout.read().split("\n") if line.isdigit()]
        source = source_of(*(doc(n) for n in sorted(set(told) | set(range(20)))))
        index(path, source).remember(doc(19))
        assert set(told) <= all_ids(path)


@pytest.mark.slow
def test_at_a_hundred_thousand_experiments_a_question_is_quick_and_an_update_costs_what_it_did_before(
    tmp_path: Path,
) -> None:
    """Processor time, so that what else the machine does is not measured."""

    def many(count: int) -> tuple[Path, RecallIndex]:
        path = tmp_path / f"{count}.db"
        words = [f"word{n % 977} word{n % 89} learning rate {n}" for n in range(count)]
        made = index(path, source_of(*(doc(n, words[n], diff=f"-LR = {n}\n+LR = {n + 1}\n" * 5) for n in range(count))))
        made.catch_up()
        return path, made

    def updating(made: RecallIndex, first: int) -> float:
        before = time.process_time()
        for n in range(first, first + 50):
            made.remember(doc(n, f"word{n} learning", diff="+LR = 1\n" * 5))
        return (time.process_time() - before) / 50

    (_, few), (path, lots) = many(1_000), many(100_000)
    questions = ("word7", "word7 word9", "learning rate", "clearly worse", "LR", "word3 learning rate discard", "idea")
    cpu_s = {}
    for question in questions:
        before = time.process_time()
        search(path, question, 8)
        cpu_s[question] = time.process_time() - before
    at_1k, at_100k = updating(few, 1_000), updating(lots, 100_000)
    print(json.dumps({"question_s": cpu_s, "update_s": {"1,000": at_1k, "100,000": at_100k}}, indent=1))
    assert max(cpu_s.values()) < 0.05
    assert at_100k < 3 * at_1k + 0.002
