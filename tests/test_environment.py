"""The environment that `make` makes: Python starts in it as quickly as anywhere, and finds the package everywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

import ralph

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="these tests run in another environment")


def answer(code: str, folder: Path) -> str:
    argv = [sys.executable, "-I", "-c", code]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_no_program_of_an_install_runs_at_each_start_of_python(tmp_path: Path) -> None:
    assert answer("import sys; print({'pathlib', 'importlib.util'} & {*sys.modules})", tmp_path) == "set()"


def test_the_package_is_found_from_anywhere_and_is_the_one_of_this_folder(tmp_path: Path) -> None:
    found = Path(answer("import ralph; print(ralph.__file__)", tmp_path))
    assert found.samefile(ralph.__file__)
    assert found.resolve().is_relative_to(ROOT.resolve())
