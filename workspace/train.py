"""Train a language model for a fixed time, and export it. The one file an agent edits.

    python train.py

Sections: constants, model, optimizer, data, training, export. What is fixed lies in prepare.py: the data, the clock
(training time starts when `prepare.training` is entered), the files of a run. The score is bits per byte of held-out
text, computed from the exported graph by a scorer that never sees this code.
"""

import copy
import functools
import gc
import importlib
import resource
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

import prepare

# ---- constants -------------------------------------------------------------------------------------------------------
# One per line, plain literals: NAME = value  # unit: reason. Those named CPU_ or CUDA_ count on that device alone; the
# code sees them as p.DEPTH, p.WIDTH, …

MOMENTUM = 0.95  # 1: of Muon, Nesterov
MOMENTUM_START = 0.85  # 1: of Muon, at the first step
BETA1 = 0.8  # 1: Adam, mean of gradients
BETA2 = 0.95  # 1: Adam, and Muon's even steps: mean of squares
NEWTON_STEPS = 5  # iterations: orthogonalisation in Muon

# CPU: two cores for half a minute
CPU_DEPTH = 2  # layers
CPU_WIDTH = 96  # channels
CPU_HEAD_DIM = 32  # channels per head
CPU_MLP_RATIO = 4  # hidden channels of the MLP per channel
CPU_WINDOW = 256  # tokens: length of a training window; positions up to the scorer's length are extrapolated
CPU_LONG_EVERY = 1  # layers: one in so many, and the last, looks at all before, the others at the nearest; fixed: short
CPU_NEAREST = 256  # tokens that those others look back, themselves included; fixed: there are none
CPU_ROTARY_BASE = 10000.0  # 1: longest wavelength of the positions
CPU_X0_LAMBDA = 0.1  # 1: initial share of the embedding mixed in before each layer
CPU_INIT_SCALE = 1.0  # share of 1/sqrt(channels): initial matrices; fixed: Muon's steps outgrow it at once here
CPU_SOFTCAP = 0.0  # logits: tanh bound, 0 for none: costs a fifth of a step here
CPU_BATCH = 4  # windows per step
CPU_DEVICE_BATCH = 4  # windows per forward pass: 1024 tokens keep the logits in the cache
CPU_WINDOW_GIB = 0.0  # GiB that a window takes on the device; fixed: 0 for no matter
CPU_MATRIX_LR = 0.025  # Muon: matrices in the layers
CPU_EMBEDDING_LR = 0.3  # Adam: token embeddings
CPU_VALUE_LR = 0.3  # Adam: value embeddings
CPU_HEAD_LR = 0.03  # Adam: output matrix
CPU_SCALAR_LR = 0.02  # Adam: per-layer scalars, shares of what came before
CPU_X0_LR = 0.02  # Adam: per-layer scalars, shares of the embedding; fixed: as the others
CPU_X0_BETA1 = 0.8  # Adam: mean of their gradients; fixed: as the others
CPU_EMBEDDING_DECAY = 0.0  # Adam, decoupled: token embeddings; fixed: half a minute does not overfit
CPU_VALUE_DECAY = 0.0  # Adam, decoupled: value embeddings; fixed
CPU_HEAD_DECAY = 0.0  # Adam, decoupled: output matrix; fixed
CPU_WEIGHT_DECAY = 0.0  # Muon: decoupled, falls to 0 with the budget
CPU_MUON = ""  # its refinements: polar (Polar Express), even (NorMuon), cautious (decay what shrinks); fixed: none here
CPU_WARMUP = 0.02  # share of the budget: learning rate rises from 0
CPU_WARMDOWN = 0.6  # share of the budget: learning rate falls to its last value
CPU_FINAL_LR = 0.0  # share of the peak: learning rate at the end of the budget
CPU_MOMENTUM_STEPS = 100  # steps: rise of the momentum to its value
CPU_LOG_EVERY = 20  # steps; fixed: a matter of the log

