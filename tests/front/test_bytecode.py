"""What agents, runs and scorers import is compiled when a loop begins, since they write no bytecode."""

import importlib.util
import os
from pathlib import Path

import pytest

from ralph.adapters.shims import is_fresh
from ralph.front.app import make_bytecode


@pytest.fixture
def source(hostile: Path) -> Path:
    path = hostile / "package" / "module.py"
    path.parent.mkdir()
    path.write_text("number = 1\n")
    return path


def test_it_is_made_anew_when_the_source_has_changed_and_only_then(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")  # by which Python would choose bytecode without the source's time
    compiled = Path(importlib.util.cache_from_source(str(source)))
    make_bytecode(source.parent)
    assert is_fresh(compiled, source)
    before = compiled.stat()
    make_bytecode(source.parent)
    assert compiled.stat() == before
    source.write_text("number = 22\n")
    os.utime(source, (1, 1))
    make_bytecode(source.parent)
    assert is_fresh(compiled, source)


def test_a_place_that_takes_none_and_a_source_that_is_none_stop_nothing(source: Path) -> None:
    source.with_name("broken.py").write_text("def\n")
    source.with_name("__pycache__").write_text("in the way")
    make_bytecode(source.parent)
    make_bytecode(source.parent / "missing")
