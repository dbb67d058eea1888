"""Whole campaigns for every test that needs a state; `Story` tells others step by step."""

import random
from collections.abc import Callable, Mapping
from datetime import timedelta

from ralph.model import CrashKind, Direction, JsonValue
from tests.core.story import CONSTANTS, EVENING, GIB, HERE, Story, mean_score

__all__ = ["CONSTANTS", "EVENING", "GIB", "GUIDANCE", "HERE", "Story", "growth", "night", "overnight", "small"]

GUIDANCE = "leave the tokenizer alone, try shorter windows"


def night() -> Story:
    """Twenty experiments of every kind, and one whose second run is on the device."""
    s = Story().start().baseline(0.99790, 0.99751, 0.99829)
    s.keep("batch 524K to 262K, because more steps fit into five minutes; expect -0.01", 0.98604)
    s.keep("depth 9 with aspect ratio 57, because there is memory to spare", 0.98177, constants={"train.py:DEPTH": 9})
    s.discard("5% warm-up, because early steps are noisy", 0.98260, constants={"train.py:WARMUP_RATIO": 0.05})
    s.crash("batch 256 on the device", constants={"train.py:DEVICE_BATCH_SIZE": 256})
    s.discard("2% warm-up", 0.98241, constants={"train.py:WARMUP_RATIO": 0.02})
    s.invalid()
    s.discard(
        "short windows everywhere",
        0.98301,
        constants={"train.py:WINDOW_PATTERN": "SSSS"},
        guidance=[GUIDANCE],
    )
    s.keep(
        "windows SSSSL, because the last layer needs the whole context",
        0.98033,
        constants={"train.py:WINDOW_PATTERN": "SSSSL"},
    )
    s.discard("1% warm-up", 0.98160, constants={"train.py:WARMUP_RATIO": 0.01})
    s.discard("value embeddings on every layer", 0.98011, 0.98025, reason="0.0002 better is within noise")
    s.crash("batch 192 on the device, in halves", constants={"train.py:DEVICE_BATCH_SIZE": 192})
    s.crash("NaN-prone softcap 5", CrashKind.NAN, "loss is nan at step 212")
    s.void("longer schedule")
    s.discard("weight tying, because the vocabulary is small", 1.00413)
    s.discard("tie the weights of input and output", 1.00288)
    s.discard("matrix LR 0.05", 0.98035, 0.97990, constants={"train.py:MATRIX_LR": 0.05}, agent="tuner")
    s.keep(
        "value-embedding weight decay 0.001: the largest tables were overfitting",
        0.97410,
        0.97455,
        remeasured=[0.98071],
        lines_delta=3,
    )
    s.crash("batch 224 on the device", constants={"train.py:DEVICE_BATCH_SIZE": 224})
    s.discard("no weight decay", 0.97820, constants={"train.py:WEIGHT_DECAY": 0.0}, agent="tuner")
    s.keep("remove the logit softcap: nothing needs it any more", 0.97405, lines_delta=-6, reason="equal and simpler")
    id_ = s.propose("rotary base 200K, because windows are short now")
    s.run(id_, 0.97371)
    s.begin_run(id_)
    s.at += timedelta(seconds=192)
    return s


def small(keeps: int = 2) -> Story:
    """A baseline and six experiments."""
    s = Story().start().baseline(0.9979, 0.9971)
    s.keep("halve the batch", 0.9860)
    s.discard("5% warm-up", 0.9871)
    s.crash("batch 256")
    if keeps > 1:
        s.keep("depth 9", 0.9818)
    s.discard("GeLU", 0.9950)
    s.discard("dropout 0.1, because it overfits", 1.9)
    return s


def overnight(experiments: int, seed: int = 1, direction: Direction = Direction.MIN) -> Story:
    """A long campaign of random outcomes: gains that get smaller and rarer, losses, crashes, rules broken."""
    rng, s = random.Random(seed), Story(direction=direction)
    s.start().baseline(*(round(0.998 + rng.gauss(0, s.sigma), 6) for _ in range(3)))
    go_on(s, rng, experiments)
    return s


