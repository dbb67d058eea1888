"""The ledger on disk."""

import errno
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ralph.adapters.ledger import FileLedger, read_entries
from ralph.core.fold import fold
from ralph.core.superseded import in_force
from ralph.errors import LedgerError
from ralph.events import AgentEnded, Briefed, Committed, Event, Judged, Settled
from ralph.model import AgentOutcome, CrashKind, Learning, Superseded, Verdict

GOLDEN = Path(__file__).parents[1] / "core" / "golden" / "ledger_0_1.jsonl"
NOW = datetime(2026, 11, 23, 20, 0, 0, 123000, tzinfo=UTC)
EVENTS: list[Event] = [
    Briefed(id=1, base="abc", agent="tuner", guidance=("leave the tokenizer alone — “ü” \n",)),
    AgentEnded(id=1, attempt=1, outcome=AgentOutcome.PROPOSED, reason="ended", seconds=1.5),
    Committed(
        id=1,
        commit="def",
        hypothesis="x because y",
        learnings=(Learning(text="a", evidence=(0,)),),
        constants={"train.py:LR": 0.1, "train.py:NAME": "x", "train.py:ON": True},
    ),
    Judged(id=1, verdict=Verdict.CRASH, reason="boom", crash=CrashKind.NAN),
    Settled(id=1),
]


def ledger(path: Path) -> FileLedger:
    return FileLedger(path, lambda: NOW)


def filled(path: Path) -> list[object]:
    book = ledger(path)
    entries = [book.append(event) for event in EVENTS]
    book.close()
    return list(entries)


def test_what_is_appended_is_read_back_the_same(tmp_path: Path) -> None:
    entries = filled(tmp_path / "ledger.jsonl")
    assert list(read_entries(tmp_path / "ledger.jsonl")) == entries
    assert [e.event for e in read_entries(tmp_path / "ledger.jsonl")] == EVENTS


def test_a_ledger_goes_on_where_it_ended(tmp_path: Path) -> None:
    filled(tmp_path / "ledger.jsonl")
    book = ledger(tmp_path / "ledger.jsonl")
    assert len(list(book.entries())) == len(EVENTS)
    book.append(Settled(id=2))
    book.close()
    assert [e.seq for e in read_entries(tmp_path / "ledger.jsonl")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_tail_is_cut_back_to_the_last_whole_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.jsonl"
    filled(path)
    path.write_bytes(path.read_bytes()[:-cut])
    book = ledger(path)
    assert book.torn
    assert [e.event for e in book.entries()] == EVENTS[:-1]
    book.append(Settled(id=1))
    book.close()
    assert [e.event for e in read_entries(path)] == EVENTS


def test_a_reader_does_not_see_a_line_that_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    filled(path)
    with path.open("ab") as file:
        file.write(b'{"v":1,"seq":6')
    assert len(list(read_entries(path))) == len(EVENTS)


@pytest.mark.parametrize("damage", ["flip", "drop", "swap", "garbage"])
def test_damage_in_the_middle_is_an_error_that_names_the_line_and_changes_nothing(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "ledger.jsonl"
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    match damage:
        case "flip":
            lines[1] = lines[1].replace(b"1.5", b"1.6")
        case "drop":
            del lines[1]
        case "swap":
            lines[1], lines[2] = lines[2], lines[1]
        case _:
            lines[1] = b"\x00\xff not json\n"
    path.write_bytes(b"".join(lines))
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="line 2 "):
        ledger(path)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"v":99,"seq":1,"at":"2026-01-01T00:00:00Z","event":{},"sum":"0"}\n')
    with pytest.raises(LedgerError, match="newer ralph"):
        ledger(path)


def test_a_full_disk_leaves_the_ledger_as_it_was() -> None:
    """/dev/full would hide the file; a limit on the file's size gives the same short write and error."""
    program = (
        "import resource, signal, sys, pathlib\n"
        "from datetime import UTC, datetime\n"
        "from ralph.adapters.ledger import FileLedger, read_entries\n"
        "from ralph.events import Settled\n"
        "import tempfile\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'ledger.jsonl'\n"
        "book = FileLedger(path, lambda: datetime.now(UTC))\n"
        "book.append(Settled(id=1))\n"
        "size = path.stat().st_size\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    book.append(Settled(id=2))\n"
        "except OSError as error:\n"
        "    assert path.stat().st_size == size, path.read_bytes()\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    book.append(Settled(id=3))\n"
        "    print(error.errno, [e.event.id for e in read_entries(path)])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == f"{errno.EFBIG} [1, 3]"


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A writer acknowledges each append on its standard output and is killed; every acknowledged entry is there."""
    path = tmp_path / "ledger.jsonl"
    program = (
        "import sys, pathlib\n"
        "from datetime import UTC, datetime\n"
        "from ralph.adapters.ledger import FileLedger\n"
        "from ralph.events import Settled\n"
        "book = FileLedger(pathlib.Path(sys.argv[1]), lambda: datetime.now(UTC))\n"
        "while True:\n"
        "    print(book.append(Settled(id=7)).seq, flush=True)\n"
    )
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        heard = [int(writer.stdout.readline()) for _ in range(20)]
        writer.kill()
        heard += [int(line) for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
        assert len(list(read_entries(path))) >= max(heard)


def test_a_ledger_of_the_first_schema_replays() -> None:
    """From before meanings, replicates and reasons for what is superseded."""
    state = fold(read_entries(GOLDEN))
    assert [e.verdict for e in state.experiments.values()][:4] == ["keep", "keep", "discard", "discard"]
    superseding = state.experiments[3].proposal
    assert superseding is not None
    assert superseding.supersedes == (Superseded(learning="#2"), Superseded(learning="warm-up hurts"))
    assert superseding.replicates is None
    assert len(state.meanings) == 0
    assert in_force(["- [nov23#2] warm-up hurts (evidence: #2)"], state) == []


def test_what_a_proposal_says_of_others_comes_back_as_it_was_told(tmp_path: Path) -> None:
    said = Committed(
        id=2,
        commit="def",
        hypothesis="x",
        supersedes=(Superseded(learning="#1", because="y", evidence=(1,)), Superseded(learning="z")),
        meaning="abc",
        replicates=1,
    )
    book = ledger(tmp_path / "ledger.jsonl")
    book.append(said)
    book.close()
    assert [entry.event for entry in read_entries(tmp_path / "ledger.jsonl")] == [said]


def test_what_is_written_without_haste_outlives_its_writer_and_lasts_from_the_next_entry_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    path = tmp_path / "ledger.jsonl"
    book = ledger(path)
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(len(list(read_entries(path)))))
    for event in EVENTS[:2]:
        book.append(event, durable=False)
    assert len(list(read_entries(path))) == 2
    assert synced == []
    book.append(EVENTS[2])
    assert synced == [3], "one for all three"
    book.sync()
    assert synced == [3]
    book.append(EVENTS[3], durable=False)
    book.sync()
    book.sync()
    assert synced == [3, 4]
    book.close()
