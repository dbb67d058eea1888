"""What early stops save and what they cost: stored curves are replayed under our rule and under Optuna's pruners.

    python -m benchmarks.prune [--campaigns 8] [--shuffles 100] [--json benchmarks/results/prune.json]

Every campaign is first carried out without a pruner. Its experiments are then replayed in order: of each the pruner
sees the smoothed loss of the first run at every look, as the supervisor does (ralph.core.curves), and stops it or lets
it go on to its known verdict. What would have been proposed after another verdict no replay can know: all see the same.

Made: candidates whose true effects are those behind the published record run (benchmarks/data), judged by the keep rule
(ralph.core.decision). In `plain` and `noisy` a loss shows early what the score will be, more and less clearly. In
`crossing` a quarter starts slowly, by very different amounts, whatever it is worth; in `slow gains` these are the
better ideas, so that keeps look worse than other candidates; in `new kind` they appear only in the second half, which
no rule can foresee from the past. Real: benchmarks/data/curves.jsonl, a campaign of the tuner on the default arena with
short runs (benchmarks/record_curves.py), in the order in which it happened and in shuffled orders.

For each pruner: of the contenders (experiments that were kept or run again) and of the keeps, the share that it stops;
the share of the keeps' gain that these had; and experiments and gain per hour of training beside those without a
pruner, repeats included. Optuna's pruners get the same losses at the same looks and as many first experiments for
themselves as ours has by default; its Wilcoxon pruner, a test over many instances of one problem, has no use for a
handful of looks at one curve. `informed` was told from eight other campaigns how gaps and verdicts go together, and
stops 5% of keeps: about as much as can be seen in the losses. `hindsight` knows the verdicts.
"""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.prune_campaigns import EXPERIMENTS, FAMILIES, SIGMA, Case, made, recorded, shuffled
from ralph.core import pruning
from ralph.core.curves import KEPT, LOOKS, POINTS, Curve, Finished, Past
from ralph.core.pruning import PruneRule
from ralph.model import Direction

DATA = Path(__file__).parent / "data"
STARTUP = PruneRule().least
RATES = (0.05, 0.1, 0.2, 0.3)
KEEPS_STOPPED = 0.05  # of the keeps, at which the informed pruner shows what could be saved
PER_HOUR = ("experiments_per_hour", "gain_per_hour")  # of training, beside no pruner
OTHERS = 8  # campaigns that it is informed of
AIM = (
    "1.3 times, at most 5% of keeps"  # 1.5 times the ancestor's experiments an hour, of which 1.15 without early stops
)


class Pruner(Protocol):
    """Sees the experiments of one campaign, one after another."""

    def trained(self, case: Case) -> float:
        """The share of its budget after which this one is stopped; 1 when it goes on."""
        ...


# ---- pruners ---------------------------------------------------------------------------------------------------------


class Ours:
    """The rule of ralph.core.pruning on the past that the supervisor would have."""

    def __init__(self, rule: PruneRule, name: str) -> None:
        self._rule, self._name, self._seen, self._past = rule, name, 0, Past()

    def trained(self, case: Case) -> float:
        """By our rule."""
        self._seen += 1
        past = replace(self._past, kept={0: case.incumbent})
        early = pruning.early_stop(self._rule, past, "agent", _spread_out(case.losses), 0, Direction.MIN)
        if early is not None:
            early = pruning.with_lot(self._rule, early, self._name, self._seen)
            if not early.spared:
                return early.share
        self._past = _with_whole(past, case, past.gaps(case.losses, 0), spared=early is not None)
        return 1.0


def _spread_out(losses: Curve) -> Curve:
    points: list[float | None] = [None] * POINTS
    for look, loss in zip(LOOKS, losses, strict=True):
        points[round(look * POINTS) - 1] = loss
    return tuple(points)


