"""What compilers left: kept for later runs, the baseline's for all and a program's for itself; poisoned by none."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from ralph.adapters import compiled
from ralph.adapters.compiled import BASE, CompileCache, program_of
from ralph.adapters.runner import LocalRunner
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.events import RunEnded
from ralph.model import Outcome
from tests.adapters.test_early import RUN, Bench, finish

MOST = 10**6
MODES = ("human", "honest", "other", "poisons", "hoards", "crashes")
TRAIN = """\
import json, os, pathlib, socket, sys

out, cache = (pathlib.Path(os.environ[name]) for name in ("RALPH_RUN_DIR", "TRITON_CACHE_DIR"))
gun = socket.socket(fileno=int(os.environ["RALPH_GUN_FD"]))

def say(packet):
    gun.send(json.dumps(packet).encode())
    return json.loads(socket.recv_fds(gun, 65536, 4)[0] or "{}")

found = {each.name: each.read_text() for each in cache.iterdir()}
(out / "found").write_text(json.dumps(found))
assert say({"device": {}})
(cache / f"of-{MODE}").write_text(MODE)
if MODE == "poisons":
    for each in cache.iterdir():
        each.write_text("poison")
    for kept in (out.parents[3] / "compiled").rglob("*"):
        try:
            kept.write_text("poison") if kept.is_file() else (kept / "new").write_text("poison")
        except OSError:
            pass
say({"ready": {}})
if MODE == "hoards":
    (cache / "learnt").write_text("what the first run learnt from the data")
    (cache / "of-hoards").write_text("learnt, too")