def growth(measure: Callable[[Story], int]) -> float:
    """How much longer something is around experiment 2,000 than around 200, when all that fills up has long been full.

    Means over forty experiments, since what happened to the last ones makes more of a difference than their number.
    """
    rng, s = random.Random(1), Story()
    s.start().baseline(0.998, 0.9981, 0.9979)
    for kind in (*CrashKind, *CrashKind):
        s.crash(f"an idea that ends with {kind} at step 12", kind, f"{_REASONS[0]} 12")
        s.discard("a relief", 0.9979, 0.9981)
    for n in range(20):
        s.invalid()
        s.void("an idea that was voided")
        s.keep(f"{_IDEAS[n % 8]} {n}%, because {_REASONS[n % 4]} at step {n}", 0.998 - n / 500, 0.998 - n / 500)
    for name in (*CONSTANTS, *CONSTANTS, *CONSTANTS):
        s.discard(f"more of {name}, because {_REASONS[1]}", 0.997, constants={name: 10.0})
    lengths = {}
    for age in (200, 2000):
        go_on(s, rng, age - 20)
        total = 0
        for _ in range(10):
            go_on(s, rng, len(s.state.experiments) + 3)
            total += measure(s)
        lengths[age] = total / 10
    return lengths[2000] / lengths[200]


def go_on(s: Story, rng: random.Random, experiments: int) -> None:
    """Until it has that many."""
    sign = s.state.arena.direction.sign if s.state.arena else 1.0
    truth = 0.998 - 0.03 * (1 - 0.5 ** (len(s.state.keeps) / 6))
    for n in range(len(s.state.experiments), experiments + 1):
        draw = rng.random()
        words = f"{rng.choice(_IDEAS)} {rng.randint(1, 90)}%, because {rng.choice(_REASONS)} at step {n}"
        guidance = [f"guidance number {n}: prefer {rng.choice(_IDEAS)}"] if n % 40 == 7 else []
        if draw < 0.06:
            s.crash(words, rng.choice(list(CrashKind)), f"{rng.choice(_REASONS)} {n}")
        elif draw < 0.09:
            s.invalid()
        elif draw < 0.10:
            s.void(words)
        else:
            _measured(s, rng, words, truth, sign, guidance)
            incumbent = s.state.incumbent
            assert incumbent is not None
            truth = min(truth, 0.998 - 0.03 * (1 - 0.5 ** (len(s.state.keeps) / 6)))


def _measured(s: Story, rng: random.Random, words: str, truth: float, sign: float, guidance: list[str]) -> None:
    """One experiment with scores: a random effect on what is true now, mirrored about the baseline for max."""
    name = rng.choice(list(CONSTANTS))
    effect = rng.choice((-0.003, -0.0004, 0.0, 0.0, 0.002, 0.004, 0.02))
    constants: Mapping[str, JsonValue] = {name: round(rng.random(), 3)} if rng.random() < 0.5 else {}

    def measure() -> float:
        value = truth + effect + rng.gauss(0, s.sigma)
        return round(value if sign > 0 else 2 * 0.998 - value, 6)

    incumbent = s.state.incumbent
    assert incumbent is not None
    scores = [measure() for _ in range(rng.choice((1, 1, 2)))]
    lead = sign * (sum(scores) / len(scores) - mean_score(incumbent))
    if lead < -3 * s.sigma:
        s.keep(words, *scores, constants=constants, guidance=guidance)
    else:
        s.discard(words, *scores, constants=constants, guidance=guidance)


_IDEAS = ("warm-up", "weight decay", "dropout", "matrix learning rate", "rotary base", "head size", "window", "softcap")
_REASONS = ("the gradients are noisy", "memory is short", "the tables overfit", "the schedule ends too early")
