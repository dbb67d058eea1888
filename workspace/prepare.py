"""The fixed side of the default arena. train.py imports it; the agent does not edit it.

Two things are here. What a run needs: `arena()` tells it what it may know before the start, `device()` gives it its
device, `training()` is the starting gun, and all work alike under the supervisor (docs/runs.md) and by hand
(`python train.py`). And `python prepare.py`, which prepares the data once and prints the path of its data.json.

It stands alone: nothing of the ralph package is imported, because a run starts from a clean checkout.
"""

import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).resolve().parent
HAND_BUDGET_S = {"cpu": 30.0, "cuda": 300.0}  # by hand, unless arena.toml or RALPH_BUDGET_S says otherwise
PACKET_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """What a run may know before the gun: the shapes to build for, the device, the seed, where to write."""

    vocab_size: int
    sequence_len: int  # tokens in a window at scoring; the exported graph has shape (score_batch, sequence_len)
    score_batch: int
    dtype: str
    device: str  # "cpu" or "cuda:N": what to build for; nothing touches it before `device()` has returned
    seed: int
    budget_s: float
    run_dir: Path
    artifact: Path
    data: Path | None  # data.json; None under the supervisor, which does not tell

    def write_config(self, config: Mapping[str, object]) -> None:
        """Put the resolved configuration on record: what the code computed."""
        _write(self.run_dir / "config.json", config)

    def write_report(self, **facts: object) -> None:
        """Put on record how the run went: peak_bytes, tokens, tokens_per_s and whatever else is worth it."""
        _write(self.run_dir / "report.json", facts)

    def scorer_command(self) -> str | None:
        """The command that scores the artifact of a run by hand; None under the supervisor, which scores itself."""
        if self.data is None:
            return None
        words = [sys.executable, "-m", "ralph.adapters.scorer.language_model", "--artifact", str(self.artifact)]
        words += ["--data", str(self.data), "--device", self.device, "--seed", str(self.seed)]
        return shlex.join([*words, "--out", str(self.run_dir / "score.json")])


@dataclass(slots=True, kw_only=True)
class Clock:
    """The time budget of a run, and what it trains on."""

    tokens: npt.NDArray[np.unsignedinteger[Any]]  # one-dimensional, memory-mapped, read-only
    budget_s: float
    started: float  # monotonic
    progress: Path
    steps: int = 0
    _last: float = field(default=-1.0)

    def elapsed(self) -> float:
        """Seconds since *go*."""
        return time.monotonic() - self.started

    def remaining(self) -> float:
        """Seconds left for training; negative when it is too late."""
        return self.budget_s - self.elapsed()

    def fraction(self) -> float:
        """Share of the budget that is spent, 0 to 1: what schedules go by."""
        return min(self.elapsed() / self.budget_s, 1.0)

    def log(self, step: int, loss: float) -> None:
        """Count `step` steps as done and put a line on record. Raises FloatingPointError if the loss is not finite."""
        self.steps = step
        seconds = self.elapsed()
        with self.progress.open("a") as file:
            file.write(json.dumps({"step": step, "loss": loss, "seconds": round(seconds, 3)}) + "\n")
        print(f"step {step:6d}  loss {loss:.4f}  {seconds:6.1f} s of {self.budget_s:g}", flush=True)
        if not np.isfinite(loss):
            raise FloatingPointError(f"loss is {loss} at step {step}: the run diverged")


def arena(environ: Mapping[str, str] = os.environ) -> Arena:
    """What the supervisor says in the environment; by hand, what arena.toml says, with the data prepared if missing."""
    supervised = "RALPH_DATA" in environ
    device = resolve_device(environ.get("RALPH_DEVICE", "auto"))
    data = Path(environ["RALPH_DATA"]) if supervised else prepared(device, environ)
    facts = json.loads(data.read_text())
    run_dir = Path(environ.get("RALPH_RUN_DIR") or data_folder(environ).parent / "by-hand").absolute()
    run_dir.mkdir(parents=True, exist_ok=True)
    return Arena(
        vocab_size=facts["vocab_size"],
        sequence_len=facts["sequence_len"],
        score_batch=facts["score_batch"],
        dtype=facts["dtype"],
        device=device,
        seed=int(environ.get("RALPH_SEED", "0")),
        budget_s=float(environ.get("RALPH_BUDGET_S") or hand_budget_s(device)),
        run_dir=run_dir,
        artifact=Path(environ.get("RALPH_ARTIFACT") or run_dir / "model.pt2").absolute(),
        data=None if supervised else data,
    )


