"""Train a language model for a fixed time, and export it. The one file an agent edits.

    python train.py

Sections: constants, model, optimizer, data, training, export. What is fixed lies in prepare.py: the data, the clock
(training time starts when `prepare.training` is entered), the files of a run. The score is bits per byte of held-out
text, computed from the exported graph by a scorer that never sees this code.
"""

import gc
import resource
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import prepare

# ---- constants -------------------------------------------------------------------------------------------------------
# One per line, plain literals: NAME = value  # unit: reason. Those named CPU_ or CUDA_ count on that device alone; the
# code sees them as p.DEPTH, p.WIDTH, …

ROTARY_BASE = 10000.0  # 1: longest wavelength of the positions
X0_LAMBDA = 0.1  # 1: initial share of the embedding mixed in before each layer
MOMENTUM = 0.95  # 1: of Muon, Nesterov
MOMENTUM_START = 0.85  # 1: of Muon, at the first step
BETA1 = 0.8  # 1: Adam, mean of gradients
BETA2 = 0.95  # 1: Adam, mean of squares
FINAL_LR = 0.0  # share of the peak: learning rate at the end of the budget
NEWTON_STEPS = 5  # iterations: orthogonalisation in Muon

# CPU: two cores for half a minute
CPU_DEPTH = 2  # layers
CPU_WIDTH = 96  # channels
CPU_HEAD_DIM = 32  # channels per head
CPU_MLP_RATIO = 4  # hidden channels of the MLP per channel
CPU_WINDOW = 256  # tokens: length of a training window; positions up to the scorer's length are extrapolated
CPU_SOFTCAP = 0.0  # logits: tanh bound, 0 for none: costs a fifth of a step here
CPU_BATCH = 4  # windows per step
CPU_DEVICE_BATCH = 4  # windows per forward pass: 1024 tokens keep the logits in the cache
CPU_MATRIX_LR = 0.025  # Muon: matrices in the layers
CPU_EMBEDDING_LR = 0.3  # Adam: token embeddings
CPU_VALUE_LR = 0.3  # Adam: value embeddings
CPU_HEAD_LR = 0.03  # Adam: output matrix
CPU_SCALAR_LR = 0.02  # Adam: per-layer scalars
CPU_WEIGHT_DECAY = 0.0  # Muon: decoupled, falls to 0 with the budget
CPU_WARMUP = 0.02  # share of the budget: learning rate rises from 0
CPU_WARMDOWN = 0.6  # share of the budget: learning rate falls to FINAL_LR
CPU_MOMENTUM_STEPS = 100  # steps: rise of the momentum to its value
CPU_LOG_EVERY = 20  # steps; fixed: a matter of the log

# CUDA: one data-centre GPU for five minutes; about 50 million parameters, the ancestor's size
CUDA_DEPTH = 8  # layers
CUDA_WIDTH = 512  # channels
CUDA_HEAD_DIM = 128  # channels per head
CUDA_MLP_RATIO = 4  # hidden channels of the MLP per channel
CUDA_WINDOW = 2048  # tokens: length of a training window
CUDA_SOFTCAP = 15.0  # logits: tanh bound, keeps the loss calm early on; 0 for none
CUDA_BATCH = 256  # windows per step: 2**19 tokens
CUDA_DEVICE_BATCH = 32  # windows per forward pass: fits in 24 GB; the rest is accumulated
CUDA_MATRIX_LR = 0.04  # Muon: matrices in the layers
CUDA_EMBEDDING_LR = 0.7  # Adam: token embeddings
CUDA_VALUE_LR = 0.7  # Adam: value embeddings
CUDA_HEAD_LR = 0.005  # Adam: output matrix
CUDA_SCALAR_LR = 0.05  # Adam: per-layer scalars
CUDA_WEIGHT_DECAY = 0.1  # Muon: decoupled, falls to 0 with the budget
CUDA_WARMUP = 0.0  # share of the budget: learning rate rises from 0
CUDA_WARMDOWN = 0.5  # share of the budget: learning rate falls to FINAL_LR
CUDA_MOMENTUM_STEPS = 300  # steps: rise of the momentum to its value
CUDA_LOG_EVERY = 10  # steps; fixed: a matter of the log


def profile(device: str) -> SimpleNamespace:
    """The constants of this device's profile, without their prefix."""
    prefix = "CPU_" if device == "cpu" else "CUDA_"
    return SimpleNamespace(**{name.removeprefix(prefix): v for name, v in globals().items() if name.startswith(prefix)})


