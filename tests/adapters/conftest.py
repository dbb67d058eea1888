"""What every test of kill domains starts from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.adapters import leftovers
from ralph.adapters.process import become_subreaper


@pytest.fixture
def subreaper() -> Iterator[None]:
    """This process adopts what dead shims leave, as a supervisor does, and buries it at the end."""
    become_subreaper()
    yield
    leftovers.bury(leftovers.orphans(set(), 0))


@pytest.fixture
def folder(hostile: Path) -> Path:
    """A kill domain's folder, not there yet."""
    return hostile / "domain"
