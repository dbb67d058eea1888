"""Which constants may be searched, on which scale, and how far from the baseline's value.

Every dimension has a coordinate z measured in *steps*: 0 is the baseline's value, one step is a doubling on the log
scales, a halving of 1 - v for values close to one, a quarter for fractions of a whole. Bounds belong to the baseline,
not to the incumbent, so that a coordinate means the same for a whole campaign; `widened` moves them outwards, never
inwards, from what was kept.

A comment on the constant's line may say more: `range: 1e-4..1e-1` (hard bounds), `one of: relu2, gelu`, or `fixed`.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import assert_never

from ralph.core.literals import Literal


class Scale(StrEnum):
    """How a coordinate becomes a value."""

    LOG = "log"  # v0 * 2**z
    NEAR_ONE = "near one"  # 1 - (1 - v0) / 2**z
    UNIT = "unit"  # v0 + z / 4, within 0 and 1
    LINEAR = "linear"  # v0 + z * width / 6, only by a range hint that spans zero
    ZERO = "zero"  # 0 below half a step, else 0.001 * 10**(z - 1)
    WHOLE = "whole"  # a whole number, v0 * 2**z
    POWER = "power"  # a power of two, v0 * 2**z
    COUNT = "count"  # v0 + z
    CHOICE = "choice"  # the z-th of a list


_ORDINARY_STEPS = 3.0  # v/8 .. v*8
_WHOLE_STEPS = 2.0  # v/4 .. v*4: sizes make a run slower or larger at once
_NEAR_EDGE = 0.5
_WIDEN_BY = 1.0
_POWER_FROM = 32
_GRAIN_FROM = 64
_COUNTED = 16
_NEAR_ONE_FROM = 0.8
_SMALL_FRACTION = 0.1
_NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"\brange:\s*{_NUMBER}\s*\.\.\s*{_NUMBER}")
_ONE_OF = re.compile(r"\bone of:\s*([^;()#]+)")
_FIXED = re.compile(r"(?:^|[;,.(])\s*fixed\b", re.IGNORECASE)
_FRACTION_WORDS = frozenset({"FRAC", "FRACTION", "RATIO", "SHARE", "PROB", "DROPOUT", "PCT"})
_DECAY_WORDS = frozenset({"BETA", "BETAS", "BETA1", "BETA2", "MOMENTUM", "EMA", "DECAY"})
_NOT_TUNABLE = """
    SEED SEEDS VERSION DIR PATH FILE FILES URL HOST PORT DEBUG VERBOSE EVERY INTERVAL PRINT PROGRESS TIMEOUT BUDGET
    DEADLINE DEVICE SCHEMA VOCAB NAME PATIENCE WORKERS THREADS
"""
_SALIENT = """
    DEPTH LAYERS LAYER WIDTH DIM EMBD BATCH WARMDOWN WARMUP FRAC RATIO DECAY WD SCALE HEAD HEADS LEN WINDOW
