"""Does the tuner find more than Optuna's TPE over the whole space, or random search, at the same number of runs?

Synthetic landscapes stand in for training: fourteen constants of which seven matter, lopsided bowls in the tuner's
coordinates with some interactions, cliffs (a deadline, a divergence), and the noise of one run as measured on the
default arena (sigma 0.003). All methods face the same landscapes under the same rule: a candidate that is not clearly
worse is run up to three times and kept when it is better by 1.645 standard errors. What is reported is the *true* gain
of the incumbent. The landscapes were made by the author of the tuner, in its own coordinates; real ones differ.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.tuner [--landscapes 4] [--runs 60 200]
"""

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ralph.adapters.agents.contract import Facts
from ralph.adapters.agents.proposing import propose
from ralph.core.constants import constants_of
from ralph.core.literals import Literal
from ralph.core.search_space import Dimension, dimension
from ralph.model import CrashKind, Direction

SIGMA = 0.003
SOURCE = """
DEPTH = 4
WIDTH = 256
TOTAL_BATCH = 2**14
MATRIX_LR = 0.02
EMBED_LR = 0.3
HEAD_LR = 0.004
WEIGHT_DECAY = 0.1
ADAM_BETAS = (0.8, 0.95)
WARMDOWN_FRAC = 0.5
WARMUP_FRAC = 0.0
SOFTCAP = 15.0
INIT_SCALE = 0.68
USE_NORM = True
"""
Constants = Mapping[str, Literal]


@dataclass(frozen=True)
class Landscape:
    """A true loss over the space of `SOURCE`, known in full."""

    space: tuple[Dimension, ...]
    optimum: dict[str, float]
    curvature: dict[str, float]
    skew: dict[str, float]
    pairs: list[tuple[str, str, float]]
    cliffs: dict[str, tuple[float, CrashKind]]

    def crash(self, z: Mapping[str, float]) -> CrashKind | None:
        """How a run at `z` fails, None where it does not."""
        return next((kind for key, (edge, kind) in self.cliffs.items() if z[key] > edge), None)

    def loss(self, z: Mapping[str, float]) -> float:
        """The true loss at `z`; about 1.6 is the best there is."""
        far = {k: z[k] - self.optimum[k] for k in self.optimum}
        total = sum(self.curvature[k] * _bowl(far[k], self.skew[k]) for k in far)
        return 1.6 + total + sum(weight * far[a] * far[b] for a, b, weight in self.pairs)


def _bowl(x: float, skew: float) -> float:
    """Like x² near zero, steeper on one side."""
    return (math.exp(skew * x) - skew * x - 1) * 2 / skew**2


def landscape(seed: int) -> Landscape:
    """A random landscape around the baseline of `SOURCE`."""
    rng = random.Random(seed)
    found = constants_of({"train.py": SOURCE}).items()
    space = tuple(d for k, v in found if v is not None and (d := dimension(k, v)) is not None)
    matters = sorted(rng.sample([d.key for d in space], 7))
    optimum, curvature, skew = {}, {}, {}
    for d in space:
        wanted = min(max(rng.gauss(0, 1.2), d.low * 0.8), d.high * 0.8)
        optimum[d.key] = float(rng.random() < 0.5) if d.categorical else wanted
        curvature[d.key] = rng.uniform(0.002, 0.009) if d.key in matters else rng.uniform(0, 0.0003)
        skew[d.key] = rng.choice((-1, 1)) * rng.uniform(0.1, 0.8)
    pairs = [
        (a, b, rng.uniform(-0.7, 0.7) * math.sqrt(curvature[a] * curvature[b]))
        for a, b in zip(matters[::2], matters[1::2], strict=False)
    ]
    depth, rate = "train.py:DEPTH", "train.py:MATRIX_LR"
    cliffs = {
        depth: (rng.uniform(0.5, 1.2), CrashKind.DEADLINE),
        rate: (max(1.2, optimum[rate] + 0.5), CrashKind.NAN),
    }
    optimum[depth] = min(optimum[depth], cliffs[depth][0] - 0.1)
    return Landscape(space, optimum, curvature, skew, pairs, cliffs)


@dataclass
class Campaign:
    """A campaign of one method in one landscape, with the rule that all methods share."""

    land: Landscape
    rng: random.Random
    runs_left: int
    text: str = SOURCE
    history: list[str] = field(default_factory=list)
    crashes: int = 0
    experiments: int = 0

    def __post_init__(self) -> None:
        found = constants_of({"train.py": SOURCE})
        self.baseline: Constants = {k: v for k, v in found.items() if v is not None}
        self.incumbent: Constants = self.baseline
        self.incumbent_id = 0
        self.scores = [self._run(self.incumbent) for _ in range(3)]
        self._record("keep", self.baseline, self.scores)

    def place(self, constants: Constants) -> dict[str, float]:
        """Coordinates of a full set of constants."""
        return {d.key: d.place(constants[d.key]) or 0.0 for d in self.land.space}

    def truth(self) -> float:
        """The true loss of the incumbent."""
        return self.land.loss(self.place(self.incumbent))

    def evaluate(self, constants: Constants) -> float | None:
        """Run a candidate, judge it, remember it. Its mean score, None after a crash."""
        self.experiments += 1
        changed = {k: v for k, v in constants.items() if v != self.baseline[k]}
        if kind := self.land.crash(self.place(constants)):
            self.runs_left -= 1
            self.crashes += 1
            self._record("crash", changed, [], kind)
            return None
        scores = [self._run(constants)]
        while len(scores) < 3 and self.runs_left > 0 and self._gap(scores) > -2.0:
            scores.append(self._run(constants))
        keep = self._gap(scores) > 1.645 and len(scores) > 1
        self._record("keep" if keep else "discard", changed, scores)
        if keep:
            self.incumbent, self.scores, self.incumbent_id = constants, scores, self.experiments
        return statistics.fmean(scores)

    def _gap(self, scores: list[float]) -> float:
        """How many standard errors better than the incumbent."""
        se = SIGMA * math.sqrt(1 / len(scores) + 1 / len(self.scores))
        return (statistics.fmean(self.scores) - statistics.fmean(scores)) / se

    def _run(self, constants: Constants) -> float:
        self.runs_left -= 1
        return self.land.loss(self.place(constants)) + self.rng.gauss(0, SIGMA)

    def _record(self, verdict: str, shown: Constants, scores: list[float], crash: CrashKind | None = None) -> None:
        line = {"id": self.experiments, "verdict": verdict, "crash": crash, "scores": scores, "constants": dict(shown)}
        self.history.append(json.dumps(line))


