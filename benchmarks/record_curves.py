"""Record how runs of the default arena come to their scores: what `benchmarks/data/curves.jsonl` is made by.

    OMP_NUM_THREADS=1 nice python -m benchmarks.record_curves benchmarks/data/curves.jsonl

The candidates are those of a real campaign: the embedded tuner proposes, workspace/train.py trains, the scorer's
arithmetic scores a part of the held-out text, and what is clearly better is the incumbent from then on. Two things
differ from the loop. The budget is `--budget` seconds of *CPU time* on one core, so that whatever else the machine does
neither shortens a run nor bends its curve. And every second step is logged, since short runs have few steps.

One JSON object a line. First the settings; then one for each run: experiment, run, seed, incumbent (the experiment to
beat), score (bits per byte, null where it failed) and progress (pairs of seconds and loss); and one for each verdict,
with the constants that were changed against the incumbent.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

from ralph.adapters.agents.contract import Facts
from ralph.adapters.agents.proposing import propose
from ralph.core.constants import constants_of
from ralph.core.decision import Discard, Evidence, Keep, KeepRule, decide
from ralph.core.statistics import Noise, pooled_noise
from ralph.model import Direction

WORKSPACE = Path(__file__).resolve().parent.parent / "workspace"
LOG_EVERY = 2  # steps
SCORED_SHARE = 3  # one in so many windows of the held-out text
BASELINE_RUNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One run: bits per byte, None where it failed, and what it logged."""

    score: float | None
    progress: tuple[tuple[float, float], ...]


def run(text: str, seed: int, budget_s: float, data: Path) -> Recorded:
    """Train `text` in a fork of this process, so that torch is imported once."""
    with tempfile.TemporaryDirectory() as name:
        folder, pid = Path(name), os.fork()
        if pid == 0:
            status = 1
            try:
                _train(text, seed, budget_s, data, folder)
                status = 0
            finally:
                os._exit(status)
        os.waitpid(pid, 0)
        score = folder / "score.json"
        with contextlib.suppress(FileNotFoundError):
            lines = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
            return Recorded(
                score=json.loads(score.read_text()) if score.exists() else None,
                progress=tuple((line["seconds"], round(line["loss"], 4)) for line in lines),
            )
        return Recorded(score=None, progress=())


def _train(text: str, seed: int, budget_s: float, data: Path, folder: Path) -> None:
    import time

    import torch

    sys.path.insert(0, str(WORKSPACE))
    os.environ |= {"RALPH_DEVICE": "cpu", "RALPH_SEED": str(seed), "RALPH_BUDGET_S": f"{budget_s:g}"}
    os.environ["RALPH_RUN_DIR"] = str(folder)
    prepare: Any = importlib.import_module("prepare")

    begun: list[float] = []

    def computed(_clock: object) -> float:
        begun[:] = begun or [time.process_time()]
        return time.process_time() - begun[0]

    prepare.Clock.elapsed = computed
    trained: list[Any] = []
    exporting = SimpleNamespace(export=lambda model, *_, **__: trained.append(model), save=lambda *_: None)
    setattr(torch, "export", exporting)  # noqa: B010 - the model is scored here, so nothing is exported
    namespace: dict[str, Any] = {"__name__": "train", "__file__": str(WORKSPACE / "train.py")}
    with contextlib.redirect_stdout(None):
        exec(compile(text, "train.py", "exec"), namespace)
        namespace["CPU_LOG_EVERY"] = LOG_EVERY
        namespace["main"]()
    (folder / "score.json").write_text(json.dumps(_score(trained[0], data)))


def _score(model: Any, data: Path) -> float:
    import math

    import torch

    from ralph.adapters.scorer.language_model import losses, read_windows

    text = read_windows(data)
    nats = raw_bytes = 0.0
    with torch.no_grad():
        for at in range(0, len(text.inputs), SCORED_SHARE):
            found = losses(model, text.inputs[at], text.targets[at], text.vocab)
            nats += float(found[text.raw_bytes[at] > 0].double().sum())
            raw_bytes += float(text.raw_bytes[at].sum())
    return round(nats / math.log(2) / raw_bytes, 6)


