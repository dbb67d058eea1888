"""Our train.py beside the ancestor's on one GPU: same corpus, tokenizer, budget, attention kernels and scorer.

    python -m benchmarks.train_cuda --ancestor FOLDER [--budget 300] [--seeds 1 2 3] [--parts data ours gaps ancestor]

Rows: tokens per second, MFU, val_bpb by our scorer, steps, parameters, seconds of set-up, peak memory. `gaps` tells the
seconds from the end of one training window to the start of the next, with one run after the other and with the process
of the next one prepared meanwhile; the scoring lies in between and is told apart. Each part adds to `--out`, so that it
can be carried out in pieces: a part takes as many budgets as it has seeds (gaps: short ones), and a minute for each.

The corpus is text of this machine (sources, documentation), `--corpus-mb` of it, unless `--paths` names other files.
FLOPs are counted as the ancestor counts them, so that its MFU and ours compare: six for each weight outside of the
embeddings, and attention without the half that causality spares.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ralph.adapters.compiled import CompileCache
from ralph.adapters.data import PreparedData, read_prepared
from ralph.adapters.device.watched import Care, DeviceRunner
from ralph.adapters.domains import Domains
from ralph.adapters.git import GitRepo
from ralph.adapters.machine import describe, device_name
from ralph.adapters.process import become_subreaper
from ralph.adapters.runner import LocalRunner
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.config import DeviceTable, load
from ralph.events import RunEnded
from ralph.front.app import device_of
from ralph.layout import Layout
from ralph.model import Outcome
from ralph.ports import Job, Runner, RunOrder

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "train_cuda.json"
PARTS = ("data", "ours", "gaps", "ancestor")
PEAK_TFLOPS = {"H100": 989.5, "H200": 989.5, "A100": 312.0}  # bfloat16, dense, SXM
TEXTS = {".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".c", ".cpp", ".cu", ".cuh", ".pl", ".pm", ".js", ".html"}
FOLDERS = ("/usr/include", "/usr/share/doc", "/usr/share/perl", "/usr/lib/python3", "/usr/src", "/usr/local/include")
LARGEST = 2 * 2**20  # bytes: longer files are tables more often than texts
SHORT_S = 8.0  # budget of a run whose gaps are measured
GAPS = 2


@dataclass(kw_only=True)
class Bench:
    """A repository with the default arena in `work`, and how its runs are carried out on `device`."""

    work: Path
    device: str
    budget_s: float
    constants: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def layout(self) -> Layout:
        """Where its files are."""
        return Layout(root=self.work / "arena", arena=self.work / "arena" / "workspace")

    def make(self, options: Mapping[str, Any]) -> None:
        """Copy the arena, unless it is there; `options` are those of its data."""
        arena = self.layout.arena
        if not arena.exists():
            shutil.copytree(ROOT / "workspace", arena, ignore=shutil.ignore_patterns("__pycache__"))
            _git(self.layout.root, "init", "-q")
        text = (ROOT / "workspace" / "arena.toml").read_text(encoding="utf-8").partition("[data.options]")[0]
        text += "[data.options]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())
        (arena / "arena.toml").write_text(text, encoding="utf-8")
        source = (ROOT / "workspace" / "train.py").read_text(encoding="utf-8")
        (arena / "train.py").write_text(_replaced(source, self.constants), encoding="utf-8")
        _git(self.layout.root, "add", ".")
        _git(self.layout.root, "commit", "-q", "--allow-empty", "-m", "arena")

    def prepare(self) -> PreparedData:
        """The data, prepared once."""
        environ = {**os.environ, "RALPH_DATA_DIR": str(self.work / "data"), "RALPH_DEVICE": self.device}
        command, arena = [sys.executable, "prepare.py"], self.layout.arena
        done = subprocess.run(command, cwd=arena, env=environ, stdout=subprocess.PIPE, text=True, check=True)
        return read_prepared(Path(done.stdout.splitlines()[-1]))

    def runner(self, data: PreparedData, budget_s: float) -> Runner:
        """As the supervisor makes it, with that budget."""
        run = load(self.layout.arena_toml, device=self.device).run.model_copy(update={"budget_s": budget_s})
        level = reached(SandboxLevel.BWRAP).level
        on_gpu = self.device != "cpu"
        local = LocalRunner(
            layout=self.layout,
            repo=GitRepo(self.layout.arena, self.layout.trees, ("train.py",)),
            run=run,
            device=self.device,
            data=data,
            domains=Domains(level, visible=(self.layout.root, ROOT), hidden=(self.layout.state,)),
            compiled=CompileCache(self.work / "compiled", 2 * 10**9) if on_gpu else None,
        )
        return DeviceRunner(local, device_of(self.device, DeviceTable(), self.work), Care()) if on_gpu else local

    def order(self, seed: int) -> RunOrder:
        """The next run. The first one is the baseline's, whose compiled code all the others find."""
        id_, self.count = self.count, self.count + 1
        repo = GitRepo(self.layout.arena, self.layout.trees, ("train.py",))
        commit = repo.head()
        tree = f"{id_}-run"
        repo.checkout(tree, commit)
        return RunOrder(id=id_, run=1, seed=seed, commit=commit, tree=tree)

    def out(self, order: RunOrder) -> Path:
        """What that run left."""
        return self.layout.run(order.id, order.run) / "out"


