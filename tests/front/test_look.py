"""Looking must not cost the time of what is looked at."""

import subprocess
import sys
from pathlib import Path

from tests.arenas import toy_arena

HEAVY = {
    "anthropic",
    "genai_prices",
    "git",
    "httpx",
    "matplotlib",
    "numpy",
    "openai",
    "optuna",
    "psutil",
    "pydantic",
    "rich",
    "torch",
}


def test_status_in_a_pipe_imports_nothing_heavy(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", [])
    program = (
        "import sys; from ralph.front.cli import main\n"
        f"main(['--dir', {str(arena.root)!r}, 'status'], standalone_mode=False)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "it has not been started yet" in done.stdout
    assert HEAVY & set(done.stdout.splitlines()[-1].split()) == set()
