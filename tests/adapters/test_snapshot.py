"""The state beside its ledger: the same state, sooner; never another one."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ralph.adapters import snapshot as snapshots
from ralph.adapters.ledger import FileLedger, encode, read_entries
from ralph.adapters.snapshot import Restored, Snapshots, replay, restore
from ralph.core.fold import State, fold
from ralph.core.shelf import LOOK_BACK
from ralph.errors import LedgerError
from ralph.events import Paused, Settled
from tests.core.states import Story, go_on, night, overnight

NOW = datetime(2026, 11, 26, tzinfo=UTC)


class Folder:
    """A ledger and its snapshot."""

    def __init__(self, folder: Path, story: Story) -> None:
        self.ledger, self.snapshot = folder / "ledger.jsonl", folder / "snapshot"
        self.write(story)

    def write(self, story: Story) -> None:
        """The whole story, with the checksums of a ledger."""
        link, lines = "", []
        for entry in story.entries:
            line, link = encode(entry, link)
            lines.append(line)
        self.ledger.write_bytes(b"".join(lines))

    def restore(self, *, check: bool = True) -> Restored:
        return restore(self.ledger, self.snapshot, check=check)

    def keep(self) -> None:
        """Take a snapshot, as a loop does that is over."""
        found = self.restore()
        book = FileLedger(self.ledger, lambda: NOW, after=found.mark)
        Snapshots(self.snapshot, book, -(1 << 30)).keep(found.state)
        book.close()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path, night())
    made.keep()
    return made


def same(found: State, told: State) -> bool:
    """Whether two states are equal, their experiments with every text."""
    wholes = [{i: s.experiments.whole(i) for i in s.experiments} for s in (found, told)]
    return wholes[0] == wholes[1] and _rest(found) == _rest(told)


def _rest(state: State) -> dict[str, object]:
    names = (name for name in State.__dataclass_fields__ if name not in ("experiments", "memo", "_scores"))
    return {name: getattr(state, name) for name in names}


@pytest.mark.parametrize("check", [True, False])
def test_what_is_restored_is_what_the_ledger_says(folder: Folder, check: bool) -> None:
    found = folder.restore(check=check)
    assert found.used
    assert same(found.state, fold(read_entries(folder.ledger)))
    assert found.mark.offset == folder.ledger.stat().st_size


def test_only_what_came_after_is_read(folder: Folder) -> None:
    """A line before the snapshot that is not looked at cannot be missed: a look finds nothing wrong."""
    data = folder.ledger.read_bytes()
    folder.ledger.write_bytes(data.replace(b"tokens", b"tokenz", 1))
    book = FileLedger(folder.ledger, lambda: NOW, after=folder.restore(check=False).mark)
    book.append(Paused(by="test"))
    book.close()
    found = folder.restore(check=False)
    assert (found.used, found.state.paused) == (True, True)


@pytest.mark.slow
def test_a_long_campaign_is_restored_the_same_with_what_left_the_memory(tmp_path: Path) -> None:
    story = overnight(LOOK_BACK + 200)
    folder = Folder(tmp_path, story)
    folder.keep()
    assert same(folder.restore().state, story.state)
    assert folder.restore(check=False).state.experiments[7] == story.state.experiments[7]


@pytest.mark.slow
def test_a_snapshot_of_a_snapshot_is_as_good_as_the_first(tmp_path: Path) -> None:
    import random

    story = overnight(LOOK_BACK + 50)
    folder = Folder(tmp_path, story)
    for _ in range(3):
        folder.keep()
        go_on(story, random.Random(4), len(story.state.experiments) + 40)
        folder.write(story)
    found = folder.restore()
    assert found.used
    assert same(found.state, story.state)


def test_it_is_written_now_and_then_and_when_the_loop_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    story = night()
    folder = Folder(tmp_path, story)
    found = folder.restore()
    book = FileLedger(folder.ledger, lambda: NOW, after=found.mark)
    index = Snapshots(folder.snapshot, book, found.mark.offset)
    index.keep(found.state)
    assert not folder.snapshot.exists(), "nothing new"
    found.state.apply(book.append(Paused(by="test")))
    index.keep(found.state)
    assert not folder.snapshot.exists(), "not much that is new"
    monkeypatch.setattr(snapshots, "EVERY_BYTES", 10)
    index.keep(found.state)
    assert folder.snapshot.exists()
    book.close()
    assert folder.restore().used


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[: len(data) // 2],
    "empty": lambda _: b"",
    "a flipped bit in its head": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
    "a flipped bit in its body": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "another number of entries": lambda data: data.replace(b'"seq": 1', b'"seq": 2', 1),
    "garbage": lambda data: b"\x80\x04\x95" + data,
    "of other code": lambda data: data.replace(b'"code": "', b'"code": "0', 1),
    "JSON of another kind": lambda _: b"[]\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("check", [True, False])
def test_one_that_is_damaged_is_left_out(folder: Folder, damage: str, check: bool) -> None:
    folder.snapshot.write_bytes(DAMAGES[damage](folder.snapshot.read_bytes()))
    found = folder.restore(check=check)
    assert not found.used
    assert same(found.state, fold(read_entries(folder.ledger)))


def test_one_of_another_ledger_is_left_out(folder: Folder) -> None:
    folder.write(overnight(30))
    for check in (True, False):
        found = folder.restore(check=check)
        assert (found.used, len(found.state.experiments)) == (False, 31)


def test_one_of_a_ledger_whose_end_was_cut_off_is_left_out(folder: Folder) -> None:
    lines = folder.ledger.read_bytes().splitlines(keepends=True)
    folder.ledger.write_bytes(b"".join(lines[:-4]))
    for check in (True, False):
        found = folder.restore(check=check)
        assert (found.used, found.state.seq) == (False, len(lines) - 4)


def test_damage_before_it_is_noticed_by_who_checks_and_named(folder: Folder) -> None:
    data = folder.ledger.read_bytes()
    at = data.index(b"\n") + 30
    folder.ledger.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(LedgerError, match="line 2 "):
        folder.restore(check=True)


@pytest.mark.parametrize("check", [True, False])
def test_damage_behind_it_is_always_noticed(folder: Folder, check: bool) -> None:
    with folder.ledger.open("ab") as file:
        file.write(b'{"v":1,"seq":7}\n')
    with pytest.raises(LedgerError, match="ralph ledger verify"):
        folder.restore(check=check)


def test_a_ledger_goes_on_behind_a_snapshot_and_its_torn_end_is_cut(folder: Folder) -> None:
    whole = folder.ledger.read_bytes()
    folder.ledger.write_bytes(whole + b'{"v":1,')
    found = folder.restore()
    book = FileLedger(folder.ledger, lambda: NOW, after=found.mark)
    assert (book.torn, list(book.entries())) == (b'{"v":1,', [])
    entry = book.append(Settled(id=0))
    book.close()
    assert list(read_entries(folder.ledger))[-1] == entry
    assert folder.ledger.read_bytes().startswith(whole)


def test_a_replay_shows_the_state_after_each_event(folder: Folder) -> None:
    seqs = [state.seq for state, _ in replay(folder.ledger)]
    assert seqs == list(range(1, len(night().entries) + 1))


def test_a_disk_that_takes_no_snapshot_stops_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path, night())
    folder.snapshot = tmp_path / "ledger.jsonl" / "snapshot"
    folder.keep()
    assert not folder.restore().used
