"""Graphs that know what comes, or remember what came: no score for either."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ralph.adapters.scorer import language_model
from tests.adapters.scorer.graphs import (
    LENGTH,
    VOCAB,
    Altered,
    Bench,
    Honest,
    answer,
    edit_graph,
    hint,
    make_bench,
    next_tokens,
    refusal,
    save,
    save_honest,
)


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


QUICK = {"shows its input shifted by one", "leaks faintly", "averages over the batch"}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHEATS]
)
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
