"""The default arena with its default agent, end to end: what a campaign gains, and whether the gain is true.

    python -m benchmarks.default_arena [--experiments 30] [--folder CHECKOUT] [--json PATH]

Clones this repository into a temporary folder (or goes on in a checkout), lets `ralph loop` work there, then measures
the incumbent once more as the baseline of a campaign of its own, under seeds that took no part in its selection. Prints
baseline, incumbent and re-measured incumbent with the number of their runs, the verdicts, and where the time went.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KEYS = ("id", "verdict", "reason", "scores", "delta", "hypothesis", "run_s")


def main() -> None:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experiments", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="go on with the campaign in this checkout")
    parser.add_argument("--json", type=Path, help="write the result there as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ralph-default-arena-") as folder:
        first = options.folder.resolve() if options.folder else Path(folder) / "campaign"
        if not options.folder:
            _git(Path(folder), "clone", "--quiet", str(ROOT), str(first))
        result = campaign(first, Path(folder) / "again", options.experiments)
    print(summary(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def campaign(first: Path, second: Path, experiments: int) -> dict[str, Any]:
    """One campaign in `first`, and the second measurement of its incumbent in `second`."""
    _ralph(first, "loop", "--max-experiments", str(experiments))
    status = json.loads(_ralph(first, "status", "--json", show=False))
    log = json.loads(_ralph(first, "log", "--json", show=False))
    commit = status["incumbent"]["commit"]
    _git(first, "clone", "--quiet", str(first), str(second))
    _git(second, "fetch", "--quiet", "origin", "+refs/ralph/*:refs/ralph/*")
    _git(second, "checkout", "--quiet", "--detach", commit)
    _ralph(second, "loop", "--max-experiments", "0")
    again = json.loads(_ralph(second, "status", "--json", show=False))
    scores = json.loads(_ralph(second, "log", "--json", show=False))[0]["scores"]
    baseline, incumbent = log[0]["scores"], next(e["scores"] for e in log if e["id"] == status["incumbent"]["id"])
    export = json.loads(_ralph(first, "export", show=False))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {
            "cores": os.cpu_count(),
            "load_1m_at_the_end": os.getloadavg()[0],
            "device": again["arena"]["device"],
        },
        "status": status,
        "baseline": _stats(baseline),
        "incumbent": _stats(incumbent),
        "incumbent_measured_again": _stats(scores),
        "experiments": [{key: e[key] for key in KEYS} for e in export["experiments"]],
    }


def _stats(scores: list[float]) -> dict[str, Any]:
    mean = sum(scores) / len(scores)
    sd = math.sqrt(sum((s - mean) ** 2 for s in scores) / (len(scores) - 1)) if len(scores) > 1 else None
    return {"mean": mean, "sd": sd, "runs": len(scores), "scores": scores}


def summary(result: dict[str, Any]) -> str:
    """The result as a short table."""
    status, time = result["status"], result["status"]["time_s"]
    names = ("baseline", "incumbent", "incumbent_measured_again")
    rows = [f"{name:<26} {result[name]['mean']:.4f}  ({result[name]['runs']} runs)" for name in names]
    ratio = result["incumbent_measured_again"]["mean"] / result["baseline"]["mean"]
    total = sum(time.values()) or 1.0
    split = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in time.items())
    sigma = status["noise"]["sigma"]
    return "\n".join(
        [
            *rows,
            f"measured again / baseline  {ratio:.4f}",
            f"noise                      sigma {sigma or 0.0:.4f} from {status['noise']['runs']} repeats",
            f"verdicts                   {status['verdicts']}",
            f"time                       {total / 60:.0f} min: {split}",
        ]
    )


def _ralph(folder: Path, *args: str, show: bool = True) -> str:
    argv = [sys.executable, "-m", "ralph", "--dir", str(folder), *args]
    done = subprocess.run(argv, cwd=ROOT, stdout=None if show else subprocess.PIPE, text=True, check=True)
    return done.stdout or ""


def _git(folder: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=folder, check=True)


if __name__ == "__main__":
    main()
