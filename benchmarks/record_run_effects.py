"""True effects behind a log of single noisy runs: what `benchmarks/data/record_run_effects.json` is made by.

    python benchmarks/record_run_effects.py results.tsv benchmarks/data/record_run_effects.json

The log is results.tsv of the published record run of karpathy/autoresearch (March 2026, val_bpb 0.9979 to 0.9697,
125 experiments, one run each, lower is better; crashes are left out). Its deltas are not effects: each is
the difference of two noisy scores, the incumbent's being the luckiest of many. So the chain is taken as it was:

    y_k = T_k + noise,   noise ~ N(0, 0.0005²)          the score of experiment k and what it truly is
    T_k = T_parent(k) + e_k,   e_k ~ Σ_c w_c N(m_c, s_c²)    its effect on the incumbent it was made from

Which experiments became the incumbent followed from the scores, so conditioning on all scores accounts for selection.
A Gibbs sampler draws (w, components, T) in turn; every draw of e kept is one joint guess at the true effects. Small
effects have components symmetric about zero: the log cannot tell small gains from small losses, so neither is favoured.

What this does not know: ideas are not additive in truth, and the noise may not be 0.0005. One loss of 2.2 (tied
embeddings) is cut to 0.03, where it decides as little as before.
"""

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIGMA = 0.0005  # val_bpb; in the log a changed seed moved it by 0.0007, a change without effect by 0.0004
LARGEST_LOSS = 0.03  # val_bpb
COMPONENT_MEANS = np.array([0.0, 0.0, 0.001, 0.002, 0.010, -0.001, -0.005])  # val_bpb: null, small, losses, gains
COMPONENT_SDS = np.array([0.0001, 0.0004, 0.0006, 0.0015, 0.010, 0.0008, 0.004])  # val_bpb
WARM_UP, SWEEPS, EVERY = 500, 3000, 50

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Scores in order, the baseline first, and the index of the incumbent that each was made from."""

    scores: Floats
    parents: NDArray[np.int64]


def read_log(path: Path) -> Chain:
    """The chain of one results.tsv (columns val_bpb and status)."""
    with path.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["status"] != "crash"]
    scores: list[float] = []
    parents: list[int] = []
    incumbent = 0
    for index, row in enumerate(rows):
        parents.append(incumbent)
        score = float(row["val_bpb"])
        scores.append(min(score, scores[incumbent] + LARGEST_LOSS) if scores else score)
        if row["status"] == "keep":
            incumbent = index
    return Chain(scores=np.array(scores), parents=np.array(parents[1:]))


def draw_effects(chain: Chain, seed: int = 0) -> Floats:
    """Joint posterior draws of the effects, shape (draws, experiments), in the order of the log."""
    rng = np.random.default_rng(seed)
    count = len(chain.scores)
    steps = np.arange(count - 1)
    difference = np.zeros((count - 1, count))
    difference[steps, steps + 1] = 1
    difference[steps, chain.parents] -= 1
    true, weights = chain.scores.copy(), np.full(len(COMPONENT_MEANS), 1 / len(COMPONENT_MEANS))
    draws = []
    for sweep in range(WARM_UP + SWEEPS):
        effects = difference @ true
        distance = (effects[:, None] - COMPONENT_MEANS) / COMPONENT_SDS
        density = weights / COMPONENT_SDS * np.exp(-0.5 * distance**2) + 1e-300
        chosen = (rng.random((count - 1, 1)) * density.sum(1, keepdims=True) < density.cumsum(1)).argmax(1)
        weights = rng.dirichlet(1 + np.bincount(chosen, minlength=len(weights)))
        precision = 1 / COMPONENT_SDS[chosen] ** 2
        information = difference.T @ (precision[:, None] * difference) + np.eye(count) / SIGMA**2
        pull = difference.T @ (precision * COMPONENT_MEANS[chosen]) + chain.scores / SIGMA**2
        root = np.linalg.cholesky(information)
        true = np.linalg.solve(information, pull) + np.linalg.solve(root.T, rng.standard_normal(count))
        if sweep >= WARM_UP and sweep % EVERY == 0:
            draws.append(difference @ true)
    return np.array(draws)


def main() -> None:
    """Read the log, write the draws."""
    parser = argparse.ArgumentParser(description="Derive true effects from a log of single noisy runs.")
    parser.add_argument("log", type=Path, help="results.tsv of the record run")
    parser.add_argument("out", type=Path, help="the JSON to write")
    arguments = parser.parse_args()
    draws = draw_effects(read_log(arguments.log))
    content = {
        "source": "results.tsv of the published record run of karpathy/autoresearch, March 2026; crashes left out",
        "method": "posterior draws of each experiment's true effect on val_bpb; see benchmarks/record_run_effects.py",
        "unit": "1e-6 val_bpb, below 0 is better",
        "sigma": SIGMA,
        "effects": [[round(1e6 * effect) for effect in draw] for draw in draws.tolist()],
    }
    arguments.out.write_text(json.dumps(content).replace("], [", "],\n[") + "\n", encoding="utf-8")
    print(f"{draws.shape[0]} draws of {draws.shape[1]} effects written to {arguments.out}")


if __name__ == "__main__":
    main()
