"""The picture, drawn by the program that the supervisor starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ralph.core.picture import picture_data
from ralph.model import Direction
from tests.core.states import Story, night, overnight, small

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where matplotlib remembers the machine's fonts: finding them takes longer than drawing."""
    return tmp_path_factory.mktemp("fonts")


def draw(data: Path, out: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run the program as the supervisor does, with warnings as errors."""
    environment = {**os.environ, "TMPDIR": str(cache), "HOME": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("MPLCONFIGDIR", None)
    command = [sys.executable, "-W", "error", "-m", "ralph.adapters.plot", str(data), str(out)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False)


def size_of(png: Path) -> tuple[int, int]:
    """Width and height from the header."""
    head = png.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])


def nasty() -> Story:
    """Words that are mathematics, markup and scripts of other alphabets to a careless program."""
    s = Story().start().baseline(0.998, 0.9985)
    for n, words in enumerate(
        ("$\\frac{1}{$ and _x^y", "学习率 0.05 😀", "a\nb\x1b[31m", "<b>&amp;</b> {} %s \\n", "")
    ):
        s.keep(words, 0.99 - n / 1000)
    return s


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(Story(), id="nothing"),
        pytest.param(Story().start().baseline(0.998), id="baseline", marks=pytest.mark.slow),
        pytest.param(small(), id="small", marks=pytest.mark.slow),
        pytest.param(night(), id="night"),
        pytest.param(nasty(), id="nasty words"),
        pytest.param(overnight(80, direction=Direction.MAX), id="higher is better", marks=pytest.mark.slow),
    ],
)
def test_every_campaign_can_be_drawn(story: Story, tmp_path: Path, cache: Path) -> None:
    data, out = tmp_path / "data.json", tmp_path / "it's a\npicture.png"
    data.write_text(json.dumps(picture_data(story.state)))
    done = draw(data, out, cache)
    assert (done.returncode, done.stderr) == (0, "")
    assert size_of(out) == (1800, 900)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["data.json", out.name]), "nothing left behind"


@pytest.mark.slow
def test_two_thousand_experiments_make_a_picture_of_modest_size(tmp_path: Path, cache: Path) -> None:
    data, out = tmp_path / "data.json", tmp_path / "out.png"
    data.write_text(json.dumps(picture_data(overnight(2000).state)))
    assert draw(data, out, cache).returncode == 0
    assert out.stat().st_size < 600_000


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path: Path, cache: Path) -> None:
    data, out = tmp_path / "data.json", tmp_path / "out.png"
    out.write_bytes(b"old")
    data.write_text('{"schema": 1')
    done = draw(data, out, cache)
    assert done.returncode == 2
    assert "cannot be drawn" in done.stderr
    assert out.read_bytes() == b"old"
    assert draw(data, tmp_path, cache).returncode == 2


def test_wrong_usage_says_the_right_one(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "ralph.adapters.plot"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "DATA.json OUT.png" in done.stderr
