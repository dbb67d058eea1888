"""Carry out every drill at every level that this machine has, and write the table of docs/isolation.md.

`python -m drills`: some ten minutes. Status 1 if anything that a level covers did not hold.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from drills.catalogue import DRILLS
from drills.table import ROOT, Results, Row, machine, write
from ralph.adapters.sandbox import SandboxLevel, reached
from tests.attacks.agents import AGENTS
from tests.attacks.campaign import broken_promises, only
from tests.attacks.catalogue import Attack, Side
from tests.attacks.runs import RUNS

ATTACKS = (*RUNS, *AGENTS)
GROUPS = {Side.RUN: "What a run tries", Side.AGENT: "What an agent tries"}
SUITE = "attacks/test_attacks.py::test_no_attack_that_a_level_covers_gets_anywhere"
MANY = 8  # attacks of one campaign; nobody knows which of them it was when something else broke
PASSED = re.compile(r"^(PASSED|FAILED|ERROR|SKIPPED) tests/(\S+?::\w+)", re.MULTILINE)


def attacks() -> list[Row]:
    """The attack suite, campaign by campaign."""
    broken = {(level, a.side, a.name) for level in SandboxLevel for side in Side for a in _broken(level, side)}
    return [
        Row(
            group=GROUPS[a.side],
            name=a.name,
            test=SUITE,
            levels={
                level: _word(level, level in a.covered, (level, a.side, a.name) in broken) for level in SandboxLevel
            },
        )
        for a in ATTACKS
    ]


def _broken(level: SandboxLevel, side: Side) -> list[Attack]:
    """Attacks of campaigns in which something did not hold: those that are named, all of them if none is."""
    if reached(level).level is not level:
        return []
    found = []
    planned = only(ATTACKS, side, level)
    for start in range(0, len(planned), MANY):
        some = planned[start : start + MANY]
        with tempfile.TemporaryDirectory() as name:
            said = broken_promises(Path(name) / "arena", level, some)
        print(f"{level} {side} {start + 1} to {start + len(some)} of {len(planned)}: {said or 'held'}", flush=True)
        if said:
            found += [a for a in some if any(f"{a.side}: {a.name}" in line for line in said)] or some
    return found


def drills() -> list[Row]:
    """The other tests, all in one run of pytest."""
    files = sorted({drill.test.partition("::")[0] for drill in DRILLS})
    names = " or ".join(sorted({drill.test.partition("::")[2] for drill in DRILLS}))
    argv = [sys.executable, "-m", "pytest", "-q", "-rA", "-k", names, *(f"tests/{file}" for file in files)]
    said = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    ends: dict[str, set[str]] = {}
    for end, test in PASSED.findall(said):
        ends.setdefault(test, set()).add(end)
    return [
        Row(
            group=drill.group,
            name=drill.name,
            test=drill.test,
            levels={
                level: _word(level, level in drill.levels, ends.get(drill.test) != {"PASSED"}) for level in SandboxLevel
            },
        )
        for drill in DRILLS
    ]


def _word(level: SandboxLevel, covered: bool, broken: bool) -> str:
    if not covered:
        return "not covered"
    if reached(level).level is not level:
        return "not tried"
    return "BROKEN" if broken else "covered"


def report(rows: Sequence[Row]) -> int:
    """What did not hold; the exit status."""
    broken = [f"{row['group']}: {row['name']}" for row in rows if "BROKEN" in row["levels"].values()]
    print("\n".join([f"{len(rows)} drills, {len(broken)} broken", *broken]))
    return 1 if broken else 0


def main() -> int:
    """Carry them out."""
    rows = [*drills(), *attacks()]
    write(Results(machine=machine(), rows=rows))
    return report(rows)


if __name__ == "__main__":
    sys.exit(main())