def device(arena: Arena, environ: Mapping[str, str] = os.environ) -> str:
    """Wait until the device is this run's own, then tell which it is; by hand it is at once.

    Everything that the host can do without it (imports, building the model) belongs before this: a run may be started
    while another one trains. Whoever touches a GPU before breaks a rule.

    Raises:
        RuntimeError: the supervisor went away, or answered with something else.
    """
    if "RALPH_GUN_FD" not in environ:
        return arena.device
    with socket.fromfd(int(environ["RALPH_GUN_FD"]), socket.AF_UNIX, socket.SOCK_SEQPACKET) as gun:
        gun.send(json.dumps({"device": {}}).encode())
        packet = gun.recv(PACKET_BYTES)
    if not packet:
        raise RuntimeError("the supervisor closed the starting gun before it gave a device")
    message = json.loads(packet)
    if "device" not in message:
        raise RuntimeError(f"expected a device, got {packet[:200]!r}")
    return str(message["device"])


@contextmanager
def training(arena: Arena, environ: Mapping[str, str] = os.environ) -> Iterator[Clock]:
    """The starting gun: say *ready*, wait for *go* and the data, train inside, say *stopped*.

    Everything that does not look at training data (imports, building, compiling, warm-up) belongs before it.

    Raises:
        RuntimeError: the supervisor went away, or answered with something else than *go*.
    """
    progress = arena.run_dir / "progress.jsonl"
    progress.write_text("")
    gun = socket.socket(fileno=int(environ["RALPH_GUN_FD"])) if "RALPH_GUN_FD" in environ else None
    with gun or nullcontext():
        file, budget_s = _wait_for_go(gun) if gun else _start_by_hand(arena)
        started = time.monotonic()
        clock = Clock(tokens=_mapped(file, arena.dtype), budget_s=budget_s, started=started, progress=progress)
        yield clock
        if gun:
            gun.send(json.dumps({"stopped": {"steps": clock.steps, "train_s": clock.elapsed()}}).encode())


def _start_by_hand(arena: Arena) -> tuple[BinaryIO, float]:
    if arena.data is None:
        raise RuntimeError("RALPH_DATA is set but RALPH_GUN_FD is not: this arena needs gate = true")
    record = json.loads(arena.data.read_text())
    return (arena.data.parent / record["train"]["path"]).open("rb"), arena.budget_s


def _wait_for_go(gun: socket.socket) -> tuple[BinaryIO, float]:
    gun.send(json.dumps({"ready": {}}).encode())
    packet, descriptors, _, _ = socket.recv_fds(gun, PACKET_BYTES, 8)
    if not packet:
        raise RuntimeError("the supervisor closed the starting gun before go")
    message = json.loads(packet)
    if "go" not in message or len(descriptors) != len(message["go"]["data"]):
        raise RuntimeError(f"expected go with its data, got {packet[:200]!r} with {len(descriptors)} descriptors")
    handed = dict(zip(message["go"]["data"], descriptors, strict=True))
    return os.fdopen(handed["train"], "rb"), float(message["go"]["budget_s"])


def _mapped(file: BinaryIO, dtype: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    with file:
        return np.memmap(file, dtype=np.dtype(dtype), mode="r")


def resolve_device(wanted: str) -> str:
    """The device as "cpu" or "cuda:N"; "auto" takes the first CUDA device if there is one."""
    if wanted == "auto":
        import torch

        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda:0" if wanted == "cuda" else wanted


def data_folder(environ: Mapping[str, str]) -> Path:
    """Where prepared data is kept."""
    return Path(environ.get("RALPH_DATA_DIR") or HERE.parent / "state" / "data").absolute()


def prepared(device: str, environ: Mapping[str, str]) -> Path:
    """The data.json for this device, prepared first if it is missing."""
    import data  # the tokenizer and the corpora are not needed, nor imported, in a run

    return data.prepare(data_folder(environ), data.read_options(HERE / "arena.toml", device), HERE)


def hand_budget_s(device: str) -> float:
    """Seconds of training for a run by hand: those of arena.toml for this device."""
    import tomllib

    kind = device.partition(":")[0]
    path = HERE / "arena.toml"
    run = tomllib.loads(path.read_text(encoding="utf-8")).get("run", {}) if path.exists() else {}
    profile = run.get("cpu", {}) if kind == "cpu" else {}
    return float(profile.get("budget_s", run.get("budget_s", HAND_BUDGET_S[kind])))


def _write(path: Path, record: Mapping[str, object]) -> None:
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(dict(record), indent=1) + "\n")
    temporary.replace(path)


def main() -> int:
    """Prepare the data; the last line of standard output is the path of its data.json."""
    from corpus import CorpusError

    try:
        print(prepared(resolve_device(os.environ.get("RALPH_DEVICE", "auto")), os.environ))
    except CorpusError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