# ---- model -----------------------------------------------------------------------------------------------------------


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

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, self.head_dim).unbind(2)
        if self.gate is not None and values is not None:
            gate = 2 * torch.sigmoid(self.gate(x[..., : self.GATE_CHANNELS]))
            v = v + gate.unsqueeze(-1) * values.view(batch, length, self.heads, self.head_dim)
        q, k = norm(rotate(q, cos, sin)), norm(rotate(k, cos, sin))
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


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

    def forward(self, x: Tensor, values: Tensor | None, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(norm(x), values, cos, sin)
        return x + self.down(F.relu(self.up(norm(x))).square())


class GPT(nn.Module):
    """(batch, length) tokens -> (batch, length, vocab_size) float32 logits, in `dtype` inside."""

    def __init__(self, p: SimpleNamespace, vocab_size: int, longest: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.softcap = dtype, p.SOFTCAP
        layers = range(p.DEPTH)
        with_values = [layer % 2 == (p.DEPTH - 1) % 2 for layer in layers]  # every other, the last included
        self.embedding = nn.Embedding(vocab_size, p.WIDTH)
        self.values = nn.ModuleDict({str(i): nn.Embedding(vocab_size, p.WIDTH) for i in layers if with_values[i]})
        self.blocks = nn.ModuleList(Block(p.WIDTH, p.HEAD_DIM, p.MLP_RATIO * p.WIDTH, with_values[i]) for i in layers)
        self.head = Linear(p.WIDTH, vocab_size)
        self.residual = nn.Parameter(torch.ones(p.DEPTH))
        self.x0 = nn.Parameter(torch.full((p.DEPTH,), X0_LAMBDA))
        frequency = ROTARY_BASE ** -(torch.arange(0, p.HEAD_DIM, 2).float() / p.HEAD_DIM)
        angle = torch.outer(torch.arange(longest).float(), frequency)[:, None, :]
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        self.init_weights(p.WIDTH)

    @torch.no_grad()
    def init_weights(self, width: int) -> None:
        """Outputs of layers start at zero, so that the model starts as its embedding and a small head."""
        bound = (3 / width) ** 0.5
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

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.size(1)
        cos, sin = self.cos[:length].to(self.dtype), self.sin[:length].to(self.dtype)
        x = x0 = norm(self.embedding(tokens).to(self.dtype))
        for i, block in enumerate(self.blocks):
            values = self.values[str(i)](tokens).to(self.dtype) if str(i) in self.values else None
            x = block(self.residual[i].to(self.dtype) * x + self.x0[i].to(self.dtype) * x0, values, cos, sin)
        logits = self.head(norm(x)).float()
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits


# ---- optimizer -------------------------------------------------------------------------------------------------------


def orthogonalise(g: Tensor) -> Tensor:
    """Push the singular values of each matrix of (n, rows, columns) towards 1: Newton-Schulz, as in Muon."""
    x = g.bfloat16() if g.is_cuda else g
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(NEWTON_STEPS):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Keller Jordan's Muon). Matrices of one shape are one group and are treated in one go.

    torch.optim.Muon does them one by one and always in bfloat16, which costs thirty times as much on a CPU without it.
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        shapes = sorted({m.shape for m in matrices})
        groups = [{"params": [m for m in matrices if m.shape == shape]} for shape in shapes]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": MOMENTUM})
        self.orthogonalise: Callable[[Tensor], Tensor] = orthogonalise

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            matrices = group["params"]
            g = torch.stack([m.grad for m in matrices])
            average = self.state[matrices[0]].setdefault("average", torch.zeros_like(g))
            average.lerp_(g, 1 - group["momentum"])
            update = self.orthogonalise(g.lerp_(average, group["momentum"]))
            rows, columns = g.shape[-2:]
            step = group["lr"] * max(1.0, rows / columns) ** 0.5
            torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(matrices, list(update.unbind(0)), alpha=-step)


def build_optimizers(model: GPT, p: SimpleNamespace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices in the layers, Adam for everything else."""
    adam = [
        {"params": [model.embedding.weight], "lr": p.EMBEDDING_LR},
        {"params": list(model.values.parameters()), "lr": p.VALUE_LR},
        {"params": [model.head.weight], "lr": p.HEAD_LR},
        {"params": [model.residual, model.x0], "lr": p.SCALAR_LR},
    ]
    optimizers = [
        torch.optim.Adam(adam, betas=(BETA1, BETA2), eps=1e-10, fused=True),
        Muon(list(model.blocks.parameters()), p.MATRIX_LR, p.WEIGHT_DECAY),
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
        group["lr"] = group["peak_lr"] * min(rise, fall + (1 - fall) * FINAL_LR)
        if "momentum" in group:
            group["momentum"] = MOMENTUM_START + ready * (MOMENTUM - MOMENTUM_START)
            group["weight_decay"] = p.WEIGHT_DECAY * (1 - fraction)


# ---- data ------------------------------------------------------------------------------------------------------------


def batches(tokens: np.ndarray, size: int, window: int, seed: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Windows without end: each epoch takes every window once, in another order and from another start."""
    draw = np.random.default_rng(seed)
    columns = np.arange(window + 1)
    while True:
        starts = draw.permutation((len(tokens) - 2 * window) // window) * window + draw.integers(window)
        for at in range(0, len(starts) - size + 1, size):
            rows = tokens[starts[at : at + size, None] + columns].astype(np.int64)
            batch = torch.from_numpy(rows)
            batch = batch.pin_memory().to(device, non_blocking=True) if device != "cpu" else batch
            yield batch[:, :-1], batch[:, 1:]


# ---- training --------------------------------------------------------------------------------------------------------


def train_step(
    forward: Callable[[Tensor, Tensor], Tensor],
    optimizers: list[torch.optim.Optimizer],
    source: Iterator[tuple[Tensor, Tensor]],
    passes: int,
) -> float:
    """One step of the optimizers over `passes` forward passes; returns the mean loss in nats."""
    total = 0.0
    for _ in range(passes):
        loss = forward(*next(source)) / passes
        loss.backward()
        total += loss.detach()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(total)


def main() -> None:
    """Build, warm up, train until the time is over, export."""
    arena = prepare.arena()
    prepare.device(arena)
    p, on_cuda = profile(arena.device), arena.device != "cpu"
    torch.manual_seed(arena.seed)
    torch.set_float32_matmul_precision("high")
    with torch.device(arena.device):
        model = GPT(
            p, arena.vocab_size, max(p.WINDOW, arena.sequence_len), torch.bfloat16 if on_cuda else torch.float32
        )

    def forward(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x).flatten(0, 1), y.flatten())

    if on_cuda:
        forward = torch.compile(forward, dynamic=False)
    passes = p.BATCH // p.DEVICE_BATCH
    parameters = sum(parameter.numel() for parameter in model.parameters())
    arena.write_config({**vars(p), "parameters": parameters, "tokens_per_step": passes * p.DEVICE_BATCH * p.WINDOW})

    # warm-up on dummy data: compiles and touches memory; its traces are wiped out
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dummy = np.random.default_rng(0).integers(0, arena.vocab_size, (p.DEVICE_BATCH + 3) * p.WINDOW)
    train_step(forward, build_optimizers(model, p), batches(dummy, p.DEVICE_BATCH, p.WINDOW, 0, arena.device), 1)
    model.load_state_dict(start)
    optimizers = build_optimizers(model, p)
    gc.collect()
    gc.freeze()
    gc.disable()

    with prepare.training(arena) as clock:
        source = batches(clock.tokens, p.DEVICE_BATCH, p.WINDOW, arena.seed, arena.device)
        step, slowest = 0, 0.0
        while clock.remaining() > slowest:
            began = clock.elapsed()
            schedule(optimizers, p, step, clock.fraction())
            loss = train_step(forward, optimizers, source, passes)
            step += 1
            slowest = max(0.9 * slowest, clock.elapsed() - began)
            if step % p.LOG_EVERY == 0 or clock.remaining() <= slowest:
                clock.log(step, loss)
        train_s = clock.elapsed()

    # ---- export ------------------------------------------------------------------------------------------------------
    peak = torch.cuda.max_memory_allocated() if on_cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tokens = step * passes * p.DEVICE_BATCH * p.WINDOW
    arena.write_report(peak_bytes=peak, steps=step, tokens=tokens, tokens_per_s=round(tokens / train_s), loss=loss)
    example = torch.zeros((arena.score_batch, arena.sequence_len), dtype=torch.int64, device=arena.device)
    with torch.no_grad():
        program = torch.export.export(model.eval(), (example,), strict=False)
    torch.export.save(program, arena.artifact)
    print("---")
    print(f"train_loss:    {loss:.4f} nats per token")
    print(f"steps:         {step}")
    print(f"tokens:        {tokens:,} ({tokens / len(clock.tokens):.2f} epochs)")
    print(f"parameters:    {parameters:,}")
    print(f"train_seconds: {train_s:.1f}")
    print(f"peak_memory:   {peak / 2**20:.0f} MiB")
    print(f"artifact:      {arena.artifact}")
    if command := arena.scorer_command():
        print(f"score it with: {command}")


if __name__ == "__main__":
    main()