class Informed:
    """Knows from other campaigns of the family how gaps and verdicts go together: as far as a look at losses can tell.

    The probability of a keep is a logistic function of the gaps so far, one for each look. A run is stopped where it
    is below a bound, the one with which `KEEPS_STOPPED` of the other campaigns' keeps would have been.
    """

    def __init__(self, others: Sequence[Sequence[Case]]) -> None:
        gaps = np.array([each for cases in others for each in gaps_of(cases)])
        keep = np.array([case.keep for cases in others for case in cases])
        self._models = [_logistic(gaps[:, : k + 1] / SIGMA, keep) for k in range(len(LOOKS))]
        lowest = np.min([self._probable(gaps, k) for k in range(len(LOOKS))], axis=0)
        self._bound, self._past = float(np.quantile(lowest[keep], KEEPS_STOPPED)), Past()

    def _probable(self, gaps: Any, k: int) -> Any:
        return _sigmoid(_with_one(gaps[:, : k + 1] / SIGMA) @ self._models[k])

    def trained(self, case: Case) -> float:
        """By what others came to."""
        self._past = replace(self._past, kept={0: case.incumbent})
        gaps = self._past.gaps(case.losses, 0)
        self._past = _with_whole(self._past, case, gaps)
        table = np.array([gaps], dtype=float)
        return next((look for k, look in enumerate(LOOKS) if self._probable(table, k)[0] < self._bound), 1.0)


def gaps_of(cases: Sequence[Case]) -> list[Curve]:
    """How far behind each experiment's first run was at the looks, in a campaign without a pruner."""
    past, found = Past(), []
    for case in cases:
        past = replace(past, kept={0: case.incumbent})
        found.append(past.gaps(case.losses, 0))
        past = _with_whole(past, case, found[-1])
    return found


def _with_whole(past: Past, case: Case, gaps: Curve, spared: bool = False) -> Past:
    """With an experiment that went on to its verdict."""
    one = Finished(
        agent="agent", losses=case.losses, gaps=gaps, behind=case.behind, contender=case.contender, spared=spared
    )
    return replace(past, finished=(*past.finished, one)[-KEPT:])


def _logistic(gaps: Any, keep: Any) -> Any:
    """Weights of a logistic regression, the first for the constant, by Newton's method with a trace of a ridge."""
    x, weights = _with_one(gaps), np.zeros(gaps.shape[1] + 1)
    for _ in range(25):
        p = _sigmoid(x @ weights)
        curvature = x.T @ (x * (p * (1 - p))[:, None]) + 1e-3 * np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, x.T @ (keep - p) - 1e-3 * weights)
    return weights


def _with_one(gaps: Any) -> Any:
    return np.column_stack([np.ones(len(gaps)), gaps])


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))


class Oracle:
    """Knows the verdicts: at the first look it stops whatever is no contender. Nothing can save more at no cost."""

    def trained(self, case: Case) -> float:
        """By hindsight."""
        return 1.0 if case.contender else LOOKS[0]


class Optunas:
    """One of Optuna's pruners, told the loss at each look and the score at the end."""

    def __init__(self, pruner: Any) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._pruned = optuna.trial.TrialState.PRUNED
        self._study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))

    def trained(self, case: Case) -> float:
        """By Optuna's."""
        trial = self._study.ask()
        for step, (look, loss) in enumerate(zip(LOOKS, case.losses, strict=True)):
            if loss is None:
                continue
            trial.report(loss, step)
            if trial.should_prune():
                self._study.tell(trial, state=self._pruned)
                return look
        self._study.tell(trial, case.behind)
        return 1.0


def pruners(name: str, others: Sequence[Sequence[Case]] = ()) -> Mapping[str, Pruner]:
    """Fresh ones for a campaign of this name, one of them informed of others of its kind, where there are such."""
    import optuna

    of = optuna.pruners
    ours = {f"ours, {rate:g}": Ours(PruneRule(false_stop_rate=rate), name) for rate in RATES}
    return {
        "none": Ours(PruneRule(false_stop_rate=0.0), name),
        **ours,
        "optuna median": Optunas(of.MedianPruner(n_startup_trials=STARTUP)),
        "optuna percentile 75": Optunas(of.PercentilePruner(75.0, n_startup_trials=STARTUP)),
        "optuna percentile 95": Optunas(of.PercentilePruner(95.0, n_startup_trials=STARTUP)),
        "optuna halving": Optunas(of.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)),
        **({"informed": Informed(others)} if others else {}),
        "hindsight": Oracle(),
    }


# ---- replay ----------------------------------------------------------------------------------------------------------


def replay(
    campaigns: Sequence[Sequence[Case]], after: int = 0, others: Sequence[Sequence[Case]] = ()
) -> dict[str, dict[str, float | None]]:
    """Every pruner over every campaign: what it saved, what it stopped; the first `after` experiments do not count."""
    found: dict[str, list[tuple[Case, float]]] = {}
    for number, cases in enumerate(campaigns):
        for name, pruner in pruners(f"campaign {number}", others).items():
            trained = [(case, pruner.trained(case)) for case in cases]
            found.setdefault(name, []).extend(trained[after:])
    return {name: _summary(trained) for name, trained in found.items()}


