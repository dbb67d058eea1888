"""`ralph ledger verify` and `repair` on damaged campaigns: nothing is dropped silently, and the loop goes on."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.ledger import read_entries
from ralph.events import Event, Judged, RunEnded, Settled
from ralph.model import Verdict
from tests.arenas import TRAIN, ToyArena, edit, toy_arena
from tests.conftest import git

STEPS = [edit("LEARNING_RATE", 0.3), edit("WIDTH", 4), edit("LEARNING_RATE", 0.2), edit("WIDTH", 16)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign of three experiments: keep, discard, keep."""
    arena = toy_arena(tmp_path_factory.mktemp("played") / "arena", STEPS)
    assert arena.loop(3).status == 0
    return arena.root


@pytest.fixture
def arena(played: Path, tmp_path: Path) -> ToyArena:
    """A copy of it, worktrees and all."""
    subprocess.run(["cp", "-a", str(played), str(tmp_path / "arena")], check=True)
    return ToyArena(root=tmp_path / "arena")


def ledger(arena: ToyArena) -> Path:
    return arena.root / "state" / "ledger.jsonl"


def lines(arena: ToyArena) -> list[bytes]:
    return ledger(arena).read_bytes().splitlines(keepends=True)


def place(arena: ToyArena, wanted: Callable[[Event], bool]) -> int:
    """The index of the first line with such an event."""
    return next(n for n, entry in enumerate(read_entries(ledger(arena))) if wanted(entry.event))


def damage(arena: ToyArena, at: int) -> None:
    """Flip a bit of one line."""
    found = lines(arena)
    found[at] = found[at].replace(b'"kind"', b'"kinc"', 1)
    ledger(arena).write_bytes(b"".join(found))


def runs_of(arena: ToyArena, before: int) -> dict[str, bytes]:
    """The nonces of the runs whose end stands among the first entries."""
    ended = [e.event for e in list(read_entries(ledger(arena)))[:before] if isinstance(e.event, RunEnded)]
    names = {f"{e.id:06d}/run-{e.run}" for e in ended}
    return {name: nonce for name, nonce in arena.nonces().items() if name in names}


def of(kind: type[Event], id_: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, kind) and getattr(event, "id", None) == id_


POINTS: dict[str, Callable[[ToyArena], int]] = {
    "before a brief": lambda a: place(a, of(Settled, 1)) + 1,
    "after a brief": lambda a: place(a, of(Settled, 1)) + 2,
    "after an agent's end": lambda a: place(a, of(Settled, 1)) + 3,
    "after a commit": lambda a: place(a, of(Settled, 1)) + 4,
    "after a run's start": lambda a: place(a, of(RunEnded, 2)),
    "after a run's end": lambda a: place(a, of(RunEnded, 2)) + 1,
    "at a verdict": lambda a: place(a, of(Judged, 3)),
    "after a keep's verdict": lambda a: place(a, of(Judged, 3)) + 1,
    "in the baseline": lambda a: place(a, of(RunEnded, 0)) + 1,
}
QUICK = {"after a keep's verdict"}


@pytest.mark.parametrize(
    "point", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in POINTS]
)
def test_after_damage_anywhere_a_repaired_ledger_goes_on_and_repeats_no_run_that_stands(
    arena: ToyArena, point: str
) -> None:
    at = POINTS[point](arena)
    stands, before = runs_of(arena, at), ledger(arena).read_bytes()
    old = {row["id"]: row["commit"] for row in arena.json("log")}
    verdicts = {e.id: e.verdict for e in arena.events()[:at] if isinstance(e, Judged)}
    damage(arena, at)
    damaged = ledger(arena).read_bytes()
    refused = arena.loop(3)
    assert (refused.status, "ralph ledger verify" in refused.err) == (3, True), refused
    assert (arena.root / "progress.md").read_text().startswith("**parked**")
    assert f"line {at + 1}" in (arena.root / "progress.md").read_text().splitlines()[0]
    assert ledger(arena).read_bytes() == damaged
    verified = arena.ralph("ledger", "verify")
    offset = sum(len(line) for line in before.splitlines(keepends=True)[:at])
    assert verified.status == 3
    assert f"line {at + 1}, which begins at byte {offset}, does not match its checksum" in verified.out
    repaired = arena.ralph("ledger", "repair")
    assert repaired.status == 0, repaired
    assert f"{at} entries kept" in repaired.out
    assert (arena.root / "state" / "ledger.jsonl.damaged-1").read_bytes() == damaged
    assert ledger(arena).read_bytes().startswith(before[:offset])
    assert "the ledger was repaired" in arena.json("status")["reason"]
    done = arena.loop(3)
    assert done.status == 0, done
    assert arena.ralph("ledger", "verify").status == 0
    judged = {e.id: e.verdict for e in arena.events() if isinstance(e, Judged)}
    assert judged.items() >= verdicts.items()
    assert set(judged) == {0, 1, 2, 3}
    assert Verdict.INVALID not in judged.values()
    assert {name: arena.nonces().get(name, nonce) for name, nonce in stands.items()} == stands
    assert set(old.values()) <= set(git(arena.root, "for-each-ref", "--format=%(objectname)").split()), "none is lost"
    rows = (arena.root / "state" / "history.jsonl").read_text().splitlines()
    assert [json.loads(row)["id"] for row in rows] == [0, 1, 2, 3]
    incumbent = arena.json("status")["incumbent"]["commit"]
    assert git(arena.root, "rev-parse", f"ralph/{arena.json('status')['campaign']}") == incumbent


