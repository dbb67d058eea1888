"""Everything that needs a CUDA device, in one call of at most `--most` seconds.

    python -m benchmarks.cuda_check [--ancestor FOLDER] [--budget 75] [--most 570] [--loop] [--out FOLDER]

1. Attention: milliseconds of each kernel at our shape, and how far FlexAttention is from the mask that is exported.
2. `benchmarks.train_cuda`: the corpus from files of this machine, our train.py, the seconds between two runs, and the
   ancestor's train.py if its folder is named. In `gaps` a prepared process that touches the GPU too soon would fail.
3. With `--loop`: `make loop ARGS="--max-experiments 2"` in a clone with a short budget, which needs a way to install.

A part that would not end in time is left out, and said to be. Nothing is downloaded: torch, ralph's few dependencies
and the ancestor's folder must be there (for 3., let PIP_NO_INDEX and PIP_FIND_LINKS point to wheels). It prints as it
goes, and writes check.json, train_cuda.json and what the loop left below `--out`: date, device, driver, versions.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ralph.adapters.machine import describe

ROOT = Path(__file__).resolve().parent.parent
SPARE_S = {"attention": 40.0, "ours": 120.0, "gaps": 150.0, "ancestor": 120.0, "loop": 200.0}  # beside the budget
LOOP_BUDGET_S = 20


class Check:
    """The parts of one call, each in a process of its own, all before one deadline."""

    def __init__(self, most_s: float, out: Path) -> None:
        self._ends, self._out = time.monotonic() + most_s, out
        self.parts: dict[str, Any] = {}
        out.mkdir(parents=True, exist_ok=True)

    def part(self, name: str, needs_s: float, command: list[str], cwd: Path = ROOT) -> bool:
        """Carry it out if there is time, and put on record how it ended."""
        left_s, began = self._ends - time.monotonic(), time.monotonic()
        if left_s < needs_s:
            self.parts[name] = f"left out: {left_s:.0f} s are left, it needs {needs_s:.0f} s"
        else:
            print(f"\n== {name}: {' '.join(command)}", flush=True)
            try:
                status = subprocess.run(command, cwd=cwd, timeout=left_s, check=False).returncode
                self.parts[name] = {"status": status, "seconds": round(time.monotonic() - began, 1)}
            except subprocess.TimeoutExpired:
                self.parts[name] = f"ended after {left_s:.0f} s, when the time was over"
        print(f"{name}: {self.parts[name]}", flush=True)
        self.write()
        return isinstance(self.parts[name], dict) and self.parts[name]["status"] == 0

    def write(self) -> None:
        """What is known so far."""
        facts = {"date": time.strftime("%Y-%m-%d %H:%M"), "machine": describe("cuda:0"), "parts": self.parts}
        (self._out / "check.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def attention(out: Path) -> None:
    """Time the kernels at our shape, and compare FlexAttention with the mask; needs the device."""
    sys.path.insert(0, str(ROOT / "workspace"))
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    import train

    p = train.profile("cuda:0")
    shape = (32, p.WIDTH // p.HEAD_DIM, p.WINDOW, p.HEAD_DIM)
    q, k, v, g = torch.randn(4, *shape, dtype=torch.bfloat16, device="cuda:0").unbind(0)
    blocks, whole = (train.near_blocks(p.WINDOW, n, "cuda:0") for n in (p.NEAREST, p.WINDOW))
    mask = train.near(p.WINDOW, p.NEAREST, q.device)
    flex = torch.compile(train.attend, dynamic=False)

    def run(attend: Any, band: Any) -> list[torch.Tensor]:
        leaves = [each.detach().requires_grad_() for each in (q, k, v)]
        y = attend(*leaves, band)
        y.backward(g)
        return [y.detach(), *(leaf.grad for leaf in leaves)]

    def milliseconds(attend: Any, band: Any) -> float | str:
        marks = [torch.Event("cuda:0", enable_timing=True) for _ in range(2)]
        try:
            for n in range(25):
                if n == 5:
                    marks[0].record()
                run(attend, band)
        except RuntimeError as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        marks[1].record()
        marks[1].synchronize()
        return float(round(marks[0].elapsed_time(marks[1]) / 20, 3))

    took: dict[str, float | str] = {}
    for kernel in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION):
        with sdpa_kernel(kernel):
            took[f"{kernel.name.lower()}, all before"] = milliseconds(train.attend, None)
    took["flex, all before"] = milliseconds(flex, whole)
    took[f"flex, {p.NEAREST} before"] = milliseconds(flex, blocks)
    took[f"mask, {p.NEAREST} before"] = milliseconds(train.attend, mask)
    pairs = zip(run(flex, blocks), run(train.attend, mask), strict=True)
    apart = {name: float((a - b).abs().max()) for name, (a, b) in zip(("y", "dq", "dk", "dv"), pairs, strict=True)}
    facts = {
        "shape": shape,
        "forward_backward_ms": took,
        "flex_from_mask": apart,
        "chosen": train.choose_attention(p, "cuda:0"),
    }
    print(json.dumps(facts, indent=1))
    (out / "attention.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    if max(apart.values()) > 0.1:
        sys.exit("FlexAttention does not compute what the exported mask does")


def loop(check: Check, out: Path) -> None:
    """The loop in a clone, with a short budget."""
    with tempfile.TemporaryDirectory(prefix="ralph-cuda-") as folder:
        clone = Path(folder) / "ralph"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        toml = clone / "workspace" / "arena.toml"
        text = re.sub(
            r"(?m)^budget_s = 300\b", f"budget_s = {LOOP_BUDGET_S}", toml.read_text(encoding="utf-8"), count=1
        )
        toml.write_text(text, encoding="utf-8")
        name = ["-c", "user.name=check", "-c", "user.email=check@localhost"]
        subprocess.run(["git", *name, "commit", "-qam", "A short budget"], cwd=clone, check=True)
        command = ["make", "loop", f"PYTHON={sys.executable}", "ARGS=--max-experiments 2"]
        check.part("loop", SPARE_S["loop"], command, cwd=clone)
        for left in ("progress.md", "state/ledger.jsonl", "state/progress.png", "state/ralph.log"):
            if (clone / left).exists():
                (out / Path(left).name).write_bytes((clone / left).read_bytes())


def main(words: list[str]) -> int:
    """Carry out the parts; non-zero when one fails or was left out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ancestor", type=Path, help="the folder with the ancestor's train.py")
    parser.add_argument("--budget", type=float, default=75.0, help="seconds of training of each run that is compared")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus-mb", type=float, default=300.0)
    parser.add_argument("--most", type=float, default=570.0, help="seconds for all of it")
    parser.add_argument("--work", type=Path, help="a folder that stays, so that a second call finds the corpus")
    parser.add_argument("--loop", action="store_true", help="the loop as well")
    parser.add_argument("--out", type=Path, default=Path("cuda-check"))
    parser.add_argument("--only-attention", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    out = options.out.resolve()
    if options.only_attention:
        attention(out)
        return 0
    check = Check(options.most, out)
    check.write()
    print((out / "check.json").read_text(encoding="utf-8"), flush=True)
    here = [sys.executable, "-m"]
    check.part(
        "attention", SPARE_S["attention"], [*here, "benchmarks.cuda_check", "--only-attention", "--out", str(out)]
    )
    with tempfile.TemporaryDirectory(prefix="ralph-cuda-") as temporary:
        work = str(options.work.resolve() if options.work else temporary)
        train = [*here, "benchmarks.train_cuda", "--work", work, "--out", str(out / "train_cuda.json")]
        train += [
            "--budget",
            f"{options.budget:g}",
            "--seeds",
            str(options.seed),
            "--corpus-mb",
            f"{options.corpus_mb:g}",
        ]
        check.part("ours", options.budget + SPARE_S["ours"], [*train, "--parts", "data", "ours"])
        if options.ancestor is not None:
            words = ["--parts", "ancestor", "--ancestor", str(options.ancestor.resolve())]
            check.part("ancestor", options.budget + SPARE_S["ancestor"], [*train, *words])
        check.part("gaps", SPARE_S["gaps"], [*train, "--parts", "gaps"])
    if options.loop:
        loop(check, out)
    return int(any(not isinstance(part, dict) or part["status"] for part in check.parts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
