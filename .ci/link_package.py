"""Let the environment find the package by a link in its site-packages.

Run in the project's folder, with the environment's own Python, after pip. What pip leaves for an editable install is a
program that each start of Python runs, which takes longer than the rest of the start; a loop starts Python for every
agent, run and scorer. A path to the folder would make it list that folder, which a sandbox may hide. A relative link
needs neither, and outlives a rename.
"""

import os
import sysconfig
from pathlib import Path


def main() -> None:
    """Replace pip's path file by the link."""
    site = Path(sysconfig.get_paths()["purelib"])
    (site / "ralph").symlink_to(os.path.relpath(Path.cwd() / "ralph", site))
    for found in site.glob("__editable__.ralph-*.pth"):
        found.unlink()


if __name__ == "__main__":
    main()
