"""The table of docs/isolation.md, from drills/results/isolation.json: what was tried, at which level, how it ended."""

import json
import os
import platform
from pathlib import Path
from typing import TypedDict

from ralph.adapters import landlock
from ralph.adapters.sandbox import SandboxLevel

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "drills" / "results" / "isolation.json"
PAGE = ROOT / "docs" / "isolation.md"
MARK = "python -m drills"


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
    """The table, in markdown."""
    lines = [f"Tried on {results['machine']}.", ""]
    group = ""
    for row in results["rows"]:
        if row["group"] != group:
            group = row["group"]
            lines += ["", f"### {group}", "", f"| drill | {' | '.join(SandboxLevel)} | test |", "|---|---|---|---|---|"]
        cells = " | ".join(row["levels"][level] for level in SandboxLevel)
        lines.append(f"| {row['name']} | {cells} | `{row['test']}` |")
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def write(results: Results) -> None:
    """Both files."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    put(PAGE, MARK, render(results))


def put(page: Path, mark: str, text: str) -> None:
    """Replace what stands between the marks that name the program `mark`."""
    begin, end = f"<!-- begin: {mark} -->\n", f"\n<!-- end: {mark} -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    if not found or end not in rest:
        raise LookupError(f"{page} has no place for what `{mark}` says: it wants {begin.strip()} and {end.strip()}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def machine() -> str:
    """Where the drills were carried out."""
    user = "root" if os.geteuid() == 0 else "an ordinary user"
    return f"{platform.system()} {platform.release().split('-')[0]}, Landlock ABI {landlock.abi()}, as {user}"
