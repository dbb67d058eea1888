"""The sealed scorer: right on honest artifacts, and no score for those that cheat, break or bring code."""

import json
import math
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ralph.adapters.scorer import language_model
from tests.adapters.scorer.graphs import (
    BATCH,
    BYTES_OF_TOKEN,
    LENGTH,
    VOCAB,
    Altered,
    Bench,
    Honest,
    edit_graph,
    hint,
    make_bench,
    next_tokens,
    rewrite,
    save,
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


@cache
def honest_artifact() -> bytes:
    """The honest model's archive; exporting takes a second, and most tests start from it."""
    with tempfile.TemporaryDirectory() as folder:
        save(Honest(), Path(folder, "model.pt2"))
        return Path(folder, "model.pt2").read_bytes()


def save_honest(bench: Bench) -> None:
    """Put the honest model's archive in place."""
    bench.artifact.write_bytes(honest_artifact())


def answer(bench: Bench, seed: int = 1) -> dict[str, Any]:
    """Score bench.artifact through the command line's entry; the answer that was written."""
    out = bench.folder / "score.json"
    words = ["--artifact", bench.artifact, "--data", bench.data, "--device", "cpu", "--out", out, "--seed", seed]
    assert language_model.main([str(word) for word in words]) == 0
    written: dict[str, Any] = json.loads(out.read_text())
    return written


def refusal(bench: Bench, seed: int = 1) -> tuple[str, str]:
    """Verdict and kind of an artifact that must not get a score."""
    given = answer(bench, seed)
    assert given["ok"] is False, given
    assert "score" not in given
    assert given["reason"]
    return given["verdict"], given["kind"]


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


def test_the_score_does_not_depend_on_the_seed(bench: Bench) -> None:
    save_honest(bench)
    assert answer(bench, seed=1)["score"] == answer(bench, seed=2)["score"]


def wraps_in_autocast(tokens: Tensor, logits: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return logits @ torch.eye(VOCAB)


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


# --- looking ahead


def leaks_on_some_windows(tokens: Tensor, logits: Tensor) -> Tensor:
    chosen = (tokens.sum(1, keepdim=True) % 20 == 0).float().unsqueeze(-1)
    return logits + hint(tokens) * chosen


def leaks_only_where_the_text_looks_natural(tokens: Tensor, logits: Tensor) -> Tensor:
    natural = ((3 * tokens + 1) % (VOCAB - 1) + 1 == next_tokens(tokens)).float()
    enough = (natural.mean(1, keepdim=True) > 0.3).float().unsqueeze(-1)
    return logits + hint(tokens) * natural.unsqueeze(-1) * enough


def reads_the_next_row(tokens: Tensor, logits: Tensor) -> Tensor:
    firsts = torch.cat((tokens[1:, :1], tokens[:1, :1]))
    last = functional.one_hot(torch.tensor(LENGTH - 1), LENGTH).float()[None, :, None]
    return logits + functional.one_hot(firsts, VOCAB).float() * 5.0 * last


CHEATS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "shows its input shifted by one": lambda tokens, _logits: hint(tokens),
    "knows how many of each token will come": lambda t, logits: (
        logits + functional.one_hot(t, VOCAB).float().mean(1, True)
    ),
    "leaks on a twentieth of the windows": leaks_on_some_windows,
    "leaks only where the text looks natural": leaks_only_where_the_text_looks_natural,
    "leaks faintly": lambda tokens, logits: logits + hint(tokens, 0.01),
    "reads the row that continues its own": reads_the_next_row,
    "averages over the batch": lambda _tokens, logits: logits + 0.1 * logits.mean(0, keepdim=True),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_graph_that_looks_ahead_is_invalid(bench: Bench, name: str) -> None:
    bench = make_bench(bench.folder, windows=400)
    save(Altered(CHEATS[name]), bench.artifact)
    assert refusal(bench) == ("invalid", "not_causal")


class Bidirectional(Honest):
    """Attention without a mask."""

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        return torch.as_tensor(self.head(x + functional.scaled_dot_product_attention(x, x, x)))


def test_attention_without_a_mask_is_invalid(bench: Bench) -> None:
    save(Bidirectional(), bench.artifact)
    assert refusal(bench) == ("invalid", "not_causal")


def test_what_a_cheat_gains_would_be_large(bench: Bench) -> None:
    """Otherwise the tests above would refuse what does no harm."""
    text = language_model.read_windows(bench.data)

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            got = [language_model.losses(model, *batch, VOCAB) for batch in zip(text.inputs, text.targets, strict=True)]
        return float(torch.stack(got)[text.raw_bytes > 0].mean())

    assert loss(Altered(CHEATS["shows its input shifted by one"])) < 0.5 * loss(Honest())
    assert loss(Altered(leaks_only_where_the_text_looks_natural)) < 0.9 * loss(Honest())


def test_one_row_that_is_its_own_company_cannot_hide_its_future(hostile: Path) -> None:
    bench = make_bench(hostile, windows=3)
    save(Altered(CHEATS["knows how many of each token will come"]), bench.artifact)
    assert refusal(bench) == ("invalid", "not_causal")


# --- memory, randomness


class Counting(Honest):
    """Counts its calls in a buffer, and looks ahead only in the first twenty: enough for all windows to be scored."""

    def forward(self, tokens: Tensor) -> Tensor:
        calls = self.get_buffer("scale").add_(1)
        return super().forward(tokens) / calls + hint(tokens) * (calls < 20)


def test_a_graph_that_counts_its_calls_counts_to_one_only(bench: Bench) -> None:
    save(Counting(), bench.artifact)
    assert refusal(bench) == ("invalid", "not_causal")


def test_a_graph_whose_signature_updates_a_buffer_is_invalid(bench: Bench) -> None:
    save_honest(bench)

    def edit(program: dict[str, Any]) -> None:
        outputs = program["graph_module"]["signature"]["output_specs"]
        outputs.append({"buffer_mutation": {"arg": {"name": "x"}, "buffer_name": "scale"}})

    edit_graph(bench.artifact, edit)
    assert refusal(bench) == ("invalid", "signature")


def test_writing_to_a_weight_behind_the_signature_leaves_no_trace(bench: Bench) -> None:
    """A graph in which a weight is written in place: each call starts from the same weights all the same."""
    save_honest(bench)

    def edit(program: dict[str, Any]) -> None:
        nodes = program["graph_module"]["graph"]["nodes"]
        node = next(node for node in nodes if node["target"] == "torch.ops.aten.embedding.default")
        weight = node["inputs"][0]["arg"]
        arguments = [
            {"name": "self", "arg": weight, "kind": 1},
            {"name": "other", "arg": {"as_float": 1.5}, "kind": 1},
        ]
        outputs = [{"as_tensor": {"name": "written"}}]
        nodes.insert(0, {"target": "torch.ops.aten.mul_.Scalar", "inputs": arguments, "outputs": outputs})

    edit_graph(bench.artifact, edit)
    given = answer(bench)
    assert given["ok"] is True
    assert given["metrics"]["causality_difference"] == 0.0


def test_random_operators_repeat_themselves(bench: Bench) -> None:
    save(Altered(lambda _tokens, logits: logits + torch.rand_like(logits)), bench.artifact)
    assert answer(bench)["score"] == answer(bench)["score"]


# --- what does not work


def test_a_missing_artifact_is_a_crash(bench: Bench) -> None:
    assert refusal(bench) == ("crash", "no_artifact")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_archive_is_a_crash(bench: Bench, content: bytes) -> None:
    bench.artifact.write_bytes(content)
    assert refusal(bench) == ("crash", "bad_artifact")


def test_an_archive_cut_short_is_a_crash(bench: Bench) -> None:
    save_honest(bench)
    bench.artifact.write_bytes(bench.artifact.read_bytes()[:-2000])
    assert refusal(bench) == ("crash", "bad_artifact")


def test_weights_cut_short_are_a_crash(bench: Bench) -> None:
    save_honest(bench)
    rewrite(bench.artifact, lambda name, content: {name: content[:8] if "/weight_" in name else content})
    assert refusal(bench) == ("crash", "bad_artifact")


BROKEN: dict[str, tuple[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "another vocabulary": ("shape", lambda _tokens, logits: logits[..., :-1]),
    "last position only": ("shape", lambda _tokens, logits: logits[:, -1]),
    "whole numbers": ("shape", lambda _tokens, logits: logits.long()),
    "NaN": ("nan", lambda _tokens, logits: logits / 0.0 * 0.0),
    "infinite logits": ("nan", lambda _tokens, logits: logits + torch.inf),
    "certain of something else": ("nan", lambda tokens, logits: logits.masked_fill(logits < 1e9, -torch.inf)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_logits_that_are_none_are_a_crash(bench: Bench, name: str) -> None:
    kind, change = BROKEN[name]
    save(Altered(change), bench.artifact)
    assert refusal(bench) == ("crash", kind)


def test_another_batch_shape_fails_on_the_validation_tokens(bench: Bench) -> None:
    save(Honest(), bench.artifact, shape=(BATCH, LENGTH // 2))
    assert refusal(bench)[0] == "crash"


# --- code in the archive


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_in_the_sample_inputs_is_never_opened(bench: Bench) -> None:
    save_honest(bench)
    mark = bench.folder / "executed"
    bomb = pickle.dumps(Bomb(mark))
    pickle.loads(bomb)
    assert mark.exists(), "the bomb works"
    mark.unlink()
    rewrite(bench.artifact, lambda name, content: {name: bomb if "sample_inputs" in name else content})
    assert answer(bench)["ok"] is True
    assert not mark.exists()


@pytest.mark.parametrize("folder", ["weights", "constants"])
def test_a_weight_stored_as_a_pickle_is_invalid(bench: Bench, folder: str) -> None:
    save_honest(bench)
    mark = bench.folder / "executed"

    def change(name: str, content: bytes) -> dict[str, bytes]:
        if name.endswith(f"model_{folder}_config.json"):
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return {name: json.dumps(config).encode()}
        return {name: pickle.dumps(Bomb(mark)) if f"/{folder}/" in name else content}

    rewrite(bench.artifact, change)
    assert refusal(bench) == ("invalid", "forbidden")
    assert not mark.exists()


@pytest.mark.parametrize(
    "member", ["m/data/constants/custom_obj_0", "m/data/aotinductor/model/a.so", "m/extra/../../x", "m/code.py"]
)
def test_a_member_that_export_does_not_write_is_invalid(bench: Bench, member: str) -> None:
    save_honest(bench)
    with zipfile.ZipFile(bench.artifact, "a") as archive:
        archive.writestr(member, b"x")
    assert refusal(bench) == ("invalid", "forbidden")


FORBIDDEN_TARGETS = [
    "torch.ops.mine.op.default",
    "torch.ops.aten.from_file.default",
    "torch.ops.aten.empty.memory_format",
    "torch.ops.aten.new_empty.default",
    "torch.ops.aten.set_.source_Tensor",
    "torch.ops.aten.resize_.default",
    "torch.ops.higher_order.cond",
    "torch.ops.aten.__class__.default",
    "torch.load",
    "os.system",
    "_operator.call",
    "torch.ops.aten.add.Tensor; import os",
]


@pytest.mark.parametrize("target", FORBIDDEN_TARGETS)
def test_only_torchs_own_operators_are_run(bench: Bench, target: str) -> None:
    save_honest(bench)

    def edit(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = target

    edit_graph(bench.artifact, edit)
    verdict, kind = refusal(bench)
    assert (verdict, kind) in {("invalid", "forbidden"), ("crash", "bad_artifact")}


def test_symbolic_shapes_are_not_evaluated(bench: Bench) -> None:
    save_honest(bench)
    mark = bench.folder / "executed"
    expression = f"__import__('pathlib').Path({str(mark)!r}).touch()"

    def edit(program: dict[str, Any]) -> None:
        node = program["graph_module"]["graph"]["nodes"][0]
        node["inputs"].append({"name": "x", "arg": {"as_sym_int": {"as_name": expression}}, "kind": 2})

    edit_graph(bench.artifact, edit)
    assert refusal(bench) == ("invalid", "forbidden")
    assert not mark.exists()


def test_nested_code_in_a_subgraph_is_found(bench: Bench) -> None:
    save(Altered(wraps_in_autocast), bench.artifact)

    def edit(program: dict[str, Any]) -> None:
        for node in program["graph_module"]["graph"]["nodes"]:
            for item in node["inputs"]:
                if "as_graph" in item["arg"]:
                    item["arg"]["as_graph"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    edit_graph(bench.artifact, edit)
    assert refusal(bench) == ("invalid", "forbidden")
