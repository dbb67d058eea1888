"""The table of README.md, from what the programs here have written into benchmarks/results.

    python -m benchmarks.table

A program whose result belongs there puts a list "headline" into its JSON: "what" was measured, what "ralph" does,
and, where there is such a thing, the same of others ("beside", by name) and the "aim" that was set before. Programs
without one, and results that are not there, are left out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drills.table import put

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
MARK = "python -m benchmarks.table"
HEAD = ["| measured | ralph | beside | aim | by |", "|---|---|---|---|---|"]


def rows(results: Path = RESULTS) -> list[str]:
    """One line for each headline, in the order of the files' names."""
    found = []
    for file in sorted(results.glob("*.json")):
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        for line in told.get("headline", ()):
            beside = ", ".join(f"{name}: {value}" for name, value in line.get("beside", {}).items())
            by = f"[{file.stem}](benchmarks/results/{file.name}){_where(told.get('machine', {}))}"
            cells = (line["what"], line["ralph"], beside, line.get("aim", ""), by)
            found.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    return found


def _where(machine: Mapping[str, Any]) -> str:
    """How busy the machine was with other things, where that was looked at: it is in all times."""
    return f", load {machine['load']} on {machine['cores']} cores" if {"load", "cores"} <= machine.keys() else ""


def main() -> None:
    """Write it anew."""
    put(README, MARK, "\n".join([*HEAD, *rows()]))


if __name__ == "__main__":
    main()