@dataclass(kw_only=True)
class Moments:
    """When a run's training began and ended and when it was gone, on the monotonic clock."""

    began: float = 0.0
    stopped: float = 0.0
    gone: float = 0.0


def watch(job: Job[RunEnded]) -> Iterator[tuple[Moments, RunEnded | None]]:
    """Poll as the supervisor does; each news is yielded, the last with the end."""
    import select

    moments = Moments()
    while True:
        ended = job.poll()
        now = time.monotonic()
        if ended is not None:
            moments.gone = now
            moments.stopped = moments.stopped or moments.began + ended.train_s
            yield moments, ended
            return
        news = job.news()
        if news is not None and news.stage == "training":
            moments.began = now - news.stage_s
        elif news is not None and news.stage == "export":
            moments.stopped = now - news.stage_s
            moments.began = moments.began or moments.stopped
        yield moments, None
        if (fd := job.fileno()) is not None:
            select.select([fd], [], [], 1.0)


def carried_out(job: Job[RunEnded]) -> tuple[Moments, RunEnded]:
    """To its end."""
    for moments, ended in watch(job):
        if ended is not None:
            return moments, ended
    raise AssertionError("a job ends")


def score(artifact: Path, data: Path, device: str, seed: int) -> dict[str, Any]:
    """What our scorer says, and how long it took."""
    began, out = time.monotonic(), artifact.with_name("score.json")
    words = ["--artifact", artifact, "--data", data, "--device", device, "--seed", seed, "--out", out]
    command = [sys.executable, "-m", "ralph.adapters.scorer.language_model", *map(str, words)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    answer = json.loads(out.read_text(encoding="utf-8"))
    said = {"val_bpb": answer.get("score")} if answer["ok"] else {"val_bpb": None, "refused": answer["reason"]}
    return {**said, "score_s": round(time.monotonic() - began, 2)}


def flops_per_token(*, width: int, hidden: int, windows: list[int], vocab: int) -> float:
    """Forward and backward, counted as the ancestor does.

    >>> flops_per_token(width=2, hidden=8, windows=[4, 8], vocab=10) == 6 * (2 * (16 + 32) + 20) + 12 * 2 * (4 + 8)
    True
    """
    weights = len(windows) * (4 * width**2 + 2 * width * hidden) + width * vocab
    return 6.0 * weights + 12.0 * width * sum(windows)


def mfu(flops: float, tokens_per_s: float, device: str) -> float | None:
    """Share of the GPU's peak; None where that is not known."""
    name = device_name(device)
    peak = next((tflops for kind, tflops in PEAK_TFLOPS.items() if kind in name), None)
    return round(flops * tokens_per_s / (peak * 1e12), 4) if peak else None


def our_windows(config: Mapping[str, Any]) -> list[int]:
    """How far each layer looks back."""
    last = config["DEPTH"] - 1
    short = [(i + 1) % config["LONG_EVERY"] > 0 and i < last for i in range(config["DEPTH"])]
    return [min(config["NEAREST"], config["WINDOW"]) if near else config["WINDOW"] for near in short]


def ours(bench: Bench, data: PreparedData, seed: int) -> dict[str, Any]:
    """One run of our train.py, scored."""
    order, cold = bench.order(seed), not (bench.work / "compiled" / "base").exists()
    _, ended = carried_out(bench.runner(data, bench.budget_s).start(order))
    row = {"who": "ours", "seed": seed, "budget_s": bench.budget_s, "set": bench.constants, "cold": cold}
    if ended.outcome is not Outcome.OK:
        return {**row, "failed": f"{ended.outcome}: {ended.reason}", "tail": ended.tail[-2000:]}
    config = json.loads((bench.out(order) / "config.json").read_text())
    flops = flops_per_token(
        width=config["WIDTH"], hidden=config["MLP_RATIO"] * config["WIDTH"], windows=our_windows(config),
        vocab=data.public["vocab_size"],
    )  # fmt: skip
    record = ended.record
    rate = float(str(record["tokens_per_s"]))
    return {
        **row, "tokens_per_s": round(rate), "mfu": mfu(flops, rate, bench.device), "steps": record["steps"],
        "parameters": config["parameters"], "attention": config["attention"], "setup_s": ended.setup_s,
        "train_s": ended.train_s, "export_s": ended.export_s, "peak_gib": round(ended.peak_bytes / 2**30, 2),
        **score(bench.out(order) / "artifact.pt2", data.descriptor, bench.device, seed),
    }  # fmt: skip


def ancestor(bench: Bench, data: PreparedData, train: Path, seed: int, constants: list[str]) -> dict[str, Any]:
    """One run of its train.py, scored by ours."""
    artifact = bench.work / f"ancestor-{seed}" / "model.pt2"
    artifact.parent.mkdir(exist_ok=True)
    words = ["--train", train, "--data", data.descriptor, "--artifact", artifact, "--budget", bench.budget_s]
    command = [
        sys.executable,
        "-m",
        "benchmarks.ancestor",
        *map(str, [*words, "--seed", seed, "--device", bench.device]),
    ]
    command += [word for each in constants for word in ("--set", each)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    row = {"who": "ancestor", "seed": seed, "budget_s": bench.budget_s, "set": constants}
    said = dict(re.findall(r"(?m)^(\w+):\s+([-\d.nae+]+)\s*$", done.stdout.rpartition("---\n")[2]))
    if done.returncode or "num_steps" not in said:
        return {**row, "failed": f"status {done.returncode}", "tail": (done.stdout + done.stderr)[-2000:]}
    steps, trained_s = int(said["num_steps"]), float(said["training_seconds"])
    tokens = 1e6 * float(said["total_tokens_M"])
    timed = max(0, steps - 11) / steps  # its clock does not count the first 11
    return {
        **row, "tokens_per_s": round(tokens * timed / trained_s) if trained_s else None,
        "mfu": round(float(said["mfu_percent"]) / 100, 4), "steps": steps, "train_s": trained_s,
        "parameters": round(1e6 * float(said["num_params_M"])),
        "peak_gib": round(float(said["peak_vram_mb"]) / 1024, 2), "whole_s": round(time.monotonic() - began, 1),
        **score(artifact, data.descriptor, bench.device, seed),
    }  # fmt: skip


def gaps(bench: Bench, data: PreparedData, prepared: bool) -> dict[str, Any]:
    """Seconds from the end of one training window to the start of the next, over a few short runs."""
    runner, rows = bench.runner(data, min(SHORT_S, bench.budget_s)), list[dict[str, float]]()
    upcoming, last, scored_s = bench.order(1), None, 0.0
    for _ in range(GAPS + 1):
        order, upcoming = upcoming, bench.order(1)
        for moments, ended in watch(runner.start(order)):
            if prepared and moments.began and not runner.prepared(upcoming):
                runner.prepare(upcoming)
            if ended is not None and ended.outcome is not Outcome.OK:
                runner.drop()
                return {"who": "gaps", "prepared": prepared, "failed": ended.reason, "tail": ended.tail[-2000:]}
        assert ended is not None
        if last is not None:
            gap_s = moments.began - last.stopped
            rows.append({
                "gap_s": gap_s, "export_s": last.gone - last.stopped, "score_s": scored_s, "setup_s": ended.setup_s,
            })  # fmt: skip
        last = moments
        scored_s = score(bench.out(order) / "artifact.pt2", data.descriptor, bench.device, 1)["score_s"]
    runner.drop()
    middle = {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
    return {"who": "gaps", "prepared": prepared, "runs": len(rows), **middle}


def texts(most_bytes: int) -> list[str]:
    """Files of this machine that hold text, in the order of their names, up to so many bytes."""
    folders = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    folders += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    found: dict[str, int] = {}
    for folder in dict.fromkeys(str(Path(path).resolve()) for path in (*folders, *FOLDERS)):
        for path in sorted(Path(folder).rglob("*")) if Path(folder).is_dir() else ():
            if path.suffix in TEXTS and path.is_file() and not path.is_symlink():
                size = path.stat().st_size
                if 200 < size < LARGEST:
                    found.setdefault(str(path), size)
    chosen, total = [], 0
    for name, size in found.items():
        if total + size > most_bytes:
            break
        chosen.append(name)
        total += size
    print(f"corpus: {len(chosen):,} files of this machine, {total / 1e6:.0f} MB", flush=True)
    return chosen


def _replaced(source: str, constants: list[str]) -> str:
    for wish in constants:
        name, _, value = wish.partition("=")
        source, found = re.subn(rf"(?m)^{re.escape(name)} = [^#\n]*?(?=  #)", f"{name} = {value}", source)
        if not found:
            sys.exit(f"train_cuda: train.py has no constant {name}")
    return source


def _git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", *words], cwd=folder, check=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as a page of markdown."""
    lines = [
        "| who | seed | budget | tokens/s | MFU | val_bpb | steps | parameters | set-up | peak GiB |",
        "|---|" + "---|" * 9,
    ]
    for row in rows:
        if row["who"] == "gaps":
            continue
        if "failed" in row:
            lines.append(f"| {row['who']} | {row['seed']} | {row['budget_s']:g} | failed: {row['failed']} |" + " |" * 6)
            continue
        cells = [
            row.get(name) for name in ("tokens_per_s", "mfu", "val_bpb", "steps", "parameters", "setup_s", "peak_gib")
        ]
        shown = [f"{cell:,}" if isinstance(cell, int) else "" if cell is None else f"{cell:.4f}" for cell in cells]
        lines.append(f"| {row['who']} | {row['seed']} | {row['budget_s']:g} s | " + " | ".join(shown) + " |")
    for row in (row for row in rows if row["who"] == "gaps"):
        how = "prepared" if row["prepared"] else "one after the other"
        told = row.get("failed") or ", ".join(f"{k} {row[k]:.2f}" for k in ("gap_s", "export_s", "score_s", "setup_s"))
        lines.append(f"\n{how}: {told}")
    return "\n".join(lines)


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ancestor", type=Path, help="the folder with its train.py")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--paths", nargs="+", help="the corpus: files, folders or globs")
    parser.add_argument("--corpus-mb", type=float, default=400.0)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=JSON", help="other options of the data")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another constant in ours")
    parser.add_argument(
        "--ancestor-set", action="append", default=[], metavar="NAME=VALUE", help="the same in its file"
    )
    parser.add_argument("--work", type=Path, help="a folder that stays, for work in pieces")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(words)


def main(words: list[str]) -> int:
    """Carry out the parts, print, and add to the JSON."""
    options = arguments(words)
    become_subreaper()
    with tempfile.TemporaryDirectory(prefix="ralph-train-cuda-") as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(work=work, device=options.device, budget_s=options.budget, constants=options.set)
        wanted = {"corpus": "files", "vocab_size": 8192, "sequence_len": 2048, "score_batch": 8, "val_bytes": 1_000_000}
        wanted |= {name: json.loads(value) for name, _, value in (each.partition("=") for each in options.data)}
        kept = work / "paths.json"
        if options.paths or not kept.exists():
            kept.write_text(json.dumps(options.paths or texts(round(options.corpus_mb * 1e6))))
        bench.make(wanted | {"paths": json.loads(kept.read_text())})
        began = time.monotonic()
        data = bench.prepare()
        if "data" in options.parts:
            told = {name: data.public[name] for name in ("sha256", "vocab_size", "sequence_len", "train", "val")}
            _add(options, {"who": "data", "prepared_s": round(time.monotonic() - began, 1), **told})
        for seed in options.seeds:
            if "ours" in options.parts:
                _add(options, ours(bench, data, seed))
            if "ancestor" in options.parts and options.ancestor is not None:
                train = options.ancestor.resolve() / "train.py"
                _add(options, ancestor(bench, data, train, seed, options.ancestor_set))
        if "gaps" in options.parts:
            for prepared in (False, True):
                _add(options, gaps(bench, data, prepared))
    rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    print(table([row for row in rows if row["who"] != "data"]))
    return int(any("failed" in row for row in rows))


def _add(options: argparse.Namespace, row: dict[str, Any]) -> None:
    """One row more in the JSON, which says of what machine it is."""
    now = {"date": time.strftime("%Y-%m-%d"), **describe(options.device)}
    old = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    rows = old.get("rows", []) if old.get("machine", {}).get("device_name") == now["device_name"] else []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": now, "rows": [*rows, row]}, indent=1)
    options.out.write_text(text + "\n", encoding="utf-8")
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