"""
_SALIENCE = ({"LR"}, set(_SALIENT.split()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One constant to search. `low` and `high` are coordinates; `hard` bounds are never widened."""

    key: str
    scale: Scale
    origin: Literal
    low: float
    high: float
    hard: bool = False
    grain: int = 1
    width: float = 1.0
    choices: tuple[Literal, ...] = ()

    @property
    def name(self) -> str:
        """The constant's name without its file."""
        return self.key.rpartition(":")[2]

    @property
    def categorical(self) -> bool:
        """True where only equal and unequal mean something."""
        return self.scale is Scale.CHOICE

    @property
    def whole(self) -> bool:
        """True where coordinates between whole ones mean nothing."""
        return self.scale in (Scale.CHOICE, Scale.POWER, Scale.COUNT)

    def place(self, value: Literal) -> float | None:
        """The coordinate of a value, None where it has none: a negative on a log scale, a choice that is not listed."""
        if self.scale is Scale.CHOICE:
            return float(self.choices.index(value)) if value in self.choices else None
        if isinstance(value, str) or isinstance(self.origin, str):
            return None
        match self.scale:
            case Scale.LOG | Scale.WHOLE | Scale.POWER:
                return math.log2(value / self.origin) if value * self.origin > 0 else None
            case Scale.NEAR_ONE:
                return math.log2((1 - self.origin) / (1 - value)) if value < 1 else None
            case Scale.UNIT:
                return 4.0 * (value - self.origin)
            case Scale.LINEAR:
                return 6.0 * (value - self.origin) / self.width
            case Scale.COUNT:
                return float(value - self.origin)
            case Scale.ZERO:
                return 0.0 if value == 0 else (1 + math.log10(value / 0.001) if value > 0 else None)
            case _:
                assert_never(self.scale)

    def value(self, z: float) -> Literal:
        """The value at a coordinate, moved inside the bounds, in two digits where it is a float."""
        z = min(max(z, self.low), self.high)
        if self.scale is Scale.CHOICE:
            return self.choices[round(z)]
        if isinstance(self.origin, str):
            raise TypeError(f"{self.key} is a text on a numeric scale")
        match self.scale:
            case Scale.LOG:
                return _digits(self.origin * 2**z)
            case Scale.NEAR_ONE:
                return _tidy(1 - _digits((1 - self.origin) / 2**z))
            case Scale.UNIT:
                return round(min(max(self.origin + z / 4, 0.0), 1.0), 2)
            case Scale.LINEAR:
                return self._typed(self.origin + z * self.width / 6)
            case Scale.COUNT:
                return int(self.origin + round(z))
            case Scale.POWER:
                return 1 << max(0, round(math.log2(self.origin) + z))
            case Scale.WHOLE:
                return max(1, round(self.origin * 2**z / self.grain)) * self.grain
            case Scale.ZERO:
                return 0.0 if z < 0.5 else _digits(0.001 * 10 ** (z - 1))
            case _:
                assert_never(self.scale)

    def _typed(self, value: float) -> Literal:
        return round(value) if isinstance(self.origin, int) else _digits(value)


def dimension(key: str, origin: Literal, comment: str = "", written: str = "") -> Dimension | None:
    """The dimension of one constant, None where its name, its comment or its value says that it is none.

    `written` is the text of its value: `2**k` stays a power of two. The order of questions is: fixed by comment or
    name, listed choices, truth values, a stated range, and at last what the name and the value suggest.
    """
    words = key.rpartition(":")[2].partition("[")[0].split("_")
    if _FIXED.search(comment):
        return None
    if match := _ONE_OF.search(comment):
        return _choice(key, origin, [part.strip().strip("'\"`") for part in match[1].split(",")])
    if isinstance(origin, str) or (_not_tunable(words) and not _RANGE.search(comment)):
        return None
    if isinstance(origin, bool):
        return Dimension(key=key, scale=Scale.CHOICE, origin=origin, low=0, high=1, choices=(origin, not origin))
    if match := _RANGE.search(comment):
        return _ranged(key, origin, float(match[1]), float(match[2]), written)
    return _whole(key, origin, written) if isinstance(origin, int) else _float(key, origin, set(words))


def other_profile(name: str, device: str) -> bool:
    """True for a constant of the profile that this device does not use: `CUDA_` on a CPU, `CPU_` on CUDA."""
    return name.startswith("CUDA_" if device.startswith("cpu") else "CPU_" if device.startswith("cuda") else "\0")


def widened(
    space: Iterable[Dimension], kept: Iterable[Mapping[str, Literal]], by: float = 0.0
) -> tuple[Dimension, ...]:
    """The space with its bounds moved outwards by `by` steps, and until every kept value is away from an edge."""
    kept = list(kept)
    return tuple(_widen(d, [z for k in kept if d.key in k and (z := d.place(k[d.key])) is not None], by) for d in space)


def salience(name: str) -> int:
    """0 for what usually matters most when training (learning rates), 1 for sizes and schedules, 2 for the rest."""
    words = set(name.partition("[")[0].split("_"))
    return next((i for i, group in enumerate(_SALIENCE) if words & group), len(_SALIENCE))


def _not_tunable(words: list[str]) -> bool:
    return words[0] == "LOG" or not set(_NOT_TUNABLE.split()).isdisjoint(words)


def _widen(d: Dimension, coordinates: list[float], by: float) -> Dimension:
    if d.hard or d.categorical:
        return d
    low, high = d.low - by, d.high + by
    for z in coordinates:
        if z > high - _NEAR_EDGE:
            high = z + _WIDEN_BY
        if z < low + _NEAR_EDGE:
            low = z - _WIDEN_BY
    floor, ceiling = _natural(d)
    return replace(d, low=max(low, floor), high=min(high, ceiling))