def _summary(trained: Sequence[tuple[Case, float]]) -> dict[str, float | None]:
    whole = sum(case.runs for case, _ in trained)
    used = sum(case.runs if share == 1 else share for case, share in trained)
    gain = sum(case.gain for case, _ in trained if case.keep)
    lost = sum(case.gain for case, share in trained if case.keep and share < 1)
    return {
        "stopped": _share([share < 1 for _, share in trained]),
        "contenders_stopped": _share([share < 1 for case, share in trained if case.contender]),
        "keeps_stopped": _share([share < 1 for case, share in trained if case.keep]),
        "gain_lost": round(lost / gain, 4) if gain > 0 else None,
        "training_time": round(used / whole, 4),
        "experiments_per_hour": round(whole / used, 3),
        "gain_per_hour": round((1 - lost / gain) * whole / used, 3) if gain > 0 else None,
    }


def _share(happened: Sequence[bool]) -> float | None:
    return round(sum(happened) / len(happened), 4) if happened else None


def table(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> str:
    """As it is printed."""
    columns = ("stopped", "contenders_stopped", "keeps_stopped", "gain_lost", *PER_HOUR)
    head = f"\n{title}\n{'':22}" + "".join(f"{column.replace('_', ' '):>21}" for column in columns)
    lines = [
        f"{name:22}" + "".join(f"{_cell(row[column], column):>21}" for column in columns) for name, row in rows.items()
    ]
    return "\n".join((head, *lines))


def headline(tables: Mapping[str, Mapping[str, Mapping[str, float | None]]]) -> list[dict[str, Any]]:
    """The lines of the README's table."""

    def cell(row: Mapping[str, float | None]) -> str:
        return f"{_cell(row['experiments_per_hour'], 'experiments_per_hour')} times, {row['keeps_stopped'] or 0:.1%}"

    lines = []
    for name in ("made: plain", "made: crossing", "recorded, shuffled"):
        rows = tables[name]
        names = ("optuna median", "optuna percentile 75", "informed", "hindsight")
        others = {other: cell(rows[other]) for other in names if other in rows}
        what = f"experiments an hour by early stops, and keeps lost to them ({name})"
        lines.append(
            {"what": what, "ralph": cell(rows[f"ours, {PruneRule().false_stop_rate:g}"]), "beside": others, "aim": AIM}
        )
    return lines


def _cell(value: float | None, column: str) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if column in PER_HOUR else f"{value:.1%}"


def main() -> int:
    """Replay everything, print the tables, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--campaigns", type=int, default=8, help="made campaigns of each family")
    parser.add_argument("--experiments", type=int, default=EXPERIMENTS)
    parser.add_argument("--shuffles", type=int, default=100, help="orders of the recorded campaign")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    draws = json.loads((DATA / "record_run_effects.json").read_text(encoding="utf-8"))["effects"]
    effects = [effect for draw in draws for effect in draw]
    tables = {}
    for name, family in FAMILIES.items():
        campaigns = [list(made(family, effects, asked.experiments, seed)) for seed in range(asked.campaigns)]
        others = [list(made(family, effects, asked.experiments, seed)) for seed in range(1000, 1000 + OTHERS)]
        tables[f"made: {name}"] = replay(campaigns, others=others)
        print(table(f"made: {name}", tables[f"made: {name}"]), flush=True)
    cases = recorded(DATA / "curves.jsonl")
    views = {
        "recorded, as it was": ([cases], 0),
        "recorded, shuffled": (shuffled(cases, asked.shuffles), 0),
        "recorded, shuffled, after the first 19": (shuffled(cases, asked.shuffles), STARTUP),
    }
    for title, (orders, after) in views.items():
        tables[title] = replay(orders, after)
        print(table(f"{title} ({len(cases)} experiments)", tables[title]), flush=True)
    if asked.json:
        machine = {"cpu_count": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
        settings = {"campaigns": asked.campaigns, "experiments": asked.experiments, "shuffles": asked.shuffles}
        told = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "settings": settings,
            "machine": machine,
            "tables": tables,
            "headline": headline(tables),
        }
        asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