# CUDA: one data-centre GPU for five minutes; 81 million parameters, to which autoresearch's record run came
CUDA_DEPTH = 9  # layers
CUDA_WIDTH = 640  # channels
CUDA_HEAD_DIM = 128  # channels per head
CUDA_MLP_RATIO = 4  # hidden channels of the MLP per channel
CUDA_WINDOW = 2048  # tokens: length of a training window
CUDA_LONG_EVERY = 5  # layers: one in so many, and the last, looks at all before, the others at the nearest
CUDA_NEAREST = 256  # tokens that those others look back, themselves included
CUDA_ROTARY_BASE = 200000.0  # 1: longest wavelength of the positions
CUDA_X0_LAMBDA = 0.05  # 1: initial share of the embedding mixed in before each layer
CUDA_INIT_SCALE = 0.68  # share of 1/sqrt(channels): initial matrices
CUDA_SOFTCAP = 15.0  # logits: tanh bound, keeps the loss calm early on; 0 for none
CUDA_BATCH = 128  # windows per step: 2**18 tokens
CUDA_DEVICE_BATCH = 128  # windows per forward pass at most: no accumulation on 80 GB
CUDA_WINDOW_GIB = 0.6  # GiB that a window takes on the device; smaller devices accumulate
CUDA_MATRIX_LR = 0.04  # Muon: matrices in the layers
CUDA_EMBEDDING_LR = 0.986  # Adam: token embeddings
CUDA_VALUE_LR = 0.986  # Adam: value embeddings
CUDA_HEAD_LR = 0.0055  # Adam: output matrix
CUDA_SCALAR_LR = 0.005  # Adam: per-layer scalars, shares of what came before
CUDA_X0_LR = 0.5  # Adam: per-layer scalars, shares of the embedding
CUDA_X0_BETA1 = 0.96  # Adam: mean of their gradients
CUDA_EMBEDDING_DECAY = 0.001  # Adam, decoupled: token embeddings
CUDA_VALUE_DECAY = 0.003  # Adam, decoupled: value embeddings
CUDA_HEAD_DECAY = 0.01  # Adam, decoupled: output matrix
CUDA_WEIGHT_DECAY = 0.2  # Muon: decoupled, falls to 0 with the budget
CUDA_MUON = "polar even cautious"  # its refinements: Polar Express, NorMuon, decay of what the step shrinks as well
CUDA_WARMUP = 0.0  # share of the budget: learning rate rises from 0
CUDA_WARMDOWN = 0.75  # share of the budget: learning rate falls to its last value
CUDA_FINAL_LR = 0.05  # share of the peak: learning rate at the end of the budget
CUDA_MOMENTUM_STEPS = 200  # steps: rise of the momentum to its value
CUDA_LOG_EVERY = 10  # steps; fixed: a matter of the log


def profile(device: str) -> SimpleNamespace:
    """The constants of this device's profile, without their prefix."""
    prefix = "CPU_" if device == "cpu" else "CUDA_"
    return SimpleNamespace(**{name.removeprefix(prefix): v for name, v in globals().items() if name.startswith(prefix)})


# ---- model -----------------------------------------------------------------------------------------------------------

Band: TypeAlias = Tensor | BlockMask | None


def norm(x: Tensor) -> Tensor:
    """RMSNorm without a learnt scale."""
    return F.rms_norm(x, (x.size(-1),))


