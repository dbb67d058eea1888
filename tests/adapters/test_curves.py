"""A run's curve is read from whatever lies there, in bounded time, and what was decided about it lies beside it."""

import json
import os
from pathlib import Path

import pytest

from ralph.adapters.curves import BLOCK_BYTES, BLOCKS, read_curve, read_early, write_early
from ralph.adapters.untrusted import read_untrusted_blocks
from ralph.core.curves import POINTS
from ralph.model import EarlyStop

NAME = "out/progress.jsonl"
EARLY = EarlyStop(share=0.35, behind=1.5, allowed=0.5, expected=0.01, spared=True)


def line(seconds: object, loss: object) -> bytes:
    return json.dumps({"step": 1, "loss": loss, "seconds": seconds}).encode() + b"\n"


def log(root: Path, *lines: bytes) -> Path:
    (root / "out").mkdir(exist_ok=True)
    (root / NAME).write_bytes(b"".join(lines))
    return root


def test_lines_become_a_curve(tmp_path: Path) -> None:
    curve = read_curve(log(tmp_path, *(line(s, 5.0 - s / 10) for s in range(1, 11))), NAME, 10.0)
    assert len(curve) == POINTS
    assert (curve[1], curve[-1]) == (4.9, 4.0)


def test_a_line_that_is_still_being_written_does_not_count(tmp_path: Path) -> None:
    whole = read_curve(log(tmp_path, line(1, 5.0), line(2, 4.0)), NAME, 10.0)
    assert read_curve(log(tmp_path, line(1, 5.0), line(2, 4.0), line(3, 3.0)[:-5]), NAME, 10.0) == whole


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"}\n",
        line(float("nan"), 1.0),
        line(-3, 1.0),
        line(1, float("inf")),
        line("1", "2"),
        line(True, False),
        b'{"seconds": 1' + b"0" * 5000 + b', "loss": 1}\n',
        b"[1, 2]\n{}\n",
        line(99, 1.0),
    ],
    ids=str,
)
def test_what_is_no_sensible_line_is_passed_over(tmp_path: Path, nonsense: bytes) -> None:
    assert read_curve(log(tmp_path, nonsense), NAME, 10.0) == ()
    good = read_curve(log(tmp_path, line(1, 5.0)), NAME, 10.0)
    assert read_curve(log(tmp_path, nonsense, line(1, 5.0)), NAME, 10.0) == good


def test_absurd_losses_are_cut_to_something_finite(tmp_path: Path) -> None:
    curve = read_curve(log(tmp_path, line(1, 1e308), line(1.1, 1e308), line(5, -1e308)), NAME, 10.0)
    assert {loss for loss in curve if loss is not None} == {1e6, -1e6}


def test_of_a_flood_no_more_than_a_bound_is_read_and_all_parts_of_it(tmp_path: Path) -> None:
    lines = [line(n / 1000, 5.0 - n / 10_000) for n in range(1, 10_001)]
    few, many = read_curve(log(tmp_path, *lines[::20]), NAME, 10.0), read_curve(log(tmp_path, *lines), NAME, 10.0)
    assert (tmp_path / NAME).stat().st_size > BLOCKS * BLOCK_BYTES
    assert sum(map(len, read_untrusted_blocks(tmp_path, NAME, BLOCKS, BLOCK_BYTES))) == BLOCKS * BLOCK_BYTES
    assert many == pytest.approx(few, abs=0.05)


def test_nothing_a_link_a_fifo_or_a_folder_is_no_curve(tmp_path: Path) -> None:
    assert read_curve(tmp_path, NAME, 10.0) == ()
    (tmp_path / "elsewhere").write_bytes(line(1, 5.0))
    (tmp_path / "out").mkdir()
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    assert read_curve(tmp_path, NAME, 10.0) == ()
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME)
    assert read_curve(tmp_path, NAME, 10.0) == ()
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    assert read_curve(tmp_path, NAME, 10.0) == ()


def test_what_was_decided_is_found_again_and_nonsense_in_its_place_is_nothing(tmp_path: Path) -> None:
    assert read_early(tmp_path) is None
    write_early(tmp_path, EARLY)
    assert read_early(tmp_path) == EARLY
    for nonsense in ("", "[]", "{", '{"share": 1}', '{"other": 1}'):
        (tmp_path / "early.json").write_text(nonsense)
        assert read_early(tmp_path) is None
