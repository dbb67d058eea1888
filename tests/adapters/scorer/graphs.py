"""Models to score: an honest one, and those that cheat or fail. `save` exports as train.py would, `answer` scores."""

import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.export
from torch import Tensor, nn
from torch.nn import functional

from ralph.adapters.scorer import language_model

VOCAB, LENGTH, BATCH = 32, 16, 4
BYTES_OF_TOKEN = [0, *(1 + index % 3 for index in range(1, VOCAB))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Prepared data of `windows` windows, the last one short, of a language with structure; and where to save."""

    folder: Path
    stream: np.ndarray[Any, np.dtype[np.uint16]]

    @property
    def data(self) -> Path:
        """The data.json."""
        return self.folder / "data.json"

    @property
    def artifact(self) -> Path:
        """Where `save` puts an artifact."""
        return self.folder / "model.pt2"


def make_bench(folder: Path, windows: int = 60) -> Bench:
    """Tokens follow x -> 3x+1 mod 31 with noise, so that there is something to know."""
    draw = np.random.default_rng(5)
    stream = np.zeros(windows * LENGTH - 5, dtype=np.uint16)
    for at in range(1, len(stream)):
        known = (3 * int(stream[at - 1]) + 1) % (VOCAB - 1) + 1
        stream[at] = known if draw.random() < 0.5 else draw.integers(0, VOCAB)
    stream.tofile(folder / "val.bin")
    np.save(folder / "token_bytes.npy", np.array(BYTES_OF_TOKEN, dtype=np.int32))
    facts = {"vocab_size": VOCAB, "sequence_len": LENGTH, "score_batch": BATCH, "dtype": "uint16"}
    stream[: len(stream) // 2].tofile(folder / "audit.bin")
    facts |= {"val": {"path": "val.bin"}, "audit": {"path": "audit.bin"}, "token_bytes": "token_bytes.npy"}
    (folder / "data.json").write_text(json.dumps(facts))
    return Bench(folder=folder, stream=stream)


class Honest(nn.Module):
    """A causal model with all that ours has: attention, a mask with -inf, chunks, a cast, a buffer, a tied weight."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(VOCAB, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, VOCAB, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("position", torch.randn(LENGTH, width), persistent=False)
        self.register_buffer("scale", torch.ones(1))

    def hidden(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.get_buffer("position")[: tokens.size(1)]
        q, k, v = self.qkv(functional.rms_norm(x, (x.size(-1),))).chunk(3, dim=-1)
        x = x + functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        hidden_from = torch.arange(tokens.size(1), device=tokens.device)
        future = hidden_from[None, :] > hidden_from[:, None]
        mean = (q @ k.mT).masked_fill(future, -torch.inf).softmax(-1).to(torch.bfloat16).float() @ v
        return torch.as_tensor(x + mean * self.get_buffer("scale"))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.hidden(tokens)))


class Altered(Honest):
    """The honest model, its logits passed through a function of tokens and logits."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def forward(self, tokens: Tensor) -> Tensor:
        return self.change(tokens, super().forward(tokens))


def next_tokens(tokens: Tensor) -> Tensor:
    """What a cheat wants to know: the token after each position; the last position does not see it."""
    return torch.cat((tokens[:, 1:], tokens[:, :1]), dim=1)


def hint(tokens: Tensor, strength: Tensor | float = 5.0) -> Tensor:
    """Logits that point at the next token."""
    return functional.one_hot(next_tokens(tokens), VOCAB).float() * strength


def save(model: nn.Module, path: Path, shape: tuple[int, int] = (BATCH, LENGTH)) -> None:
    """Export as a run does."""
    with torch.no_grad():
        program = torch.export.export(model.eval(), (torch.zeros(shape, dtype=torch.int64),))
    torch.export.save(program, path)


def rewrite(path: Path, change: Callable[[str, bytes], dict[str, bytes]]) -> None:
    """Rewrite an archive: `change(name, content)` gives the members that replace a member."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            for new_name, new_content in change(name, content).items():
                archive.writestr(new_name, new_content)


def edit_graph(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the graph of an archive."""

    def change(name: str, content: bytes) -> dict[str, bytes]:
        if not name.endswith("models/model.json"):
            return {name: content}
        program = json.loads(content)
        edit(program)
        return {name: json.dumps(program).encode()}

    rewrite(path, change)


def wraps_in_autocast(tokens: Tensor, logits: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return logits @ torch.eye(VOCAB)


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
