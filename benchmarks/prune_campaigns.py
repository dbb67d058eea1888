"""Campaigns that early stops are tried on: made ones of several families, and recorded ones.

Both are carried out without a pruner. What they are for is told in `benchmarks.prune`.
"""

import json
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ralph.core.curves import LOOKS, Curve, at_looks, resample
from ralph.core.decision import Discard, Evidence, Keep, KeepRule, RunAgain, Side, decide
from ralph.core.statistics import Noise

SIGMA = 500.0  # of one score, in the units of the effects
NOISE = Noise(sigma=SIGMA, dof=30)
EXPERIMENTS = 300
SLOW = 0.25  # share of the candidates that start slowly, in the families that have such
DELAY = 12.0  # sigmas: mean excess loss of a slow starter at the beginning


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One experiment of a campaign without a pruner: the losses of its first run at the looks, and how it came out.

    `runs` are all that its verdict took, the incumbent's included; `gain` is what it truly was worth.
    """

    losses: Curve
    incumbent: tuple[Curve, ...]
    behind: float
    contender: bool
    keep: bool
    runs: int
    gain: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """How losses come about. `wobble`: sigmas of noise early on; `slow`: from which experiment on some start slowly;
    `better`: sigmas by which these are better than they would be.
    """

    wobble: float = 1.5
    slow: int | None = None
    better: float = 0.0


FAMILIES = {
    "plain": Family(),
    "noisy": Family(wobble=6.0),
    "crossing": Family(slow=0),
    "slow gains": Family(slow=0, better=2.0),
    "new kind": Family(slow=EXPERIMENTS // 2, better=2.0),
}


@dataclass(slots=True, kw_only=True)
class _Program:
    """A program: its true score, and what its loss is above that at each look."""

    score: float
    excess: tuple[float, ...]

    def run(self, rng: random.Random, wobble: float) -> tuple[float, Curve]:
        """Score and losses of one run."""
        luck, score = rng.gauss(0, 1), self.score + rng.gauss(0, SIGMA)
        return score, tuple(
            self.score + over + SIGMA * (1 + wobble * (1 - look)) * (0.6 * luck + 0.8 * rng.gauss(0, 1))
            for look, over in zip(LOOKS, self.excess, strict=True)
        )


def made(family: Family, effects: Sequence[float], experiments: int, seed: int) -> Iterator[Case]:
    """A campaign without a pruner."""
    rng, rule, challengers = random.Random(seed), KeepRule(), 0
    best = _Program(score=0.0, excess=tuple(20_000 * (1 - look) ** 2 for look in LOOKS))
    measured = [best.run(rng, family.wobble) for _ in range(3)]
    for number in range(experiments):
        program, effect = _changed(best, family, rng, number, rng.choice(effects))
        runs, first, before = [program.run(rng, family.wobble)], len(measured), tuple(c for _, c in measured)
        behind = runs[0][0] - statistics.fmean(score for score, _ in measured)
        while True:
            decision = decide(
                rule,
                Evidence(
                    candidate=tuple(score for score, _ in runs),
                    incumbent=tuple(score for score, _ in measured),
                    noise=NOISE,
                    challengers=challengers,
                ),
            )
            if not isinstance(decision, RunAgain):
                break
            side, of = (runs, program) if decision.of is Side.CANDIDATE else (measured, best)
            side.append(of.run(rng, family.wobble))
        keep = isinstance(decision, Keep)
        yield Case(
            losses=runs[0][1],
            incumbent=before,
            behind=behind,
            contender=keep or len(runs) > 1,
            keep=keep,
            runs=len(runs) + len(measured) - first,
            gain=-effect,
        )
        challengers = 0 if keep else challengers + isinstance(decision, Discard)
        if keep:
            best, measured = program, runs


def _changed(best: _Program, family: Family, rng: random.Random, number: int, effect: float) -> tuple[_Program, float]:
    """A candidate: how much of its effect shows early is its own, and some start slowly."""
    slow = family.slow is not None and number >= family.slow and rng.random() < SLOW
    delay = SIGMA * rng.expovariate(1 / DELAY) if slow else 0.0
    effect -= SIGMA * family.better if slow else 0.0
    early = rng.uniform(-0.7, 0.1)  # of the effect, at the beginning, less than at the end
    excess = tuple(
        over + effect * early * (1 - look) + delay * (1 - look) ** 2
        for look, over in zip(LOOKS, best.excess, strict=True)
    )
    return _Program(score=best.score + effect, excess=excess), effect


def recorded(path: Path) -> list[Case]:
    """The experiments of benchmarks/data/curves.jsonl that gave a score."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    budget_s = lines[0]["budget_s"]
    runs = [line for line in lines[1:] if "run" in line and line["score"] is not None]
    verdicts = {line["experiment"]: line["verdict"] for line in lines[1:] if "verdict" in line}
    by_id: dict[int, list[dict[str, Any]]] = {}
    for run in runs:
        by_id.setdefault(run["experiment"], []).append(run)
    curves = {id_: tuple(at_looks(resample(run["progress"], budget_s)) for run in its) for id_, its in by_id.items()}
    cases = []
    for id_, its in by_id.items():
        if id_ == 0 or id_ not in verdicts:
            continue
        best = its[0]["incumbent"]
        theirs, ours = (statistics.fmean(run["score"] for run in by_id[each]) for each in (best, id_))
        keep = verdicts[id_] == "keep"
        cases.append(
            Case(
                losses=curves[id_][0],
                incumbent=curves[best],
                behind=its[0]["score"] - theirs,
                contender=keep or len(its) > 1,
                keep=keep,
                runs=len(its),
                gain=theirs - ours,
            )
        )
    return cases


def shuffled(cases: Sequence[Case], times: int) -> list[list[Case]]:
    """The same in other orders."""
    orders = []
    for seed in range(times):
        order = list(cases)
        random.Random(seed).shuffle(order)
        orders.append(order)
    return orders
