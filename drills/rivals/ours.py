"""ralph itself, by its `loop`: a run carries the candidate out, a sealed scorer of the user's reads what it left."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ralph
from drills.rivals.candidates import candidate
from drills.rivals.contestant import EVALUATION_S, SCORE, START, Task
from ralph.adapters.sandbox import SandboxLevel, reached

TOML = """\
[arena]
name = "drill"
metric = "score"
direction = "max"
editable = ["program.py"]

[run]
command = "python run.py"
gate = false
budget_s = {timeout}
setup_s = 1
export_s = 0
grace_s = 0
device = "none"

[score]
mode = "command"
command = "python score.py"
bounds = [0.0, 1.0]

[keep]
max_runs = 1

[agent]
use = "script"

[agents.script]
kind = "scripted"
script = "script.jsonl"

[sandbox]
level = "{level}"
"""
RUN = """\
import json, os, pathlib
folder = pathlib.Path(os.environ["RALPH_RUN_DIR"])
import program
pathlib.Path(os.environ["RALPH_ARTIFACT"]).write_text(json.dumps(program.answer()))
(folder / "ended").write_text(os.urandom(8).hex())
"""
SCORER = (
    SCORE
    + """

import json
import os
import pathlib

print(json.dumps({"score": score(json.loads(pathlib.Path(os.environ["RALPH_ARTIFACT"]).read_text()))}))
"""
)
GIT = ("git", "-c", "user.name=drill", "-c", "user.email=drill@example.org")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ralph:
    """This package, at one level of sandbox."""

    level: SandboxLevel

    @property
    def name(self) -> str:
        """With the level, since that decides much."""
        return f"ralph, {self.level}"

    def version(self) -> str:
        """Empty where this machine does not reach the level."""
        return ralph.__version__ if reached(self.level).level is self.level else ""

    def prepare(self, task: Task) -> None:
        """A repository with the arena; its scripted agent has the candidates."""
        files = {
            "program.py": candidate(0, START),
            "run.py": RUN,
            "score.py": SCORER,
            "arena.toml": TOML.format(timeout=EVALUATION_S, level=self.level),
            "program.md": "Make the score large.\n",
            "script.jsonl": "".join(_step(text) for text in task.candidates),
            ".gitignore": "/state/\n/progress.md\n/learnings.md\n",
        }
        for name, text in files.items():
            (task.task / name).write_text(text, encoding="utf-8")
        subprocess.run([*GIT, "init", "--quiet", "-b", "main"], cwd=task.task, check=True)
        subprocess.run([*GIT, "add", "."], cwd=task.task, check=True)
        subprocess.run([*GIT, "commit", "--quiet", "-m", "the task"], cwd=task.task, check=True)

    def argv(self, task: Task, *, again: bool = False) -> Sequence[str]:  # noqa: ARG002 - the same command goes on
        """What was done before a kill counts."""
        loop = [sys.executable, "-P", "-m", "ralph", "--dir", str(task.task), "loop"]
        return [*loop, "--max-experiments", str(len(task.candidates))]

    def scores(self, task: Task) -> Mapping[int, float]:
        """From `ralph log`; none where the ledger was damaged, which it says instead."""
        argv = [sys.executable, "-P", "-m", "ralph", "--dir", str(task.task), "log", "--json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        rows = json.loads(done.stdout) if done.returncode == 0 else []
        return {row["id"]: row["scores"][0] for row in rows if row["id"] and row["verdict"] in ("keep", "discard")}

    def ended(self, task: Task) -> set[tuple[int, str]]:
        """The run leaves a random word behind; of a discarded candidate it is tidied away later."""
        found = [(self._number(task, path), path) for path in self._experiments(task).glob("*/run-*/**/ended")]
        return {(number, path.read_text(encoding="utf-8")) for number, path in found if number}

    def begun(self, task: Task) -> int:
        """Folders of runs, that of the baseline left out."""
        return sum(self._number(task, path) > 0 for path in self._experiments(task).glob("*/run-*"))

    def _experiments(self, task: Task) -> Path:
        return task.task / "state" / "experiments"

    def _number(self, task: Task, path: Path) -> int:
        return int(path.relative_to(self._experiments(task)).parts[0])


def _step(text: str) -> str:
    proposal = {"hypothesis": "candidate {id}, because the script says so, expect its answer"}
    return json.dumps({"write": {"program.py": text}, "proposal": proposal}) + "\n"
