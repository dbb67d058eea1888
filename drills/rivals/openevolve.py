"""OpenEvolve, by its `openevolve-run`; the evaluator imports the candidate, as in its first example."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drills.rivals.candidates import candidate, number_of
from drills.rivals.contestant import EVALUATION_S, SCORE, START, Task, log_of_evaluations, logged
from drills.rivals.environments import version_of

CONFIG = """\
max_iterations: {iterations}
checkpoint_interval: 1
diff_based_evolution: false
llm:
  api_base: "{url}/v1"
  primary_model: test
  retries: 0
  timeout: 30
database:
  num_islands: 1
evaluator:
  timeout: {timeout}
  max_retries: 0
  cascade_evaluation: false
  parallel_evaluations: 1
"""
EVALUATE = (
    SCORE
    + """

import importlib.util
import pathlib

LOG = pathlib.Path(LOG_PLACE)


def say(word, program_path):
    number = pathlib.Path(program_path).read_text().partition("# candidate ")[2].split()[0]
    with LOG.open("a") as file:
        file.write(f"{word} {number}\\n")


def evaluate(program_path):
    say("begun", program_path)
    spec = importlib.util.spec_from_file_location("program", program_path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    result = {"combined_score": score(program.answer())}
    say("ended", program_path)
    return result
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenEvolve:
    """The one in the environment `python`."""

    python: Path
    name: str = "openevolve"

    def version(self) -> str:
        """As pip knows it."""
        return version_of(self.python, "openevolve")

    def prepare(self, task: Task) -> None:
        """Program, evaluator, configuration: saved after each candidate, which by default happens after a hundred."""
        (task.task / "initial.py").write_text(candidate(0, START), encoding="utf-8")
        log = str(log_of_evaluations(task))
        (task.task / "evaluator.py").write_text(EVALUATE.replace("LOG_PLACE", repr(log)), encoding="utf-8")
        text = CONFIG.format(iterations=len(task.candidates), url=task.url, timeout=EVALUATION_S)
        (task.task / "config.yaml").write_text(text, encoding="utf-8")

    def argv(self, task: Task, *, again: bool = False) -> Sequence[str]:
        """`--checkpoint` with the last one, and the iterations that are left."""
        saved = max(self._checkpoints(task), key=_iteration, default=None) if again else None
        left = len(task.candidates) - (_iteration(saved) if saved else 0)
        program = self.python.with_name("openevolve-run")
        files = [task.task / "initial.py", task.task / "evaluator.py", "--config", task.task / "config.yaml"]
        more = ["--checkpoint", saved] if saved else []
        return [str(word) for word in (program, *files, "--output", task.folder / "out", "--iterations", left, *more)]

    def scores(self, task: Task) -> Mapping[int, float]:
        """From all checkpoints, the later ones first: a program may leave its population and is not lost for that."""
        found = {}
        for saved in sorted(self._checkpoints(task), key=_iteration):
            for path in sorted((saved / "programs").glob("*.json")):
                program = json.loads(path.read_text(encoding="utf-8"))
                if "combined_score" in program["metrics"]:
                    found[number_of(program["code"])] = program["metrics"]["combined_score"]
        return {number: score for number, score in found.items() if number}

    def ended(self, task: Task) -> set[tuple[int, str]]:
        """The evaluator says so."""
        return logged(task, "ended")

    def begun(self, task: Task) -> int:
        """The evaluator says so."""
        return len(logged(task, "begun"))

    def _checkpoints(self, task: Task) -> list[Path]:
        return list((task.folder / "out" / "checkpoints").glob("checkpoint_*"))


def _iteration(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("_")[2])
