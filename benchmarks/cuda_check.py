"""Everything that needs a CUDA device, in one call: `python3 benchmarks/cuda_check.py [--short 40] [--out FOLDER]`.

1. `make loop ARGS="--max-experiments 2"` in a clone, with a budget of `--short` seconds: does the loop work here?
2. One full training run of the default arena by hand, with its own budget (300 s), scored by the sealed scorer.

Prints device, driver and versions, score, tokens per second, peak memory and the split of the wall time. Uses the torch
that is installed; where the package index is out of reach, let PIP_NO_INDEX and PIP_FIND_LINKS point to wheels.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run both parts; non-zero when one fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", type=int, default=40, help="seconds of training in the loop")
    parser.add_argument("--full", type=int, default=300, help="seconds of training by hand; 0 leaves it out")
    parser.add_argument("--out", type=Path, help="folder for progress.md, the ledger and the picture")
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="ralph-cuda-") as folder:
        clone = Path(folder) / "ralph"
        _run(Path(folder), "git", "clone", "--quiet", str(ROOT), str(clone))
        status = loop(clone, options.short, options.out)
        return status or (by_hand(clone, options.full) if options.full else 0)


def machine() -> str:
    """What this is measured on."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip() or "no nvidia-smi"
    code = "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.is_available())"
    torch = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    return f"{time.strftime('%Y-%m-%d')} · {gpu} · torch {torch} · Python {platform.python_version()}"


def loop(clone: Path, budget_s: int, out: Path | None) -> int:
    """The loop with a short budget."""
    toml = clone / "workspace" / "arena.toml"
    text = re.sub(r"(?m)^budget_s = 300\b", f"budget_s = {budget_s}", toml.read_text(encoding="utf-8"), count=1)
    toml.write_text(text, encoding="utf-8")
    _run(clone, "git", "-c", "user.name=check", "-c", "user.email=check@localhost", "commit", "-qam", "A short budget")
    began = time.monotonic()
    done = subprocess.run(
        ["make", "loop", f"PYTHON={sys.executable}", "ARGS=--max-experiments 2"], cwd=clone, check=False
    )
    print(f"\nmake loop: status {done.returncode} after {time.monotonic() - began:.0f} s")
    python = clone / ".venv" / "bin" / "python"
    if python.exists():
        _run(clone, str(python), "-m", "ralph", "status", "--json", check=False)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for name in ("progress.md", "state/ledger.jsonl", "state/progress.png", "state/ralph.log"):
            if (clone / name).exists():
                (out / Path(name).name).write_bytes((clone / name).read_bytes())
    return done.returncode


def by_hand(clone: Path, budget_s: int) -> int:
    """One run with the full budget, then the scorer on what it left."""
    _run(clone, "git", "checkout", "--quiet", "HEAD~1", "--", "workspace/arena.toml")
    python, began = str(clone / ".venv" / "bin" / "python"), time.monotonic()
    env = {**os.environ, "RALPH_BUDGET_S": str(budget_s), "PYTHONUNBUFFERED": "1"}
    trained = subprocess.run(
        [python, "workspace/train.py"], cwd=clone, env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    print("\n".join(trained.stdout.splitlines()[-40:]))
    print(f"\ntrain.py: status {trained.returncode} after {time.monotonic() - began:.0f} s, budget {budget_s} s")
    command = next((line.strip() for line in reversed(trained.stdout.splitlines()) if "language_model" in line), "")
    if trained.returncode or not command:
        return trained.returncode or 1
    began = time.monotonic()
    scored = subprocess.run(command.split(": ", 1)[-1], shell=True, cwd=clone, check=False)
    print(f"scorer: status {scored.returncode} after {time.monotonic() - began:.0f} s")
    for answer in sorted(clone.rglob("score.json")):
        print(json.dumps(json.loads(answer.read_text(encoding="utf-8")), indent=1))
    return scored.returncode


def _run(folder: Path, *argv: str, check: bool = True) -> None:
    subprocess.run(argv, cwd=folder, check=check)


if __name__ == "__main__":
    sys.exit(main())
