"""A thousand kills of the supervisor at random moments: what was lost, repeated or torn, and how fast a restart was.

`python -m drills.crashes [kills]`: half an hour. Writes drills/results/crashes.json and its place in docs/isolation.md.
Status 1 if a campaign ended otherwise than one that nobody killed.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from drills.table import PAGE, ROOT, machine, put

RESULTS = ROOT / "drills" / "results" / "crashes.json"
MARK = "python -m drills.crashes"
DRILL = "tests/front/test_crash_drill.py"

Row = Mapping[str, int | float]


def main(argv: Sequence[str]) -> int:
    """Kill, count, write down."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "row"
        kills = argv[0] if argv else "1000"
        env = {**os.environ, "RALPH_DRILL_ROUNDS": kills, "RALPH_DRILL_REPORT": str(report)}
        status = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", DRILL], cwd=ROOT, env=env, check=False
        ).returncode
        if not report.exists():
            return 1
        row = json.loads(report.read_text(encoding="utf-8"))
    RESULTS.write_text(json.dumps({"machine": machine(), "row": row}, indent=1) + "\n", encoding="utf-8")
    put(PAGE, MARK, render(machine(), row))
    return status


def render(where: str, row: Row) -> str:
    """The table, in markdown.

    >>> print(render("Linux", {"kills": 2, "torn files": 0, "median_s": 0.4, "p99_s": 0.6}))
    On Linux; a restart is the seconds until the next supervisor is at work, where that was timed.
    <BLANKLINE>
    | kills | torn files | restart, median | restart, 99% |
    |---|---|---|---|
    | 2 | 0 | 0.4 | 0.6 |
    """
    names = {"median_s": "restart, median", "p99_s": "restart, 99%", "most_s": "restart, most"}
    return "\n".join(
        [
            f"On {where}; a restart is the seconds until the next supervisor is at work, where that was timed.",
            "",
            f"| {' | '.join(names.get(name, name) for name in row)} |",
            f"|{'---|' * len(row)}",
            f"| {' | '.join(str(value) for value in row.values())} |",
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
