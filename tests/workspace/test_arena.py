"""The default arena as a whole: its files agree with the package that runs them and the page that describes them."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

import data
from ralph.config import load
from ralph.core.constants import parse_constants
from ralph.model import ScoreMode
from tests.workspace.folders import WORKSPACE

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_arena_toml_is_what_the_package_reads(device: str) -> None:
    config = load(WORKSPACE / "arena.toml", device)
    assert config.run.gate
    assert config.score.mode is ScoreMode.SEALED
    assert config.run.budget_s == (30 if device == "cpu" else 300)
    for name in (*config.arena.editable, config.arena.program):
        assert (WORKSPACE / name).is_file()


def test_the_page_lists_every_option_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `?([^|`]*)`? \|", (DOCS / "arena.md").read_text(), re.MULTILINE)
    options = {item.name: item.default for item in fields(data.Options)}
    listed = {name: json.loads(value) for name, value in rows if name in options}
    assert listed == {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def test_the_page_names_every_kind_that_the_scorer_gives() -> None:
    source = (WORKSPACE.parent / "ralph" / "adapters" / "scorer" / "language_model.py").read_text()
    given = set(re.findall(r'refuse\(\s*"(\w+)"', source))
    page = (DOCS / "arena.md").read_text()
    assert len(given) > 8
    assert {kind for kind in given if f"`{kind}`" not in page} == set()


def test_the_page_and_the_folder_have_the_same_files() -> None:
    page = (DOCS / "arena.md").read_text()
    assert {path.name for path in WORKSPACE.iterdir() if path.is_file() and path.name not in page} == set()


def test_the_proposal_in_the_strategy_is_a_proposal() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", (WORKSPACE / "program.md").read_text(), re.DOTALL)
    assert set(json.loads(example)) == {"hypothesis", "expected", "learnings", "supersedes"}


def test_the_tuner_finds_the_constants_of_both_profiles() -> None:
    names = {constant.name for constant in parse_constants((WORKSPACE / "train.py").read_text())}
    assert {"CPU_MATRIX_LR", "CUDA_MATRIX_LR", "MOMENTUM", "CPU_DEPTH", "CUDA_NEAREST", "CPU_FINAL_LR"} <= names