def tuner(campaign: Campaign, seed: int) -> None:
    """Our tuner, through its own interface: texts and history in, text out."""
    while campaign.runs_left > 0:
        facts = Facts(
            id=campaign.experiments + 1, attempt=1, campaign="bench", metric="loss", direction=Direction.MIN,
            device="cpu", editable=("train.py",), sigma=SIGMA, incumbent_id=campaign.incumbent_id,
            incumbent_score=statistics.fmean(campaign.scores), incumbent_runs=len(campaign.scores), refusals=(),
        )  # fmt: skip
        _, edited = propose(facts, {"train.py": campaign.text}, campaign.history, seed * 10_000 + facts.id)
        was = campaign.incumbent_id
        campaign.evaluate({k: v for k, v in constants_of(edited).items() if v is not None})
        campaign.text = edited["train.py"] if campaign.incumbent_id != was else campaign.text


def optuna_tpe(campaign: Campaign, seed: int) -> None:
    """Optuna's TPE over the full space, told the baseline first; a crash is told as worse than the worst."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        d.key: optuna.distributions.FloatDistribution(d.low, d.high) for d in campaign.land.space
    }
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    worst = statistics.fmean(campaign.scores)
    study.add_trial(optuna.trial.create_trial(params=dict.fromkeys(space, 0.0), distributions=space, value=worst))
    while campaign.runs_left > 0:
        asked = study.ask(space)
        score = campaign.evaluate({d.key: d.value(asked.params[d.key]) for d in campaign.land.space})
        worst = max(worst, score or worst)
        study.tell(asked, worst + 0.01 if score is None else score)


def random_search(campaign: Campaign, seed: int) -> None:
    """Uniform over the full space."""
    rng = random.Random(seed)
    while campaign.runs_left > 0:
        campaign.evaluate({d.key: d.value(rng.uniform(d.low, d.high)) for d in campaign.land.space})


def random_steps(campaign: Campaign, seed: int) -> None:
    """A random step of up to 1.5 for one to three constants of the incumbent: patience without a model."""
    rng = random.Random(seed)
    while campaign.runs_left > 0:
        values = dict(campaign.incumbent)
        for d in rng.sample(campaign.land.space, rng.randint(1, 3)):
            values[d.key] = d.value((d.place(values[d.key]) or 0.0) + rng.uniform(-1.5, 1.5))
        if values != campaign.incumbent:
            campaign.evaluate(values)


METHODS: dict[str, Callable[[Campaign, int], None]] = {
    "tuner": tuner,
    "random steps": random_steps,
    "optuna TPE": optuna_tpe,
    "random search": random_search,
}


def compare(name: str, runs: int, seeds: range) -> None:
    """Run one method on all landscapes and print its row."""
    began, gains, shares, crashes, ideas = time.monotonic(), [], [], 0, 0
    for seed in seeds:
        campaign = Campaign(landscape(seed), random.Random(seed + 1), runs)
        start = campaign.truth()
        METHODS[name](campaign, seed)
        gains.append((start - campaign.truth()) / SIGMA)
        shares.append((start - campaign.truth()) / (start - 1.6))
        crashes, ideas = crashes + campaign.crashes, ideas + campaign.experiments
    seconds = (time.monotonic() - began) / max(1, ideas)
    print(
        f"{name:14}{statistics.fmean(gains):7.1f}{statistics.fmean(shares):8.0%}{ideas / len(gains):7.0f}"
        f"{crashes / len(gains):9.1f}{seconds:8.2f}   {' '.join(f'{g:.1f}' for g in gains)}",
        flush=True,
    )


def main() -> None:
    """Print one table per number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscapes", type=int, default=4)
    parser.add_argument("--first", type=int, default=0, help="seed of the first landscape")
    parser.add_argument("--runs", type=int, nargs="*", default=[60, 200])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    for runs in options.runs:
        print(f"\n{runs} runs each on {options.landscapes} landscapes; true gains of the incumbent in sigmas ({SIGMA})")
        print(f"{'method':14}{'gain':>7}{'found':>8}{'ideas':>7}{'crashes':>9}{'s/idea':>8}   gain on each landscape")
        for name in options.methods:
            compare(name, runs, range(options.first, options.first + options.landscapes))


if __name__ == "__main__":
    main()
