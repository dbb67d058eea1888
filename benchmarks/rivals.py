"""Other loops on trivial work: OpenEvolve, ShinkaEvolve and a plain Optuna loop, each as its own pages say to use it.

OpenEvolve and ShinkaEvolve live in an environment of their own, in a cache folder; their model is a loopback server of
ours that answers at once. Each evaluates what ralph runs, by the same command, one after another.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.provider import Provider, Reply, Request, Usage

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ralph-rivals"
PACKAGES = ("openevolve", "shinka-evolve")
TIMEOUT_S = 300.0
START = """\
# EVOLVE-BLOCK-START
RATE = 0.5
# EVOLVE-BLOCK-END
print("---")
print(f"val_bpb: {1 + abs(RATE - 0.1):.9f}")
"""

EVALUATOR = """\
import subprocess, sys

def score(path):
    with open(__file__ + ".runs", "a") as runs:
        runs.write(".")
    run = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, check=True)
    return float(run.stdout.rpartition("val_bpb:")[2])
"""

OPENEVOLVE = """\
import sys
from openevolve import run_evolution
from openevolve.config import Config, LLMModelConfig
folder, url, iterations = sys.argv[1], sys.argv[2], int(sys.argv[3])
config = Config(max_iterations=iterations, diff_based_evolution=False, log_level="ERROR")
model = dict(name="model", api_base=url, api_key="x", timeout=60, retries=0, retry_delay=0, max_tokens=1000)
config.llm.models = [LLMModelConfig(**model, temperature=0.7, system_message="x")]
config.llm.evaluator_models = list(config.llm.models)
config.database.num_islands = 1
config.evaluator.cascade_evaluation = False
config.evaluator.parallel_evaluations = 1
run_evolution(f"{folder}/initial.py", f"{folder}/judge.py", config=config, iterations=iterations,
              output_dir=f"{folder}/out", cleanup=False)
"""
OPENEVOLVE_JUDGE = EVALUATOR + "\ndef evaluate(path):\n    return {'combined_score': -score(path)}\n"

SHINKA = """\
import sys
from shinka.core import EvolutionConfig, ShinkaEvolveRunner
from shinka.database import DatabaseConfig
from shinka.launch import LocalJobConfig
folder, url, iterations = sys.argv[1], sys.argv[2], int(sys.argv[3])
ShinkaEvolveRunner(
    evo_config=EvolutionConfig(
        task_sys_msg="x", patch_types=["full"], patch_type_probs=[1.0], max_patch_resamples=1,
        num_generations=iterations,
        llm_models=[f"local/model@{url}"], llm_dynamic_selection=None, llm_kwargs={"temperatures": [0.0]},
        meta_rec_interval=None, embedding_model=None, init_program_path=f"{folder}/initial.py",
        results_dir=f"{folder}/out", max_novelty_attempts=1,
    ),
    job_config=LocalJobConfig(eval_program_path=f"{folder}/judge.py", python_executable=sys.executable),
    db_config=DatabaseConfig(num_islands=1, archive_size=10),
    verbose=False, max_evaluation_jobs=1, max_proposal_jobs=1, max_db_workers=1,
).run()
"""
SHINKA_JUDGE = (
    EVALUATOR
    + """
if __name__ == "__main__":
    import argparse, json, pathlib
    parser = argparse.ArgumentParser()
    parser.add_argument("--program_path")
    parser.add_argument("--results_dir")
    given, _ = parser.parse_known_args()
    folder = pathlib.Path(given.results_dir)
    folder.mkdir(parents=True, exist_ok=True)
    metrics = {"combined_score": -score(given.program_path), "public": {}, "private": {}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "correct.json").write_text(json.dumps({"correct": True, "error": None}))
