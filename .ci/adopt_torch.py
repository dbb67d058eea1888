"""Let the new environment use a torch that this machine has already, whatever Python's own rules say of nested ones.

Run by the Python that the environment is made from; the argument is the environment's interpreter. Where that Python
has torch >= 2.9, its package folders are appended to the environment's path, after the environment's own.
"""

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

OLDEST = (2, 9)


def own_torch() -> str:
    """The version of torch that this interpreter has; empty if it has none, or one that is too old."""
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    return version if numbers >= OLDEST else ""


def main(python: str) -> None:
    """Write the path file, and a mark for the Makefile that nothing is to be pinned."""
    version = own_torch()
    if not version:
        return
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    folders = dict.fromkeys(sysconfig.get_paths()[kind] for kind in ("purelib", "platlib"))
    (site / "zz_own_torch.pth").write_text("".join(f"{folder}\n" for folder in folders), encoding="utf-8")
    Path(".venv", "own-torch").write_text(f"{version}\n", encoding="utf-8")
    sys.stderr.write(f"using the torch {version} that is installed here\n")


if __name__ == "__main__":
    main(sys.argv[1])