def _natural(d: Dimension) -> tuple[float, float]:
    """Coordinates beyond which there is no value of this kind."""
    if isinstance(d.origin, str):
        return -math.inf, math.inf
    match d.scale:
        case Scale.UNIT:
            return -4.0 * d.origin, 4.0 * (1 - d.origin)
        case Scale.NEAR_ONE:
            return math.log2(1 - d.origin), math.log2((1 - d.origin) / 1e-6)
        case Scale.WHOLE | Scale.POWER:
            return math.log2(1 / d.origin), 40.0
        case Scale.ZERO | Scale.COUNT:
            return 0.0, 40.0
        case _:
            return -math.inf, math.inf


def _choice(key: str, origin: Literal, listed: list[str]) -> Dimension | None:
    choices = tuple(dict.fromkeys([origin, *(c for text in listed if (c := _read_like(origin, text)) is not None)]))
    if len(choices) < 2:
        return None
    return Dimension(key=key, scale=Scale.CHOICE, origin=origin, low=0, high=len(choices) - 1, choices=choices)


def _read_like(origin: Literal, text: str) -> Literal | None:
    if isinstance(origin, str):
        return text
    if isinstance(origin, bool):
        return {"True": True, "False": False}.get(text)
    try:
        return int(text) if isinstance(origin, int) else float(text)
    except ValueError:
        return None


def _ranged(key: str, origin: float, low: float, high: float, written: str) -> Dimension | None:
    if not low < high or not low <= origin <= high:
        return None
    if isinstance(origin, int):
        scale = Scale.COUNT if high - low <= _COUNTED else Scale.LINEAR
        found = _whole(key, origin, written) if low > 0 else None
        base = found or Dimension(key=key, scale=scale, origin=origin, low=0, high=0, width=high - low)
    else:
        base = Dimension(key=key, scale=Scale.LOG, origin=origin, low=0, high=0)
        if origin >= _NEAR_ONE_FROM and high < 1 and low > 0:
            base = replace(base, scale=Scale.NEAR_ONE)
        elif low <= 0:
            base = replace(base, scale=Scale.LINEAR, width=high - low)
    ends = [base.place(end) for end in (low, high)]
    if ends[0] is None or ends[1] is None:
        return None
    return replace(base, low=ends[0], high=ends[1], hard=True)


def _whole(key: str, origin: int, written: str) -> Dimension | None:
    if origin < 0:
        return None  # -1 and its like are signs, not sizes
    if origin == 0:
        return Dimension(key=key, scale=Scale.COUNT, origin=0, low=0, high=4)
    power = origin & (origin - 1) == 0 and (origin >= _POWER_FROM or "**" in written)
    grain = 1
    while origin >= _GRAIN_FROM and origin % (grain * 2) == 0 and grain * 8 <= origin:
        grain *= 2
    scale = Scale.POWER if power else Scale.WHOLE
    low = max(-_WHOLE_STEPS, math.log2(grain / origin))
    return Dimension(key=key, scale=scale, origin=origin, low=low, high=_WHOLE_STEPS, grain=grain)


def _float(key: str, origin: float, words: set[str]) -> Dimension:
    fraction = bool(words & _FRACTION_WORDS)
    if 0 <= origin <= 1 and fraction and not 0 < origin < _SMALL_FRACTION:
        return Dimension(scale=Scale.UNIT, low=-4 * origin, high=4 * (1 - origin), key=key, origin=origin)
    if origin == 0:
        return Dimension(scale=Scale.ZERO, low=0, high=3, key=key, origin=origin)
    if _NEAR_ONE_FROM <= origin < 1 and (words & _DECAY_WORDS or fraction or origin >= 0.9):
        low = max(-_ORDINARY_STEPS, math.log2((1 - origin) / 0.6))
        return Dimension(scale=Scale.NEAR_ONE, low=low, high=_ORDINARY_STEPS, key=key, origin=origin)
    high = min(_ORDINARY_STEPS, math.log2(1 / origin)) if fraction else _ORDINARY_STEPS
    return Dimension(scale=Scale.LOG, low=-_ORDINARY_STEPS, high=high, key=key, origin=origin, hard=fraction)


def _digits(value: float) -> float:
    return float(f"{value:.2g}")


def _tidy(value: float) -> float:
    return float(f"{value:.12g}")