class Campaign:
    """A small loop: one incumbent, the tuner's history, every run written down as soon as it is over."""

    def __init__(self, out: TextIO, budget_s: float, data: Path) -> None:
        self._out, self._budget_s, self._data = out, budget_s, data
        self.text = (WORKSPACE / "train.py").read_text()
        self.baseline = constants_of({"train.py": self.text})
        self.history: list[str] = []
        self.incumbent = 0
        self.scores = [self._run(0, n, self.text) for n in range(1, BASELINE_RUNS + 1)]
        self.groups = [self.scores]
        self._judged(0, "keep", self.text, self.scores)

    def step(self, id: int) -> None:  # noqa: A002 - the word of the ledger
        """One experiment from proposal to verdict."""
        noise = pooled_noise(self.groups)
        _, edited = propose(self._facts(id, noise.sigma or 0.0), {"train.py": self.text}, self.history, id)
        text = edited["train.py"]
        scores: list[float] = []
        self.groups.append(scores)
        verdict = ""
        while not verdict:
            score = self._run(id, len(scores) + 1, text)
            if score is not None:
                scores.append(score)
            verdict = "crash" if score is None else _verdict(scores, self.scores, noise)
        self._judged(id, verdict, text, scores)
        if verdict == "keep":
            self.incumbent, self.text, self.scores = id, text, scores

    def _facts(self, id: int, sigma: float) -> Facts:  # noqa: A002
        return Facts(
            id=id, attempt=1, campaign="curves", metric="val_bpb", direction=Direction.MIN, device="cpu",
            editable=("train.py",), sigma=sigma, incumbent_id=self.incumbent,
            incumbent_score=statistics.fmean(self.scores), incumbent_runs=len(self.scores), refusals=(),
        )  # fmt: skip

    def _run(self, id: int, number: int, text: str) -> Any:  # noqa: A002
        seed = 1000 * id + number
        recorded = run(text, seed, self._budget_s, self._data)
        told = {"experiment": id, "run": number, "seed": seed, "incumbent": self.incumbent, "score": recorded.score}
        self._write(**told, progress=recorded.progress)
        return recorded.score

    def _judged(self, id: int, verdict: str, text: str, scores: Sequence[float]) -> None:  # noqa: A002
        now = constants_of({"train.py": text})
        changed = dict(now) if id == 0 else {k: v for k, v in now.items() if v != self.baseline.get(k)}
        crash = "nan" if verdict == "crash" else None
        self.history.append(
            json.dumps({"id": id, "verdict": verdict, "crash": crash, "scores": list(scores), "constants": changed})
        )
        moved = {k: v for k, v in now.items() if v != constants_of({"train.py": self.text}).get(k)}
        self._write(experiment=id, verdict=verdict, constants=moved)

    def _write(self, **line: object) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def _verdict(ours: list[float], theirs: list[float], noise: Noise) -> str:
    """The rule of the loop, but that only the candidate is run again; empty while it is not clear."""
    decision = decide(KeepRule(), Evidence(candidate=tuple(ours), incumbent=tuple(theirs), noise=noise))
    if isinstance(decision, Keep):
        return "keep"
    return "discard" if isinstance(decision, Discard) or len(ours) == KeepRule().max_runs else ""


def main() -> int:
    """Record one campaign."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--budget", type=float, default=6.0, help="CPU seconds of one run")
    asked = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    sys.path.insert(0, str(WORKSPACE))
    data = importlib.import_module("prepare").prepared("cpu", os.environ)
    with asked.out.open("w") as out:
        settings = {"budget_s": asked.budget, "clock": "CPU seconds of one core", "log_every": LOG_EVERY}
        out.write(json.dumps({**settings, "torch": torch.__version__, "note": "recorded on a busy machine"}) + "\n")
        campaign = Campaign(out, asked.budget, data)
        for number in range(1, asked.candidates + 1):
            campaign.step(number)
    return 0


if __name__ == "__main__":
    sys.exit(main())
