"""A deterministic arena in a repository of its own, and the real command line on it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ralph.adapters.ledger import read_entries
from ralph.events import Event, SupervisorStarted, SupervisorStopped
from tests.conftest import git

TRAIN = """\
import os, pathlib

LEARNING_RATE = 0.5  # per step
WIDTH = 8  # channels

pathlib.Path(os.environ["RALPH_RUN_DIR"], "nonce").write_bytes(os.urandom(8))
score = 1.0 + abs(LEARNING_RATE - 0.1) + 1 / WIDTH
print("step 1 val_bpb: 0.0")
print("---")
print(f"val_bpb: {score:.6f}")
"""
TOML = """\
[arena]
name = "toy"
editable = ["train.py"]

[run]
command = "python train.py"
budget_s = 20
device = "none"

[agent]
use = "script"
timeout_s = 20
repairs = 0

[agents.script]
kind = "scripted"
script = "script.jsonl"
"""
TIMEOUT_S = 100


@dataclass(kw_only=True)
class ToyArena:
    """One repository with an arena at its top."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: {"RALPH_NO_PICTURE": "1"})

    def ralph(self, *args: str, env: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S) -> "Done":
        """Run the command line to its end."""
        done = subprocess.run(
            self.argv(*args),
            env={**os.environ, **self.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(status=done.returncode, out=done.stdout, err=done.stderr)

    def argv(self, *args: str) -> list[str]:
        """The command line, for those who want to kill it."""
        return [sys.executable, "-m", "ralph", "--dir", str(self.root), *args]

    def loop(self, experiments: int, **env: str) -> "Done":
        """`ralph loop --max-experiments N`."""
        return self.ralph("loop", "--max-experiments", str(experiments), env=env)

    def json(self, *args: str) -> Any:
        """What a command prints with --json."""
        done = self.ralph(*args, "--json")
        assert done.status == 0, done
        return json.loads(done.out)

    def events(self) -> list[Event]:
        """The ledger."""
        return [entry.event for entry in read_entries(self.root / "state" / "ledger.jsonl")]

    def recorded(self) -> int:
        """How many events the ledger has, counted so cheaply that a test may ask all the time."""
        try:
            return (self.root / "state" / "ledger.jsonl").read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def nonces(self) -> dict[str, bytes]:
        """One random number per run that was carried out, by the run's folder."""
        experiments = self.root / "state" / "experiments"
        while True:
            try:
                found = list(experiments.rglob("nonce"))
                return {p.parent.parent.relative_to(experiments).as_posix(): p.read_bytes() for p in found}
            except FileNotFoundError:
                continue  # what is no longer needed of a run was tidied away meanwhile


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


Steps = Sequence[Mapping[str, object] | Sequence[Mapping[str, object]]]


def toy_arena(root: Path, steps: Steps, *, train: str = TRAIN, toml: str = TOML) -> ToyArena:
    """Make the repository; `steps` are what the scripted agent does, experiment by experiment."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text(train)
    (root / "prepare.py").write_text("FIXED = True\n")
    (root / "program.md").write_text("Make val_bpb small.\n")
    (root / "arena.toml").write_text(toml)
    (root / "script.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    (root / "state").mkdir()
    (root / "state" / ".gitignore").write_text("*\n")
    (root / "progress.md").write_text("nothing yet\n")
    (root / "learnings.md").write_text("# Learnings\n\n## Guidance\n\n- mine\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "A toy arena")
    return ToyArena(root=root)


def edit(name: str, value: float) -> dict[str, object]:
    """A step that sets one constant and says so."""
    return {
        "constants": {f"train.py:{name}": value},
        "proposal": {
            "hypothesis": f"{name} = {value:g}, because it is the {{id}}th idea",
            "learnings": [{"text": f"tried {name} = {value:g} in experiment {{id}}", "evidence": [0]}],
        },
    }


def relieved(steps: Steps) -> tuple[list[Any], list[int]]:
    """A good step after every two bad ones, so that the loop's patience is not tried; and the numbers of the bad."""
    script: list[Any] = []
    for n, step in enumerate(steps):
        script += [step] if n % 2 == 0 else [step, edit("WIDTH", 20 + n)]
    return script, [n + n // 2 + 1 for n in range(len(steps))]


def story(events: Sequence[Event]) -> list[dict[str, Any]]:
    """A ledger without what may differ between two lives: times, bytes, hashes of programs, supervisors' comings."""
    commits: dict[str, str] = {}
    rows = []
    for event in events:
        if isinstance(event, SupervisorStarted | SupervisorStopped):
            continue
        row = _plain(event)
        for key in ("base", "commit"):
            if key in row:
                row[key] = commits.setdefault(row[key], f"commit {len(commits)}")
        for key in (
            "seconds",
            "setup_s",
            "train_s",
            "export_s",
            "peak_bytes",
            "record",
            "machine",
            "campaign",
            "tail",
            "meaning",
        ):
            row.pop(key, None)
        rows.append(row)
    return rows


def _plain(event: Event) -> dict[str, Any]:
    from dataclasses import asdict

    return json.loads(json.dumps(asdict(event), default=str))  # type: ignore[no-any-return]