@pytest.mark.slow
def test_the_experiments_that_are_not_carried_over_are_named_and_kept_aside(arena: ToyArena) -> None:
    damage(arena, place(arena, of(Settled, 1)) + 1)
    before = (arena.root / "state/experiments/000003/brief-1.md").read_bytes()
    said = arena.ralph("ledger", "repair").out
    assert "not carried over (experiments #2, #3)" in said
    kept = arena.root / "state/archive/damaged-1/experiments"
    assert (kept / "000003/brief-1.md").read_bytes() == before
    assert sorted(p.name for p in (arena.root / "state/experiments").iterdir()) == ["000000", "000001"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "emptied",
    ["cut at a line", "emptied", "removed", "line 1 damaged"],
)
def test_a_ledger_that_lost_all_or_its_end_is_not_begun_anew_over_the_old_experiments(
    arena: ToyArena, emptied: str
) -> None:
    match emptied:
        case "emptied":
            ledger(arena).write_bytes(b"")
        case "removed":
            ledger(arena).unlink()
        case "cut at a line":
            ledger(arena).write_bytes(b"".join(lines(arena)[: place(arena, of(Settled, 2))]))
        case _:
            damage(arena, 0)
    nonces = arena.nonces()
    refused = arena.loop(3)
    assert (refused.status, "ralph ledger repair" in refused.err) == (3, True), refused
    assert arena.nonces() == nonces
    assert arena.ralph("ledger", "repair").status == 0
    done = arena.loop(3)
    assert done.status == 0, done
    assert [e.id for e in arena.events() if isinstance(e, Judged)] == [0, 1, 2, 3]


@pytest.mark.slow
def test_a_new_campaign_may_begin_over_a_ledger_that_is_gone_and_the_old_folders_are_kept(arena: ToyArena) -> None:
    ledger(arena).unlink()
    done = arena.ralph("loop", "--new", "--max-experiments", "1")
    assert done.status == 0, done
    assert (arena.root / "state/archive/unknown/experiments/000003").is_dir()


def test_a_sound_ledger_is_left_as_it_is_and_a_torn_tail_is_the_loops_own_business(arena: ToyArena) -> None:
    before = ledger(arena).read_bytes()
    assert "nothing is to be repaired" in arena.ralph("ledger", "repair").out
    ledger(arena).write_bytes(before + b'{"v":1,"seq"')
    verified = arena.ralph("ledger", "verify")
    assert (verified.status, "the next loop cuts it" in verified.out) == (0, True)
    assert "nothing is to be repaired" in arena.ralph("ledger", "repair").out
    assert not list((arena.root / "state").glob("*.damaged-*"))
    assert arena.loop(3).status == 0
    assert ledger(arena).read_bytes().startswith(before)


@pytest.mark.slow
def test_no_repair_while_a_supervisor_is_at_work(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", STEPS, train=TRAIN.replace("score =", "import time; time.sleep(30)\nscore ="))
    loop = subprocess.Popen(arena.argv("loop"), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not arena.nonces():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        damaged = ledger(arena).read_bytes().replace(b'"seq":2', b'"seq":3', 1)
        refused = arena.ralph("ledger", "repair")
        assert (refused.status, "already at work" in refused.err) == (3, True), refused
        ledger(arena).write_bytes(damaged)
        assert arena.ralph("ledger", "repair").status == 3
        assert ledger(arena).read_bytes() == damaged
    finally:
        assert arena.ralph("stop", "--now").status == 0
        loop.wait(timeout=60)


def test_verify_answers_in_json(arena: ToyArena) -> None:
    assert arena.json("ledger", "verify")["sound"]
    damage(arena, 5)
    found = json.loads(arena.ralph("ledger", "verify", "--json").out)
    assert (found["sound"], found["entries"], found["damage"]["line"]) == (False, 5, 6)


@pytest.mark.slow
def test_a_repair_that_was_begun_twice_keeps_both_damaged_ledgers(arena: ToyArena) -> None:
    for number in (1, 2):
        damage(arena, place(arena, of(Settled, 3 - number)))
        assert arena.ralph("ledger", "repair").status == 0
        assert (arena.root / f"state/ledger.jsonl.damaged-{number}").exists()
    assert arena.loop(3).status == 0
