"""The table in docs/isolation.md that sets the contestants side by side, from drills/results/rivals.json."""

import json
from collections.abc import Mapping, Sequence
from typing import TypedDict

from drills.table import PAGE, ROOT, put

RESULTS = ROOT / "drills" / "results" / "rivals.json"
MARK = "python -m drills.rivals"


class Line(TypedDict):
    """One line; `cells` says by contestant what did not hold, "held" if all did, or "not tried: why"."""

    group: str
    name: str
    cells: Mapping[str, str]


class Results(TypedDict):
    """What one round found. `contestants` are names with versions, or with why they were not tried."""

    machine: str
    contestants: Mapping[str, str]
    lines: Sequence[Line]


def read() -> Results:
    """The committed results."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def render(results: Results) -> str:
    """The table, in markdown."""
    names = list(results["contestants"])
    versions = ", ".join(f"{name} {version}" for name, version in results["contestants"].items())
    parts = [f"{versions}; on {results['machine']}."]
    group = ""
    for line in results["lines"]:
        if line["group"] != group:
            group = line["group"]
            parts += ["", f"| {group} | {' | '.join(names)} |", f"|{'---|' * (len(names) + 1)}"]
        cells = " | ".join(_cell(line["cells"].get(name, "not tried")) for name in names)
        parts.append(f"| {line['name']} | {cells} |")
    return "\n".join(parts)


def write(results: Results) -> None:
    """Both files."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    put(PAGE, MARK, render(results))


def calm(said: str) -> bool:
    """Whether a cell says nothing bad."""
    return said == "held" or said.startswith("not tried")


def _cell(said: str) -> str:
    return said if calm(said) else f"**{said}**"