gun.send(json.dumps({"stopped": {"steps": 1}}).encode())
pathlib.Path(os.environ["RALPH_ARTIFACT"]).write_text("artifact")
sys.exit(MODE == "crashes")
"""


def laid(cache: CompileCache, program: str, place: Path) -> dict[str, str]:
    """What a run of `program` finds."""
    cache.lay(program, place)
    return {str(path.relative_to(place)): path.read_text() for path in place.rglob("*") if path.is_file()}


def compile_(cache: CompileCache, program: str, place: Path, files: Mapping[str, str], ok: bool = True) -> None:
    """A run of `program` that compiles these."""
    laid(cache, program, place)
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    cache.take(program, place)
    cache.settle(program, ok)


@pytest.fixture
def cache(hostile: Path) -> CompileCache:
    return CompileCache(hostile / "compiled", MOST)


def test_what_the_baseline_compiled_is_there_for_all_and_a_programs_own_for_itself(
    cache: CompileCache, tmp_path: Path
) -> None:
    compile_(cache, BASE, tmp_path / "0", {"triton/a": "A", "inductor/x/y": "Y"})
    compile_(cache, "p", tmp_path / "1", {"triton/b": "B"})
    base = {"triton/a": "A", "inductor/x/y": "Y"}
    assert laid(cache, "q", tmp_path / "2") == base
    assert laid(cache, "p", tmp_path / "3") == base | {"triton/b": "B"}
    assert laid(CompileCache(tmp_path / cache._folder, MOST), "p", tmp_path / "4") == base | {"triton/b": "B"}


def test_a_program_that_changes_entries_of_the_base_keeps_only_what_is_new(cache: CompileCache, tmp_path: Path) -> None:
    compile_(cache, BASE, tmp_path / "0", {"triton/a": "A"})
    compile_(cache, "p", tmp_path / "1", {"triton/a": "poison", "triton/b": "B"})
    assert laid(cache, "p", tmp_path / "2") == {"triton/a": "A", "triton/b": "B"}


def test_what_a_run_adds_that_does_not_end_well_is_not_kept(cache: CompileCache, tmp_path: Path) -> None:
    compile_(cache, "p", tmp_path / "1", {"triton/b": "B"}, ok=False)
    assert laid(cache, "p", tmp_path / "2") == {}
    assert list((tmp_path / cache._folder).glob("*")) == []


def test_an_entry_that_is_not_what_was_taken_is_dropped_and_the_run_compiles_anew(
    cache: CompileCache, tmp_path: Path
) -> None:
    compile_(cache, BASE, tmp_path / "0", {"triton/a": "A"})
    compile_(cache, "p", tmp_path / "1", {"triton/b": "B", "triton/c": "C"})
    (cache._folder / "p" / "files" / "triton" / "c").write_text("poison")
    assert laid(cache, "p", tmp_path / "2") == {"triton/a": "A"}
    assert not (cache._folder / "p").exists()


def test_a_list_of_hashes_that_was_changed_too_is_noticed_by_the_supervisor_that_made_it(
    cache: CompileCache, tmp_path: Path
) -> None:
    compile_(cache, "p", tmp_path / "1", {"triton/b": "B"})
    (cache._folder / "p" / "files" / "triton" / "b").write_text("poison")
    seal = cache._folder / "p" / "seal.json"
    seal.write_text(json.dumps({"triton/b": "0" * 64}))
    assert laid(cache, "p", tmp_path / "2") == {}


def test_a_list_that_leads_out_of_the_folder_lays_nothing(cache: CompileCache, tmp_path: Path) -> None:
    layer = cache._folder / "p"
    (layer / "files").mkdir(parents=True)
    (layer / "out").write_text("B")
    sum_ = "df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c"
    for name in ("../out", str(layer / "out")):
        (layer / "seal.json").write_text(json.dumps({name: sum_}))
        assert laid(CompileCache(cache._folder, MOST), "p", tmp_path / name.replace("/", "-")) == {}
        layer.mkdir(exist_ok=True)
        (layer / "out").write_text("B")


def test_links_pipes_and_second_names_are_left_behind(cache: CompileCache, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    place = tmp_path / "1"
    cache.lay("p", place)
    (place / "triton" / "link").symlink_to(secret)
    (place / "triton" / "folder").symlink_to(tmp_path)
    os.link(secret, place / "triton" / "second")
    os.mkfifo(place / "triton" / "fifo")
    (place / "triton" / "b").write_text("B")
    cache.take("p", place)
    cache.settle("p", ok=True)
    assert laid(cache, "p", tmp_path / "2") == {"triton/b": "B"}


@pytest.mark.parametrize("flood", ["files", "bytes", "one", "deep"])
def test_floods_are_not_kept(cache: CompileCache, tmp_path: Path, flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_FILES", 50)
    monkeypatch.setattr(compiled, "MOST_BYTES_A_FILE", MOST // 4)
    files = {
        "files": {f"triton/{n}": "x" for n in range(60)},
        "bytes": {f"triton/{n}": "x" * (MOST // 5) for n in range(6)},
        "one": {"triton/x": "x" * (MOST // 2)},
        "deep": {"/".join("d" * 40): "x"},
    }[flood]
    compile_(cache, "p", tmp_path / "1", files)
    assert laid(cache, "p", tmp_path / "2") == {}


def test_together_the_layers_stay_small_and_those_go_first_that_were_not_used_for_longest(
    cache: CompileCache, tmp_path: Path
) -> None:
    compile_(cache, BASE, tmp_path / "base", {"triton/a": "A" * (MOST // 5)})
    for n in range(4):
        compile_(cache, f"p{n}", tmp_path / str(n), {f"triton/{n}": "x" * (MOST // 4)})
        os.utime(cache._folder / f"p{n}", (n, n))
    laid(cache, "p1", tmp_path / "again")
    compile_(cache, "p9", tmp_path / "9", {"triton/9": "x" * (MOST // 4)})
    assert {path.name for path in cache._folder.iterdir()} == {BASE, "p1", "p3", "p9"}


def test_what_a_killed_supervisor_did_not_settle_is_gone_after_its_restart(cache: CompileCache, tmp_path: Path) -> None:
    cache.lay("p", tmp_path / "1")
    (tmp_path / "1" / "triton" / "b").write_text("B")
    cache.take("p", tmp_path / "1")
    assert laid(CompileCache(cache._folder, MOST), "p", tmp_path / "2") == {}
    assert list(cache._folder.iterdir()) == []


def test_programs_are_told_apart_by_every_byte_and_name() -> None:
    one = program_of({"a": b"1", "b": b"2"})
    assert one == program_of({"b": b"2", "a": b"1"})
    assert len({one, program_of({"a": b"2", "b": b"1"}), program_of({"a": b"12"}), program_of({})}) == 4


# --- with real runs

LEVELS = [SandboxLevel.NONE, SandboxLevel.BWRAP, SandboxLevel.LANDLOCK]


@pytest.fixture(params=LEVELS)
def runs(request: pytest.FixtureRequest, hostile: Path, subreaper: None) -> tuple[Bench, LocalRunner]:
    if reached(request.param).level is not request.param:
        pytest.skip(reached(request.param).reason)
    bench = Bench(hostile, TRAIN, MODES)
    bench.level = request.param
    return bench, bench.runner(RUN, compiled=CompileCache(bench.layout.compiled / "x", MOST))


def run(runs: tuple[Bench, LocalRunner], id_: int, mode: str, number: int = 1) -> tuple[RunEnded, dict[str, str]]:
    """How it ended, and what it found in the cache."""
    bench, runner = runs
    order = bench.order(id_, mode, run=number)
    ended = finish(runner.start(order))
    return ended, json.loads((bench.out(order) / "found").read_text())


def test_a_candidate_that_poisons_the_cache_poisons_no_other(runs: tuple[Bench, LocalRunner]) -> None:
    """Where there are no walls it reaches what is kept; then that is dropped, and compiled anew."""
    assert run(runs, 0, "human")[1] == {}
    assert run(runs, 1, "poisons")[1] == {"of-human": "human"}
    kept = {} if runs[0].level is SandboxLevel.NONE else {"of-human": "human"}
    assert run(runs, 2, "honest")[1] == kept
    assert run(runs, 0, "human", 2)[1] == kept


def test_repeats_find_what_their_program_compiled_and_others_do_not(runs: tuple[Bench, LocalRunner]) -> None:
    run(runs, 0, "human")
    assert run(runs, 1, "honest")[1] == {"of-human": "human"}
    assert run(runs, 1, "honest", 2)[1] == {"of-human": "human", "of-honest": "honest"}
    assert run(runs, 2, "other")[1] == {"of-human": "human"}


def test_what_a_run_leaves_after_it_has_seen_data_does_not_reach_its_repeats(runs: tuple[Bench, LocalRunner]) -> None:
    """Else a second run would train on from where the first one ended."""
    run(runs, 1, "hoards")
    assert run(runs, 1, "hoards", 2)[1] == {"of-hoards": "hoards"}


def test_what_a_crashed_run_compiled_is_not_kept(runs: tuple[Bench, LocalRunner]) -> None:
    assert run(runs, 1, "crashes")[0].outcome is Outcome.CRASH
    assert run(runs, 1, "crashes", 2)[1] == {}
