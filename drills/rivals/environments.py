"""Where the rivals are installed: virtual environments in a folder of their own."""

import subprocess
import sys
from pathlib import Path


def python_of(folder: Path, package: str) -> Path:
    """The interpreter of a rival's environment."""
    return folder / package / "bin" / "python"


def install(folder: Path, package: str) -> None:
    """Make the environment, if it is not there, with the newest release that pip finds."""
    if python_of(folder, package).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / package)], check=True)
    pip = [str(python_of(folder, package)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, package], check=True)


def version_of(python: Path, package: str) -> str:
    """The version of an installed package, empty if it is not there."""
    if not python.exists():
        return ""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    done = subprocess.run([str(python), "-c", code, package], capture_output=True, text=True, check=False)
    return done.stdout.strip()
