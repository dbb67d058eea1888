"""Let the environment find the package by a plain path, relative to where it lies.

Run in the project's folder, with the environment's own Python, after pip. What pip leaves for an editable install is a
program instead, which every start of Python would run: it takes longer than the rest of the start, and a loop starts
Python for each agent, run and scorer. A relative path has no letters that a locale might not know, and outlives a
rename of the folder.
"""

import os
import sysconfig
from pathlib import Path


def main() -> None:
    """Replace pip's path file."""
    site = Path(sysconfig.get_paths()["purelib"])
    (site / "ralph.pth").write_text(f"{os.path.relpath(Path.cwd(), site)}\n", encoding="ascii")
    for found in site.glob("__editable__.ralph-*.pth"):
        found.unlink()


if __name__ == "__main__":
    main()
