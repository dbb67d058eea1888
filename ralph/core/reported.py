"""Scores that a run reports itself (mode `reported`): `metric: value` lines or JSON, from the final block only.

Covers: a number printed earlier and not repeated at the end does not count; a missing, NaN, infinite or unbelievable
value is a crash, never 0. Does not cover: a run that lies within the bounds; only mode `sealed` does.
"""

import math
import re
from collections.abc import Mapping

from ralph.core.untrusted_json import number, parse_object
from ralph.model import Direction

FINAL_LINES = 60
_LINE = re.compile(r"^\s*([A-Za-z_][\w./-]*)\s*[:=]\s*([-+]?(?:[\d.]+(?:[eE][-+]?\d+)?|nan|inf\w*))\s*$", re.I)


class NoScoreError(ValueError):
    """The log ends without a usable score; the message says why."""


def final_block(log: str) -> list[str]:
    """The lines after the last `---`, or the last lines where there is none."""
    lines = log.replace("\r", "\n").rstrip().split("\n")[-FINAL_LINES:]
    for index in range(len(lines) - 1, -1, -1):
        if lines[index].strip() == "---":
            return lines[index + 1 :]
    return lines


def parse_metrics(log: str) -> dict[str, float]:
    r"""Every `name: number` of the final block, and every number of a JSON object on its last line.

    >>> parse_metrics("step 1\n---\nval_bpb:          0.997900\ndepth: 8\n")
    {'val_bpb': 0.9979, 'depth': 8.0}
    >>> parse_metrics('{"val_bpb": 1.5, "note": "x"}')
    {'val_bpb': 1.5}
    """
    found: dict[str, float] = {}
    block = final_block(log)
    for line in block:
        if match := _LINE.match(line):
            name, value = match.groups()
            try:
                found[name] = float(value)
            except ValueError:
                continue
    found.update(_json_numbers(block[-1] if block else ""))
    return found


def _json_numbers(line: str) -> dict[str, float]:
    return {k: v for k, raw in (parse_object(line) or {}).items() if (v := number(raw)) is not None}


def reported_score(
    metrics: Mapping[str, float], metric: str, direction: Direction, bounds: tuple[float, float] | None
) -> float:
    """The metric's value. Raises NoScoreError when it is missing or cannot be believed."""
    if metric not in metrics:
        raise NoScoreError(f"the log does not end with `{metric}: <number>`")
    return believable(metrics[metric], metric, direction, bounds)


def believable(value: float, metric: str, direction: Direction, bounds: tuple[float, float] | None) -> float:
    """`value`, unless it is not finite, out of bounds, or the 0 that broken runs report."""
    if not math.isfinite(value):
        raise NoScoreError(f"{metric} is {value}")
    if bounds is not None and not bounds[0] <= value <= bounds[1]:
        raise NoScoreError(f"{metric} = {value:g} is outside the arena's bounds [{bounds[0]:g}, {bounds[1]:g}]")
    if bounds is None and direction is Direction.MIN and value == 0.0:
        raise NoScoreError(f"{metric} is exactly 0, which is what broken runs report; if 0 is real, set score.bounds")
    return value
