"""The table of docs/isolation.md, from drills/results/isolation.json: what was tried, at which level, how it ended."""

import json
from pathlib import Path
from typing import TypedDict

from ralph.adapters.sandbox import SandboxLevel

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "drills" / "results" / "isolation.json"
PAGE = ROOT / "docs" / "isolation.md"
BEGIN, END = "<!-- begin: python -m drills -->", "<!-- end: python -m drills -->"


class Row(TypedDict):
    """One drill. `levels` holds "covered", "not covered", "broken" or "not tried" (this machine lacks the level)."""

    group: str
    name: str
    test: str
    levels: dict[str, str]


class Results(TypedDict):
    """What one run of the drills found."""

    machine: str
    rows: list[Row]


def read() -> Results:
    """The committed results."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def render(results: Results) -> str:
    """Markdown between the marks."""
    lines = [BEGIN, "", f"Tried on {results['machine']}.", ""]
    group = ""
    for row in results["rows"]:
        if row["group"] != group:
            group = row["group"]
            lines += ["", f"### {group}", "", f"| drill | {' | '.join(SandboxLevel)} | test |", "|---|---|---|---|---|"]
        cells = " | ".join(row["levels"][level] for level in SandboxLevel)
        lines.append(f"| {row['name']} | {cells} | `{row['test']}` |")
    return "\n".join([*lines, "", END]).replace("\n\n\n", "\n\n")


def write(results: Results) -> None:
    """Both files."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + render(results) + rest.partition(END)[2], encoding="utf-8")
