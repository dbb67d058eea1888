"""What is wrong with a ledger, said precisely."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ralph.adapters.ledger import FileLedger
from ralph.adapters.ledger_health import Health, examine
from ralph.errors import LedgerError
from ralph.events import AgentEnded, Briefed, Settled
from ralph.model import AgentOutcome

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def filled(path: Path, base: str = "abc") -> list[bytes]:
    """Three experiments of three entries each; the lines."""
    ledger = FileLedger(path, lambda: NOW)
    for id_ in (1, 2, 3):
        ledger.append(Briefed(id=id_, base=base, agent="tuner", guidance=("“ü”\r\n",)))
        ledger.append(AgentEnded(id=id_, attempt=1, outcome=AgentOutcome.NOTHING, reason="x", seconds=1.5))
        ledger.append(Settled(id=id_))
    ledger.close()
    return path.read_bytes().split(b"\n")[:-1]


def written(path: Path, lines: list[bytes]) -> Health:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return examine(path, path.parent / "experiments")


def flip(line: bytes) -> bytes:
    at = line.index(b"abc")
    return line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]


def test_a_whole_ledger_is_sound(tmp_path: Path) -> None:
    lines = filled(tmp_path / "ledger.jsonl")
    health = written(tmp_path / "ledger.jsonl", lines)
    assert health.sound
    assert (health.entries, health.good_bytes, health.lost) == (9, health.size, 0)


DAMAGES: dict[str, tuple[Callable[[list[bytes]], list[bytes]], int, str]] = {
    "a flipped bit": (lambda rows: [*rows[:3], flip(rows[3]), *rows[4:]], 4, "does not match its checksum"),
    "a changed checksum": (lambda rows: [*rows[:3], rows[3][:-3] + b'g"}', *rows[4:]], 4, "match its checksum"),
    "a truncated middle": (
        lambda rows: [*rows[:3], rows[3][:20] + rows[5][30:], *rows[6:]],
        4,
        "is no entry of a ledger",
    ),
    "lines that are missing": (lambda rows: [*rows[:3], *rows[6:]], 4, "is entry 7: entries 4 to 6 are missing"),
    "one line that is missing": (lambda rows: [*rows[:3], *rows[4:]], 4, "is entry 5: entry 4 is missing"),
    "a doubled line": (lambda rows: [*rows[:3], rows[2], *rows[3:]], 4, "is line 3 once more"),
    "swapped lines": (lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]], 4, "is entry 5: out of order"),
    "garbage": (lambda rows: [*rows[:3], b"\x00\xff{", *rows[4:]], 4, "is no entry of a ledger"),
    "an empty line": (lambda rows: [*rows[:3], b"", *rows[3:]], 4, "is no entry of a ledger"),
    "damage in the first line": (lambda rows: [flip(rows[0]), *rows[1:]], 1, "does not match its checksum"),
    "no checksum": (lambda rows: [*rows[:3], rows[3].partition(b',"sum"')[0] + b"}", *rows[4:]], 4, "has no checksum"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_first_bad_line_is_named_with_its_place_and_what_was_lost(tmp_path: Path, kind: str) -> None:
    damaged, line, problem = DAMAGES[kind]
    path = tmp_path / "ledger.jsonl"
    lines = damaged(filled(path))
    health = written(path, lines)
    assert health.damage is not None
    assert (health.damage.line, health.entries) == (line, line - 1)
    assert health.damage.offset == health.good_bytes == sum(len(each) + 1 for each in lines[: line - 1])
    assert problem in health.damage.problem
    assert health.damage.reads.isprintable()
    assert health.lost == len(lines) - line + 1
    assert set(health.lost_ids) >= {3}
    with pytest.raises(LedgerError, match=rf"line {line} .*ralph ledger verify"):
        FileLedger(path, lambda: NOW)


def test_a_line_of_another_ledger_is_not_believed(tmp_path: Path) -> None:
    lines, others = filled(tmp_path / "ledger.jsonl"), filled(tmp_path / "other.jsonl", base="xyz")
    health = written(tmp_path / "ledger.jsonl", [*lines[:3], others[3], *lines[4:]])
    assert health.damage is not None
    assert (health.damage.line, "belongs to another ledger" in health.damage.problem) == (4, True)


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_torn_tail_is_no_damage(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger.jsonl"
    data = b"".join(line + b"\n" for line in filled(path))[:-cut]
    path.write_bytes(data)
    health = examine(path, tmp_path / "experiments")
    assert health.sound
    assert (health.entries, health.torn > 0) == (8, True)
    assert path.read_bytes() == data


def test_a_last_newline_that_became_another_byte_is_damage_and_not_a_torn_tail(tmp_path: Path) -> None:
    """Else an entry that was acknowledged would be cut off as if it had never been."""
    path = tmp_path / "ledger.jsonl"
    filled(path)
    damaged = path.read_bytes()[:-1] + b"\x0b"
    path.write_bytes(damaged)
    health = examine(path, tmp_path / "experiments")
    assert health.damage is not None
    assert (health.damage.line, health.damage.problem) == (9, "ends with a wrong byte")
    with pytest.raises(LedgerError, match="line 9 ends with a wrong byte"):
        FileLedger(path, lambda: NOW)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("there", [True, False])
def test_an_empty_or_missing_ledger_is_sound_only_where_nothing_was_tried(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "ledger.jsonl"
    if there:
        path.touch()
    assert examine(path, tmp_path / "experiments").sound
    begun(tmp_path, 2)
    assert examine(path, tmp_path / "experiments").strays == [2]


def begun(root: Path, id_: int) -> None:
    folder = root / "experiments" / f"{id_:06d}"
    folder.mkdir(parents=True)
    (folder / "brief-1.md").touch()


@pytest.mark.parametrize("ordered", ["agent-1/facts.json", "gateway-1/calls.jsonl"])
def test_what_was_made_for_an_agent_that_stood_by_is_no_experiment(ordered: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = filled(path)
    folder = tmp_path / "experiments" / "000004"
    for standing_by in ("agent-1", "gateway-1/domain"):
        (folder / standing_by).mkdir(parents=True)
        assert written(path, lines).sound
    (folder / ordered).touch()
    assert written(path, lines).strays == [4]


def test_a_ledger_whose_end_was_cut_off_shows_by_the_folders(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = filled(path)
    for id_ in (0, 1, 2, 3):
        begun(tmp_path, id_)
    assert written(path, lines[:7]).sound
    assert written(path, lines[:6]).strays == [3]
