"""The sealed scorer is right on honest artifacts, whatever torch operators they are made of."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ralph.adapters.scorer import language_model
from tests.adapters.scorer.graphs import (
    BYTES_OF_TOKEN,
    LENGTH,
    Altered,
    Bench,
    Honest,
    answer,
    save,
    save_honest,
    wraps_in_autocast,
)


def reference(model: nn.Module, bench: Bench) -> tuple[float, int, int]:
    """Bits per byte, tokens and bytes, token by token: no batches, no padding, double precision."""
    stream = bench.stream.astype(np.int64)
    bits, tokens, size = 0.0, 0, 0
    for start in range(0, len(stream) - 1, LENGTH):
        window = torch.from_numpy(stream[start : start + LENGTH + 1])
        with torch.no_grad():
            logits = model(window[None, :-1])[0].double()
        for at, target in enumerate(window[1:].tolist()):
            if BYTES_OF_TOKEN[target]:
                exact = logits[at] - logits[at].exp().sum().log()
                bits -= float(exact[target]) / math.log(2)
                tokens += 1
                size += BYTES_OF_TOKEN[target]
    return bits / size, tokens, size


def test_the_score_of_an_honest_model_is_that_of_an_independent_computation(bench: Bench) -> None:
    model = Honest()
    save(model, bench.artifact)
    given = answer(bench)
    expected, tokens, size = reference(model, bench)
    assert given["ok"] is True
    assert given["score"] == pytest.approx(expected, rel=1e-5)
    assert (given["metrics"]["tokens"], given["metrics"]["bytes"]) == (tokens, size)
    assert given["metrics"]["causality_windows"] == 60
    assert given["metrics"]["causality_difference"] == 0.0


def test_the_scorer_runs_as_a_lone_file_without_the_package(bench: Bench) -> None:
    save_honest(bench)
    alone = bench.folder / "sealed scorer.py"
    alone.write_bytes(Path(language_model.__file__).read_bytes())
    words = ["--artifact", bench.artifact, "--data", bench.data, "--out", bench.folder / "out.json", "--seed", 4]
    command = [sys.executable, "-I", "-W", "error", str(alone), *map(str, words)]
    done = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert json.loads((bench.folder / "out.json").read_text())["ok"] is True
    assert json.loads(done.stdout)["ok"] is True


def test_the_split_that_is_named_is_the_one_that_is_scored(bench: Bench) -> None:
    model = Honest()
    save(model, bench.artifact)
    for split, stream in (("val", bench.stream), ("audit", bench.stream[: len(bench.stream) // 2])):
        words = ["--artifact", bench.artifact, "--data", bench.data, "--out", bench.folder / "out.json"]
        assert language_model.main([*map(str, words), "--split", split]) == 0
        given = json.loads((bench.folder / "out.json").read_text())
        expected, tokens, _ = reference(model, replace(bench, stream=stream))
        assert given["score"] == pytest.approx(expected, rel=1e-5)
        assert given["metrics"]["tokens"] == tokens


def test_the_score_does_not_depend_on_the_seed(bench: Bench) -> None:
    save_honest(bench)
    assert answer(bench, seed=1)["score"] == answer(bench, seed=2)["score"]


def writes_in_place(_tokens: Tensor, logits: Tensor) -> Tensor:
    scaled = logits.clone()
    scaled.mul_(0.5)
    scaled[:, :, 0] -= 1.0
    return scaled


def is_top_k_and_scatter(_tokens: Tensor, logits: Tensor) -> Tensor:
    best, at = logits.topk(4, dim=-1)
    return torch.full_like(logits, -9.0).scatter(-1, at, best)


@pytest.mark.parametrize("change", [wraps_in_autocast, writes_in_place, is_top_k_and_scatter])
def test_other_honest_graphs_are_run_as_torch_runs_them(
    bench: Bench, change: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model = Altered(change)
    save(model, bench.artifact)
    expected, _, _ = reference(model, bench)
    given = answer(bench)
    assert given["ok"] is True, given
    assert given["score"] == pytest.approx(expected, rel=1e-3)
