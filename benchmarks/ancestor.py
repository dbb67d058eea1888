"""One run of the ancestor's train.py on our corpus, for `benchmarks.train_cuda`: a process of its own.

    python -m benchmarks.ancestor --train FOLDER/train.py --data data.json --artifact model.pt2 --budget 300

Its file is read when this runs and is no part of the repository. It finds modules `prepare` and `kernels` of ours: the
first hands it windows of our tokens and, at the end, exports its model as a graph for our scorer, through a wrapper
that only adds its autocast; the second answers with the attention that our train.py uses here, at its window sizes.
Replaced in its text are the seed and, if asked for, constants; nothing else on CUDA. On a CPU, where only the plumbing
can be tried, its words for the device are replaced too.

What is in its favour: the windows come from a memory map and wait in a pinned buffer, which spares it tokenizing. What
is its own business: 11 steps that its clock does not count.
"""

import argparse
import contextlib
import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
BANDS = (2, 4, 8, 16)  # short windows that its patterns use, as parts of the length


def workspace() -> types.ModuleType:
    """Our train.py, for its attention."""
    sys.path.insert(0, str(ROOT / "workspace"))
    import train  # its `prepare` is ours

    return train


class Attention:
    """What its `flash_attn_func` is here: (batch, length, heads, head_dim) in and out, causal, with a window."""

    def __init__(self, ours: types.ModuleType, length: int, device: str) -> None:
        self._ours, self._length, self.exporting = ours, length, False
        self._blocks: dict[int, Any] = {}
        if device != "cpu":
            self._blocks = {length // n: ours.near_blocks(length, length // n + 1, device) for n in BANDS}
            shape = SimpleNamespace(WIDTH=512, HEAD_DIM=128, WINDOW=length)
            print(f"attention: {ours.choose_attention(shape, device)}", file=sys.stderr)

    def flash_attn_func(
        self, q: Tensor, k: Tensor, v: Tensor, causal: bool, window_size: tuple[int, int] = (-1, -1)
    ) -> Tensor:
        """Causal attention to the `window_size[0]` positions before, all of them for -1."""
        if not causal:
            raise ValueError("attention that looks ahead is none of ours")
        back, length, band = window_size[0], q.size(1), None
        if 0 <= back < length:
            band = self._blocks.get(back) if length == self._length and not self.exporting else None
            band = self._ours.near(length, back + 1, q.device) if band is None else band
        y = self._ours.attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), band)
        return y.transpose(1, 2)  # type: ignore[no-any-return]


class Scored(nn.Module):
    """Its model as the scorer wants it: tokens to logits, in its own precision."""

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()
        self.model, self.kind = model, device.partition(":")[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, length) tokens to (batch, length, vocabulary) float32."""
        with torch.autocast(self.kind, dtype=torch.bfloat16):
            logits: Tensor = self.model(tokens)
        return logits.float()


def prepare_module(facts: dict[str, Any], options: argparse.Namespace, attention: Attention) -> types.ModuleType:
    """What it imports as `prepare`."""
    module = types.ModuleType("prepare")
    folder = options.data.parent

    class Tokenizer:
        @classmethod
        def from_directory(cls) -> "Tokenizer":
            return cls()

        def get_vocab_size(self) -> int:
            return int(facts["vocab_size"])

    def make_dataloader(_tokenizer: Tokenizer, batch: int, length: int, _split: str) -> Iterator[tuple[Any, Any, int]]:
        stream = np.memmap(folder / facts["train"]["path"], dtype=facts["dtype"], mode="r")
        return windows(stream, batch, length, options.seed, options.device)

    def evaluate_bpb(model: nn.Module, _tokenizer: Tokenizer, _batch: int) -> float:
        attention.exporting = True
        plain = getattr(model, "_orig_mod", model)
        example = torch.zeros((facts["score_batch"], facts["sequence_len"]), dtype=torch.int64, device=options.device)
        outside = torch.autocast(options.device.partition(":")[0], enabled=False)
        with outside, torch.no_grad():
            program = torch.export.export(Scored(plain, options.device), (example,), strict=False)
        torch.export.save(program, options.artifact)
        return float("nan")  # ours scores

    vars(module).update(
        MAX_SEQ_LEN=facts["sequence_len"], TIME_BUDGET=options.budget, Tokenizer=Tokenizer,
        make_dataloader=make_dataloader, evaluate_bpb=evaluate_bpb,
    )  # fmt: skip
    return module


def windows(stream: Any, batch: int, length: int, seed: int, device: str) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Inputs, targets and the epoch: every window once an epoch, in another order, copied without waiting."""
    draw, columns, epoch = np.random.default_rng(seed), np.arange(length + 1), 0
    while True:
        epoch += 1
        starts = draw.permutation((len(stream) - 2 * length) // length) * length + draw.integers(length)
        for at in range(0, len(starts) - batch + 1, batch):
            rows = torch.from_numpy(stream[starts[at : at + batch, None] + columns].astype(np.int64))
            rows = rows.pin_memory().to(device, non_blocking=True) if device != "cpu" else rows
            yield rows[:, :-1].contiguous(), rows[:, 1:].contiguous(), epoch


def adapted(text: str, options: argparse.Namespace) -> str:
    """Its source with another seed and other constants; on a CPU with other words for the device."""
    text, found = re.subn(r"manual_seed\(\d+\)", f"manual_seed({options.seed})", text)
    if not found:
        print("its seed was not found: it is the one in its file", file=sys.stderr)
    for wish in options.set:
        name, _, value = wish.partition("=")
        text, found = re.subn(rf"(?m)^{re.escape(name)}\s*=\s*[^#\n]*", f"{name} = {value}  ", text)
        if not found:
            sys.exit(f"ancestor: {options.train} has no constant {name}")
    if options.device == "cpu":
        text = text.replace('torch.device("cuda")', 'torch.device("cpu")').replace('"cuda"', '"cpu"')
        for call, value in (("get_device_capability()", "(9, 0)"), ("synchronize()", "None"), ("manual_seed", "int")):
            text = text.replace(f"torch.cuda.{call}", value)
        text = text.replace("torch.cuda.max_memory_allocated()", "0")
    return text


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="the ancestor's train.py")
    parser.add_argument("--data", type=Path, required=True, help="data.json of our preparation")
    parser.add_argument("--artifact", type=Path, required=True, help="where the graph for our scorer goes")
    parser.add_argument("--budget", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="replace one of its constants")
    return parser.parse_args(words)


def main(words: list[str]) -> None:
    """Train and export."""
    options = arguments(words)
    facts = json.loads(options.data.read_text(encoding="utf-8"))
    attention = Attention(workspace(), facts["sequence_len"], options.device)
    kernels = types.ModuleType("kernels")
    get_kernel: Callable[[str], SimpleNamespace] = lambda _name: SimpleNamespace(flash_attn_interface=attention)  # noqa: E731
    vars(kernels)["get_kernel"] = get_kernel
    sys.modules |= {"kernels": kernels, "prepare": prepare_module(facts, options, attention)}
    source = adapted(options.train.read_text(encoding="utf-8"), options)
    names = {"__name__": "__main__", "__file__": str(options.train)}
    module = types.ModuleType("__main__")  # its dataclasses look for the module that they are of
    vars(module).update(names)
    sys.modules["__main__"] = module
    with contextlib.chdir(options.train.parent):
        exec(compile(source, str(options.train), "exec"), vars(module))


if __name__ == "__main__":
    main(sys.argv[1:])
