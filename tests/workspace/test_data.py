"""Preparation: options that are checked, a cache that is trusted only as far as its digests, one at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import data
from corpus import CorpusError
from tests.workspace.folders import OPTIONS, WORKSPACE, make_arena


@pytest.fixture
def arena(hostile: Path) -> Path:
    """An arena with a small corpus in a folder with a hostile name."""
    return make_arena(hostile)


def prepare(arena: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "RALPH_DEVICE": "cpu", **environment}
    command = [sys.executable, "prepare.py"]
    return subprocess.run(command, cwd=arena, env=environ, capture_output=True, text=True, check=False, timeout=100)


def prepared(arena: Path, options: str = OPTIONS) -> Path:
    (arena / "arena.toml").write_text(f"[data.options]\n{options}")
    return data.prepare(arena.parent / "data", data.read_options(arena / "arena.toml", "cpu"), arena)


def test_the_last_line_of_output_is_the_path_of_data_json(arena: Path) -> None:
    done = prepare(arena)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[-1])
    assert path.is_relative_to(arena.parent / "state" / "data")
    facts = json.loads(path.read_text())
    assert set(facts) >= {"schema", "name", "sha256", "vocab_size", "sequence_len", "score_batch", "dtype", "facts"}
    for part in ("train", "val", "audit"):
        stream = np.fromfile(path.parent / facts[part]["path"], dtype=facts["dtype"])
        assert len(stream) == facts[part]["tokens"]
        assert stream[0] == 0
        assert stream.max() < facts["vocab_size"]
    assert np.load(path.parent / facts["token_bytes"]).shape == (facts["vocab_size"],)
    assert "prepare: learning the tokenizer" in done.stderr


def test_a_second_preparation_finds_the_first(arena: Path) -> None:
    path = prepared(arena)
    before = {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    assert prepared(arena) == path
    assert {file.name: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before


def test_other_windows_use_the_same_tokens_under_another_identity(arena: Path) -> None:
    one = prepared(arena)
    other = prepared(arena, OPTIONS.replace("sequence_len = 32", "sequence_len = 64"))
    assert one.parent == other.parent
    assert json.loads(one.read_text())["sha256"] != json.loads(other.read_text())["sha256"]


@pytest.mark.parametrize("change", [("vocab_size = 300", "vocab_size = 310"), ("val_bytes = 4000", "val_bytes = 5000")])
def test_another_vocabulary_or_split_is_another_preparation(arena: Path, change: tuple[str, str]) -> None:
    assert prepared(arena).parent != prepared(arena, OPTIONS.replace(*change)).parent


def test_another_text_is_another_preparation(arena: Path) -> None:
    one = prepared(arena)
    (arena / "texts" / "more.txt").write_text("something else\n" * 3)
    assert prepared(arena).parent != one.parent


def test_a_damaged_file_is_found_before_it_is_used(arena: Path) -> None:
    path = prepared(arena)
    with (path.parent / "val.bin").open("r+b") as file:
        file.seek(100)
        file.write(b"\x01\x00\x01\x00")
    with pytest.raises(CorpusError, match=r"val\.bin is damaged.*Delete"):
        prepared(arena)


def test_what_a_killed_preparation_left_is_no_obstacle(arena: Path) -> None:
    path = prepared(arena)
    left = path.parent.with_name(f".making-{path.parent.name}")
    path.parent.rename(left)
    (left / "val.bin").write_bytes(b"half")
    assert prepared(arena) == path
    assert not left.exists()


def test_two_preparations_at_once_do_the_work_once(arena: Path) -> None:
    environ = {**os.environ, "RALPH_DEVICE": "cpu"}
    command = [sys.executable, "prepare.py"]
    both = [
        subprocess.Popen(command, cwd=arena, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0][0] == told[1][0]
    assert sum("learning the tokenizer" in errors for _, errors in told) == 1


def test_an_unknown_option_names_the_known_ones(arena: Path) -> None:
    (arena / "arena.toml").write_text("[data.options]\nvocabulary = 5\n")
    done = prepare(arena)
    assert done.returncode == 2
    assert "unknown option 'vocabulary'" in done.stderr
    assert "vocab_size" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("vocab_size = '5'", "is not of type int"),
        ("vocab_size = true", "is not of type int"),
        ("vocab_size = 256", "between 257"),
        ("corpus = 'wikipedia'", "known: stdlib, files, climbmix"),
        ("val_bytes = 0", "must be positive"),
        ("paths = 'texts'", "is not of type list"),
        ("[data.options.cpu]\nsize = 1", "unknown option 'size'"),
    ],
)
def test_a_wrong_option_is_an_error(tmp_path: Path, options: str, message: str) -> None:
    path = tmp_path / "arena.toml"
    path.write_text(f"[data.options]\n{options}\n")
    for device in ("cpu", "cuda:0"):
        with pytest.raises(CorpusError, match=message):
            data.read_options(path, device)


def test_options_for_a_cpu_count_on_a_cpu_only(tmp_path: Path) -> None:
    path = tmp_path / "arena.toml"
    path.write_text("[data.options]\nvocab_size = 8192\nsequence_len = 64\n[data.options.cpu]\nvocab_size = 1024\n")
    on_cpu, on_cuda = data.read_options(path, "cpu"), data.read_options(path, "cuda:1")
    assert (on_cpu.vocab_size, on_cpu.sequence_len) == (1024, 64)
    assert (on_cuda.vocab_size, on_cuda.sequence_len) == (8192, 64)


def test_the_default_arena_has_valid_options_on_both_devices() -> None:
    for device in ("cpu", "cuda:0"):
        assert data.read_options(WORKSPACE / "arena.toml", device).corpus == "stdlib"
