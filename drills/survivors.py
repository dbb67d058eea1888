"""A thousand kills of each kind at random moments: who survived, and how long the last one lived.

`python -m drills.survivors [rounds]`: some ten minutes. Writes drills/results/survivors.json and its place in
docs/isolation.md. Status 1 if anything survived.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from drills.table import PAGE, ROOT, machine, put

RESULTS = ROOT / "drills" / "results" / "survivors.json"
MARK = "python -m drills.survivors"
DRILL = "tests/adapters/test_kill_drill.py"
COLUMNS = ("ended by", "kills", "survivors", "median_ms", "p99_ms", "most_ms")

Row = Mapping[str, str | int | float]


def main(argv: Sequence[str]) -> int:
    """Kill, count, write down."""
    rounds = argv[0] if argv else "1000"
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "rows"
        env = {**os.environ, "RALPH_DRILL_ROUNDS": rounds, "RALPH_DRILL_REPORT": str(report)}
        command = [sys.executable, "-m", "pytest", "-q", DRILL]
        status = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        rows = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    if status != 0:
        return 1
    RESULTS.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n", encoding="utf-8")
    put(PAGE, MARK, render(machine(), rows))
    return 0


def render(where: str, rows: Sequence[Row]) -> str:
    """The table, in markdown.

    >>> row = {"ended by": "x", "kills": 2, "survivors": 0, "median_ms": 3, "p99_ms": 4, "most_ms": 5}
    >>> print(render("Linux", [row]))
    Milliseconds from the kill until the last process of the tree was gone, on Linux.
    <BLANKLINE>
    | ended by | kills | survivors | median | 99% | most |
    |---|---|---|---|---|---|
    | x | 2 | 0 | 3 | 4 | 5 |
    """
    lines = [
        f"Milliseconds from the kill until the last process of the tree was gone, on {where}.",
        "",
        "| ended by | kills | survivors | median | 99% | most |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(str(row[name]) for name in COLUMNS)} |" for row in rows),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