"""
)

OPTUNA = """\
import os, pathlib, subprocess, sys, time, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
folder, iterations = pathlib.Path(sys.argv[1]), int(sys.argv[3])
start = (folder / "initial.py").read_text()
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=3))
for _ in range(iterations):
    print(time.monotonic(), flush=True)
    trial = study.ask()
    rate = trial.suggest_float("RATE", 0.01, 1.0, log=True)
    time.sleep(float(os.environ["ANSWER_S"]))
    program = folder / "train.py"
    program.write_text(start.replace("RATE = 0.5", f"RATE = {rate}"))
    run = subprocess.run([sys.executable, "-I", "-S", program], capture_output=True, text=True, check=True)
    study.tell(trial, float(run.stdout.rpartition("val_bpb:")[2]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """One other loop: `program` drives it, `judge` is its evaluator, `wrap` how its model answers."""

    name: str
    module: str
    lacks: str
    program: str
    judge: str = ""
    wrap: Callable[[str], str] = str


RIVALS = (
    Rival(
        name="optuna ask/tell",
        module="optuna",
        program=OPTUNA,
        lacks="no sandbox, git, fsync, agent, memory on disk: a floor, no rival",
    ),
    Rival(
        name="openevolve",
        module="openevolve",
        program=OPENEVOLVE,
        judge=OPENEVOLVE_JUDGE,
        wrap=lambda code: f"```python\n{code}```\n",
        lacks="no sandbox, git or fsync; evaluator in a worker that lives on",
    ),
    Rival(
        name="shinka-evolve",
        module="shinka",
        program=SHINKA,
        judge=SHINKA_JUDGE,
        wrap=lambda code: (
            "<NAME>\nidea\n</NAME>\n<DESCRIPTION>\nanother rate\n</DESCRIPTION>\n"
            f"<CODE>\n```python\n{code}```\n</CODE>\n"
        ),
        lacks="no sandbox or git; SQLite",
    ),
)


def python_of(rival: Rival, place: Path) -> Path:
    """The interpreter that has it."""
    return Path(sys.executable) if rival.program == OPTUNA else place / "bin" / "python"


def why_not(rival: Rival, place: Path) -> str:
    """Why it cannot be run here; empty if it can."""
    python = python_of(rival, place)
    if not python.exists():
        return f"not installed; `python -m benchmarks.overhead --install` does that, in {place}"
    tried = subprocess.run([python, "-c", f"import {rival.module}"], capture_output=True, text=True, check=False)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else ""


def install(place: Path) -> None:
    """Make their environment, from the package index that pip is configured for."""
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    subprocess.run([place / "bin" / "python", "-m", "pip", "install", "--quiet", *PACKAGES], check=True)


def seconds_each(rival: Rival, folder: Path, iterations: int, place: Path) -> float:
    """Seconds an iteration takes, from the first proposal asked for to the last, in an empty folder."""
    asked = asked_by(rival, folder, iterations, place)
    return (asked[-1] - asked[0]) / (len(asked) - 1)


def asked_by(
    rival: Rival,
    folder: Path,
    iterations: int,
    place: Path,
    *,
    start: str = START,
    answer_s: float = 0.0,
    env: Mapping[str, str] = MappingProxyType({}),
) -> list[float]:
    """Let it work in an empty folder; when each proposal was asked for, which is answered after `answer_s`.

    Raises:
        RuntimeError: it ended early or left out runs, with its last words.
    """
    (folder / "initial.py").write_text(start)
    (folder / "judge.py").write_text(rival.judge)
    (folder / "loop.py").write_text(rival.program)
    asked: list[float] = []

    def answer(_: Request) -> Reply:
        asked.append(time.monotonic())
        time.sleep(answer_s)
        code = start.replace("RATE = 0.5", f"RATE = {0.5 + len(asked) / 1e6:.6f}")
        return Reply(text=rival.wrap(code), usage=Usage())

    with Provider(answer) as provider, (folder / "log.txt").open("wb") as log:
        done = subprocess.run(
            [python_of(rival, place), folder / "loop.py", folder, f"{provider.url}/v1", str(iterations)],
            cwd=folder,
            env={**os.environ, "ANSWER_S": f"{answer_s:g}", **env},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    told = (folder / "log.txt").read_text(errors="replace")
    if not rival.judge:
        asked = [float(line) for line in told.split() if line.replace(".", "").isdigit()]
    runs = len((folder / "judge.py.runs").read_text()) if rival.judge else len(asked)
    if done.returncode or min(len(asked), runs) < iterations - 1:
        raise RuntimeError(
            f"{rival.name}: status {done.returncode}, {len(asked)} proposals, {runs} runs; {told[-800:]}"
        )
    return asked
