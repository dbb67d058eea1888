"""ShinkaEvolve, by its `shinka_run`; the evaluator hands the candidate to its `run_shinka_eval`, as its examples do."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from drills.rivals.candidates import candidate, number_of
from drills.rivals.contestant import EVALUATION_S, SCORE, START, Task, log_of_evaluations, logged
from drills.rivals.environments import version_of

EVALUATE = (
    SCORE
    + """

import argparse
import pathlib

from shinka.core import run_shinka_eval

LOG = pathlib.Path(LOG_PLACE)


def say(word, program_path):
    number = pathlib.Path(program_path).read_text().partition("# candidate ")[2].split()[0]
    with LOG.open("a") as file:
        file.write(f"{word} {number}\\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir")
    args = parser.parse_args()
    say("begun", args.program_path)
    run_shinka_eval(
        program_path=args.program_path,
        results_dir=args.results_dir,
        experiment_fn_name="answer",
        num_runs=1,
        aggregate_metrics_fn=lambda results: {"combined_score": score(results[0])},
    )
    say("ended", args.program_path)


if __name__ == "__main__":
    main()
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shinka:
    """The one in the environment `python`."""

    python: Path
    name: str = "shinka-evolve"

    def version(self) -> str:
        """As pip knows it."""
        return version_of(self.python, "shinka-evolve")

    def prepare(self, task: Task) -> None:
        """Program and evaluator."""
        (task.task / "initial.py").write_text(candidate(0, START), encoding="utf-8")
        text = EVALUATE.replace("LOG_PLACE", repr(str(log_of_evaluations(task))))
        (task.task / "evaluate.py").write_text(text, encoding="utf-8")

    def argv(self, task: Task, *, again: bool = False) -> Sequence[str]:  # noqa: ARG002 - the same command goes on
        """It goes on by itself in the same folder of results. Its first generation is the program at the start."""
        limit_s = f"00:00:{EVALUATION_S:02d}"
        settings = {
            "evo.llm_models": json.dumps([f"local/test@{task.url}/v1"]),
            "evo.llm_dynamic_selection": "none",
            "evo.patch_types": '["full"]',
            "evo.patch_type_probs": "[1.0]",
            "evo.embedding_model": "none",
            "evo.meta_rec_interval": "none",
            "db.num_islands": "1",
            "job.time": limit_s,
        }
        chosen = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        one_by_one = ["--max-evaluation-jobs", "1", "--max-proposal-jobs", "1", "--max-db-workers", "1"]
        where = ["--task-dir", str(task.task), "--results_dir", str(task.folder / "out")]
        count = ["--num_generations", str(len(task.candidates) + 1)]
        return [str(self.python.with_name("shinka_run")), *where, *count, *one_by_one, *chosen]

    def scores(self, task: Task) -> Mapping[int, float]:
        """From its data base: what it holds to be correct."""
        path = task.folder / "out" / "programs.sqlite"
        if not path.exists():
            return {}
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            rows = base.execute("SELECT code, combined_score FROM programs WHERE correct").fetchall()
        return {number_of(code): float(score) for code, score in rows if number_of(code)}

    def ended(self, task: Task) -> set[tuple[int, str]]:
        """The evaluator says so."""
        return logged(task, "ended")

    def begun(self, task: Task) -> int:
        """The evaluator says so."""
        return len(logged(task, "begun"))
