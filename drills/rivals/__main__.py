"""Drill ralph and its rivals alike, and write the table of docs/isolation.md that sets them side by side.

`python -m drills.rivals [--environments FOLDER] [--install] [--only NAME …] [--dry]`: some twenty minutes. The rivals
are looked for as FOLDER/<package>/bin/python; `--install` has pip put the newest releases there first. One that is
missing is said to be. `--only` takes some of the contestants, by the beginnings of their names; `--dry` prints without
writing.

What is written down is what was seen, of ralph too. Status 1 if a drill did not hold for ralph in bubblewrap.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from drills.rivals import page
from drills.rivals.contestant import Contestant
from drills.rivals.drills import DRILLS, sane
from drills.rivals.environments import install, python_of
from drills.rivals.openevolve import OpenEvolve
from drills.rivals.ours import Ralph
from drills.rivals.shinka import Shinka
from drills.table import ROOT, machine
from ralph.adapters.sandbox import SandboxLevel

RIVALS = ("openevolve", "shinka-evolve")


def contestants(folder: Path) -> list[Contestant]:
    """All of them, there or not."""
    ours = [Ralph(level=level) for level in SandboxLevel]
    return [*ours, OpenEvolve(python=python_of(folder, RIVALS[0])), Shinka(python=python_of(folder, RIVALS[1]))]


def drill(contestant: Contestant) -> dict[str, str]:
    """What it did, by line."""
    found = {}
    why = "" if contestant.version() else "it is not here"
    why = why or sane(contestant)
    for each in DRILLS:
        said = [f"not tried: {why}"] * len(each.lines) if why else each.carry_out(contestant)
        for line, what in zip(each.lines, said, strict=True):
            found[line] = what or "held"
            print(f"{contestant.name}: {line}: {found[line]}", flush=True)
    return found


def main(argv: Sequence[str]) -> int:
    """Drill them one after another."""
    parser = argparse.ArgumentParser(prog="python -m drills.rivals")
    parser.add_argument("--environments", type=Path, default=ROOT / "state" / "rivals", metavar="FOLDER")
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""], metavar="NAME")
    parser.add_argument("--dry", action="store_true")
    args = parser.parse_args(argv)
    folder = args.environments.absolute()
    if args.install:
        for package in RIVALS:
            install(folder, package)
    chosen = [one for one in contestants(folder) if one.name.startswith(tuple(args.only))]
    found = {one.name: drill(one) for one in chosen}
    lines = [
        page.Line(group=each.group, name=line, cells={name: cells[line] for name, cells in found.items()})
        for each in DRILLS
        for line in each.lines
    ]
    results = page.Results(
        machine=machine(), contestants={one.name: one.version() or "(not here)" for one in chosen}, lines=lines
    )
    print(page.render(results))
    if not args.dry:
        page.write(results)
    return int(
        any(
            said not in ("held",) and not said.startswith("not tried")
            for said in found.get("ralph, bwrap", {}).values()
        )
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
