"""A bench for every test of the scorer, and one thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.adapters.scorer.graphs import (
    Bench,
    make_bench,
)


@pytest.fixture
def bench(hostile: Path) -> Bench:
    """A small validation text in a folder with a hostile name."""
    return make_bench(hostile)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny tensors on a busy machine: threads that wait for each other cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