class Linear(nn.Linear):
    """Without bias; weights are kept in float32 and used in the type of the input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class Attention(nn.Module):
    """Causal attention with rotary positions and normed queries and keys; some layers mix in value embeddings."""

    GATE_CHANNELS = 32

    def __init__(self, width: int, head_dim: int, has_values: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = width // head_dim, head_dim
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)
        self.gate = Linear(self.GATE_CHANNELS, self.heads) if has_values else None

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor, band: Band) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, self.head_dim).unbind(2)
        if self.gate is not None and values is not None:
            gate = 2 * torch.sigmoid(self.gate(x[..., : self.GATE_CHANNELS]))
            v = v + gate.unsqueeze(-1) * values.view(batch, length, self.heads, self.head_dim)
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        y = attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), band)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


def attend(q: Tensor, k: Tensor, v: Tensor, band: Band) -> Tensor:
    """Causal attention over (batch, heads, length, head_dim): to all positions before, or within a band of them."""
    if isinstance(band, BlockMask):
        return flex_attention(q, k, v, block_mask=band)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=band, is_causal=band is None)


def near(length: int, nearest: int, device: torch.device) -> Tensor:
    """Who looks at whom in a band, as (length, length) bool: standard operators, for the graph that is scored."""
    at = torch.arange(length, device=device)
    back = at[:, None] - at[None, :]
    return (back >= 0) & (back < nearest)


def near_blocks(length: int, nearest: int, device: str) -> BlockMask:
    """The same for FlexAttention, which leaves out the blocks that nobody looks at."""
    return create_block_mask(lambda _b, _h, i, j: (i >= j) & (i - j < nearest), None, None, length, length, device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding; x is (batch, length, heads, head_dim)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


class Block(nn.Module):
    """Attention, then an MLP with ReLU²."""

    def __init__(self, width: int, head_dim: int, hidden: int, has_values: bool) -> None:
        super().__init__()
        self.attention = Attention(width, head_dim, has_values)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor, band: Band) -> Tensor:
        x = x + self.attention(norm(x), values, cos, sin, band)
        return x + self.down(F.relu(self.up(norm(x))).square())


class GPT(nn.Module):
    """(batch, length) tokens -> (batch, length, vocab_size) float32 logits, in `dtype` inside."""

    def __init__(self, p: SimpleNamespace, vocab_size: int, longest: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.softcap, self.nearest = dtype, p.SOFTCAP, p.NEAREST
        layers = range(p.DEPTH)
        self.short = [(i + 1) % p.LONG_EVERY > 0 and i < p.DEPTH - 1 for i in layers]
        with_values = [layer % 2 == (p.DEPTH - 1) % 2 for layer in layers]  # every other, the last included
        self.embedding = nn.Embedding(vocab_size, p.WIDTH)
        self.values = nn.ModuleDict({str(i): nn.Embedding(vocab_size, p.WIDTH) for i in layers if with_values[i]})
        self.blocks = nn.ModuleList(Block(p.WIDTH, p.HEAD_DIM, p.MLP_RATIO * p.WIDTH, with_values[i]) for i in layers)
        self.head = Linear(p.WIDTH, vocab_size)
        self.residual = nn.Parameter(torch.ones(p.DEPTH))
        self.x0 = nn.Parameter(torch.full((p.DEPTH,), p.X0_LAMBDA))
        frequency = p.ROTARY_BASE ** -(torch.arange(0, p.HEAD_DIM, 2).float() / p.HEAD_DIM)
        angle = torch.outer(torch.arange(longest).float(), frequency)[:, None, :]
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.init_weights(p.INIT_SCALE * (3 / p.WIDTH) ** 0.5)

    @torch.no_grad()
    def init_weights(self, bound: float) -> None:
        """Outputs of layers start at zero, so that the model starts as its embedding and a small head."""
        nn.init.normal_(self.embedding.weight)
        nn.init.normal_(self.head.weight, std=0.001)
        for table in self.values.values():
            nn.init.uniform_(table.weight, -bound, bound)
        for block in self.blocks:
            nn.init.uniform_(block.attention.qkv.weight, -bound, bound)
            nn.init.uniform_(block.up.weight, -bound, bound)
            nn.init.zeros_(block.attention.out.weight)
            nn.init.zeros_(block.down.weight)
            if block.attention.gate is not None:
                nn.init.zeros_(block.attention.gate.weight)

    def forward(self, tokens: Tensor, band: Band = None) -> Tensor:
        length = tokens.size(1)
        if band is None and any(self.short):
            band = near(length, self.nearest, tokens.device)
        cos, sin = self.cos[:length].to(self.dtype), self.sin[:length].to(self.dtype)
        x = x0 = norm(self.embedding(tokens).to(self.dtype))
        for i, block in enumerate(self.blocks):
            values = self.values[str(i)](tokens).to(self.dtype) if str(i) in self.values else None
            x = self.residual[i].to(self.dtype) * x + self.x0[i].to(self.dtype) * x0
            x = block(x, values, cos, sin, band if self.short[i] else None)
        logits = self.head(norm(x)).float()
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits


# ---- optimizer -------------------------------------------------------------------------------------------------------


def orthogonalise(g: Tensor, polar: bool = False) -> Tensor:
    """Push the singular values of each matrix of (n, rows, columns) towards 1: Newton-Schulz, as in Muon.

    With `polar` each iteration has the best coefficients for what the one before left: Polar Express (2505.16932).
    """
    x = g.bfloat16() if g.is_cuda else g
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * (1.02 if polar else 1.0) + 1e-7)
    best = ((8.1566, -22.4833, 15.8788), (4.0429, -2.8089, 0.5000), (3.8917, -2.7725, 0.5061))
    best = (*best, (3.2858, -2.3681, 0.4645), (2.3465, -1.7098, 0.4232))
    for a, b, c in best[:NEWTON_STEPS] if polar else ((3.4445, -4.7750, 2.0315),) * NEWTON_STEPS:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).to(g.dtype)


def even_out(update: Tensor, squares: Tensor) -> Tensor:
    """Give all rows (of wide matrices, columns) steps of one size, by a mean over time; the norm stays: NorMuon."""
    now = update.square().mean(-1 if squares.size(-1) == 1 else -2, keepdim=True)
    squares.lerp_(now, 1 - BETA2)
    scale = squares.clamp_min(1e-10).rsqrt()
    norms = [s.sum(dim=(-2, -1), keepdim=True).sqrt() for s in (now, now * scale.square())]
    return update * scale * (norms[0] / norms[1].clamp_min(1e-10))


def direction(g: Tensor, squares: Tensor, refined: str) -> Tensor:
    """Where to go, for the average gradients (n, rows, columns) of matrices of one shape."""
    update = orthogonalise(g, "polar" in refined)
    return even_out(update, squares) if "even" in refined else update


@functools.cache
def compiled_direction() -> Callable[[Tensor, Tensor, str], Tensor]:
    """The same as one graph for each shape; compiled once, in the warm-up, for all optimizers."""
    return torch.compile(direction, dynamic=False)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Keller Jordan's Muon). Matrices of one shape are one group and are treated in one go.

    torch.optim.Muon does them one by one and always in bfloat16, which costs thirty times as much on a CPU without it.
    """

    def __init__(self, matrices: list[nn.Parameter], p: SimpleNamespace) -> None:
        shapes = sorted({m.shape for m in matrices})
        groups = [{"params": [m for m in matrices if m.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": p.MATRIX_LR, "weight_decay": p.WEIGHT_DECAY, "momentum": MOMENTUM})
        self.refined, self.direction = p.MUON, compiled_direction() if matrices[0].is_cuda else direction

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            matrices, state = group["params"], self.state[group["params"][0]]
            g = torch.stack([m.grad for m in matrices])
            rows, columns = g.shape[-2:]
            if not state:
                state["average"] = torch.zeros_like(g)
                state["squares"] = g.new_zeros((len(g), rows, 1) if rows >= columns else (len(g), 1, columns))
            state["average"].lerp_(g, 1 - group["momentum"])
            update = self.direction(g.lerp_(state["average"], group["momentum"]), state["squares"], self.refined)
            step = group["lr"] * max(1.0, rows / columns) ** 0.5
            if "cautious" in self.refined:
                held = torch.stack(matrices)
                update = update.addcmul(held, update * held >= 0, value=group["weight_decay"])
            else:
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(matrices, list(update.unbind(0)), alpha=-step)


def build_optimizers(model: GPT, p: SimpleNamespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices in the layers, Adam for everything else."""
    adam = [
        {"params": [model.embedding.weight], "lr": p.EMBEDDING_LR, "weight_decay": p.EMBEDDING_DECAY},
        {"params": list(model.values.parameters()), "lr": p.VALUE_LR, "weight_decay": p.VALUE_DECAY},
        {"params": [model.head.weight], "lr": p.HEAD_LR, "weight_decay": p.HEAD_DECAY},
        {"params": [model.residual], "lr": p.SCALAR_LR},
        {"params": [model.x0], "lr": p.X0_LR, "betas": (p.X0_BETA1, BETA2)},
    ]
    optimizers = [
        torch.optim.AdamW(adam, betas=(BETA1, BETA2), eps=1e-10, weight_decay=0.0, fused=True),
        Muon(list(model.blocks.parameters()), p),
    ]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["peak_lr"] = group["lr"]
    return optimizers


def schedule(optimizers: list[torch.optim.Optimizer], p: SimpleNamespace, step: int, fraction: float) -> None:
    """Set learning rates, momentum and weight decay for this step and share of the budget."""
    rise = min(fraction / p.WARMUP, 1.0) if p.WARMUP > 0 else 1.0
    fall = min((1 - fraction) / p.WARMDOWN, 1.0) if p.WARMDOWN > 0 else 1.0
    ready = min(step / p.MOMENTUM_STEPS, 1.0) if p.MOMENTUM_STEPS > 0 else 1.0
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = group["peak_lr"] * min(rise, fall + (1 - fall) * p.FINAL_LR)
        if "momentum" in group:
            group["momentum"] = MOMENTUM_START + ready * (MOMENTUM - MOMENTUM_START)
            group["weight_decay"] = p.WEIGHT_DECAY * (1 - fraction)


# ---- data ------------------------------------------------------------------------------------------------------------


def batches(tokens: np.ndarray, size: int, window: int, seed: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows without end: each epoch takes every window once, in another order and from another start.

    On CUDA they are copied beside the work on the device, which the host is one step ahead of.
    """
    draw = np.random.default_rng(seed)
    columns = np.arange(window + 1)
    beside = torch.cuda.Stream(device) if device != "cpu" else None
    while True:
        starts = draw.permutation((len(tokens) - 2 * window) // window) * window + draw.integers(window)
        for at in range(0, len(starts) - size + 1, size):
            rows = tokens[starts[at : at + size, None] + columns].astype(np.int64)
            batch = torch.from_numpy(rows)
            if beside is not None:
                with torch.cuda.stream(beside):
                    batch = batch.pin_memory().to(device, non_blocking=True)
                torch.cuda.current_stream().wait_stream(beside)
                batch.record_stream(torch.cuda.current_stream())
            yield batch[:, :-1], batch[:, 1:]


# ---- training --------------------------------------------------------------------------------------------------------


def train_step(
    forward: Callable[[Tensor, Tensor], Tensor],
    optimizers: list[torch.optim.Optimizer],
    source: Iterator[tuple[Tensor, Tensor]],
    passes: int,
) -> Tensor:
    """One step of the optimizers over `passes` forward passes; the mean loss in nats, wherever it is computed."""
    total = torch.zeros(())
    for n in range(passes):
        loss = forward(*next(source)) / passes
        loss.backward()
        total = total + loss.detach() if n else loss.detach()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return total


class Steps:
    """Steps on their way. The host is one ahead of a GPU, which so never waits, and reads a loss when it is there."""

    def __init__(self, clock: prepare.Clock, on_cuda: bool, log_every: int) -> None:
        self.clock, self.ahead, self.log_every = clock, int(on_cuda), log_every
        self.waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self.begun, self.done, self.loss, self.slowest_s, self.at_s = 0, 0, 0.0, 0.0, 0.0

    def room(self) -> bool:
        """Is there time for one more, and for those on their way?"""
        return self.clock.remaining() > (len(self.waiting) + 1) * self.slowest_s

    def add(self, loss: Tensor) -> None:
        """One more has begun; the first that are on their way are waited for until few enough are left."""
        event = None
        if self.ahead:
            loss = torch.empty((), pin_memory=True).copy_(loss, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self.waiting.append((loss, event))
        self.begun += 1
        self.finish(self.ahead)

    def finish(self, left: int = 0) -> None:
        """Wait until no more than `left` are on their way."""
        while len(self.waiting) > left:
            loss, event = self.waiting.popleft()
            if event is not None:
                event.synchronize()
            self.loss, before, self.at_s = float(loss), self.at_s, self.clock.elapsed()
            self.slowest_s = max(0.9 * self.slowest_s, self.at_s - before)
            self.done += 1
            if self.done % self.log_every == 0 or not self.room():
                self.clock.log(self.done, self.loss)


def choose_attention(p: SimpleNamespace, device: str) -> str:
    """Leave of the two fast kernels for attention the one switched on that is faster here, at our shape; its name."""
    switches = {"cudnn": torch.backends.cuda.enable_cudnn_sdp, "flash": torch.backends.cuda.enable_flash_sdp}
    shape, took_ms = (16, p.WIDTH // p.HEAD_DIM, p.WINDOW, p.HEAD_DIM), dict[str, float]()
    q = torch.randn(shape, dtype=torch.bfloat16, device=device, requires_grad=True)
    for name in switches:
        for other, switch in switches.items():
            switch(other == name)
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        try:
            for n in range(15):
                if n == 5:  # the first ones choose and load
                    marks[0].record()
                attend(q, q, q, None).backward(q.detach())
            marks[1].record()
            marks[1].synchronize()
        except RuntimeError:  # not for this GPU, or not for this shape
            continue
        took_ms[name] = marks[0].elapsed_time(marks[1])
    best = min(took_ms, key=lambda name: took_ms[name], default="")
    for name, switch in switches.items():
        switch(name == best)
    return best


def main() -> None:
    """Build, warm up, train until the time is over, export."""
    arena = prepare.arena()
    p, on_cuda = profile(arena.device), arena.device != "cpu"
    torch.manual_seed(arena.seed)
    torch.set_float32_matmul_precision("high")
    longest = max(p.WINDOW, arena.sequence_len)
    model = GPT(p, arena.vocab_size, longest, torch.bfloat16 if on_cuda else torch.float32)
    if on_cuda:
        importlib.import_module("torch._inductor.compile_fx")  # takes seconds, and no device
    # the graph for the scorer, which carries it out on any device; its weights, in the type they are used in, come last
    example = torch.zeros((arena.score_batch, arena.sequence_len), dtype=torch.int64)
    with torch.no_grad():
        program = torch.export.export(copy.deepcopy(model).to(model.dtype), (example,), strict=False)

    device = prepare.device(arena)  # from here on the device is ours
    model.to(device)
    size, attention, band = p.DEVICE_BATCH, "", None
    if on_cuda:
        torch.cuda.set_device(device)
        fit = int(torch.cuda.get_device_properties(device).total_memory / 2**30 / p.WINDOW_GIB)
        size = min(size, 2 ** (max(1, fit).bit_length() - 1))
        attention, band = choose_attention(p, device), near_blocks(p.WINDOW, p.NEAREST, device)
    passes = p.BATCH // size
    parameters = sum(parameter.numel() for parameter in model.parameters())
    resolved = {**vars(p), "DEVICE_BATCH": size, "parameters": parameters, "tokens_per_step": passes * size * p.WINDOW}
    arena.write_config({**resolved, "attention": attention})

    def forward(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x, band).flatten(0, 1), y.flatten())

    if on_cuda:
        forward = torch.compile(forward, dynamic=False)

    # warm-up on dummy data: compiles and touches memory; its traces are wiped out
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dummy = np.random.default_rng(0).integers(0, arena.vocab_size, (size + 3) * p.WINDOW)
    float(train_step(forward, build_optimizers(model, p), batches(dummy, size, p.WINDOW, 0, device), 1))
    model.load_state_dict(start)
    optimizers = build_optimizers(model, p)
    gc.collect()
    gc.freeze()
    gc.disable()

    with prepare.training(arena) as clock:
        source, steps = batches(clock.tokens, size, p.WINDOW, arena.seed, device), Steps(clock, on_cuda, p.LOG_EVERY)
        while steps.room():
            schedule(optimizers, p, steps.begun, clock.fraction())
            steps.add(train_step(forward, optimizers, source, passes))
        steps.finish()
        train_s = clock.elapsed()

    # ---- export ------------------------------------------------------------------------------------------------------
    peak = torch.cuda.max_memory_allocated() if on_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokens = steps.done * passes * size * p.WINDOW
    facts = {"steps": steps.done, "tokens": tokens, "tokens_per_s": round(tokens / train_s), "loss": steps.loss}
    arena.write_report(peak_bytes=peak, **facts)
    with torch.no_grad():
        for name, trained in model.state_dict().items():
            program.state_dict[name].copy_(trained)
    torch.export.save(program, arena.artifact)
    print(f"---\ntrain_loss:    {steps.loss:.4f} nats per token\nsteps:         {steps.done}")
    print(f"tokens:        {tokens:,} ({tokens / len(clock.tokens):.2f} epochs)\nparameters:    {parameters:,}")
    print(f"train_seconds: {train_s:.1f}\npeak_memory:   {peak / 2**20:.0f} MiB\nartifact:      {arena.artifact}")
    if command := arena.scorer_command():
        print(f"score it with: {command}")


if __name__ == "__main__":
    main()
