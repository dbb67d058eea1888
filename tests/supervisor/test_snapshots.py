"""A supervisor that goes on from a snapshot does what one would do that read the whole ledger."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.adapters import snapshot as snapshots
from ralph.adapters.ledger import FileLedger, read_entries
from ralph.adapters.scripted.lab import Lab, Plan
from ralph.adapters.snapshot import Snapshots, restore
from ralph.core import shelf
from ralph.core.brief import Options
from ralph.core.step import Limits
from ralph.events import Event, SupervisorStarted, SupervisorStopped
from ralph.model import CrashKind, Verdict
from ralph.supervisor.loop import Supervisor
from tests.supervisor.labs import BRIEF_TOKENS, OPENING, Bench, bench

STEP = 12  # experiments between two restarts
MANY = 3 * STEP


def plan(number: int) -> Plan:
    """Gains, losses, crashes and rules broken, by number alone."""
    draw = random.Random(number)
    if draw.random() < 0.15:
        return Plan(hypothesis=f"idea {number}", crash=CrashKind.NAN, tail="nan\n" * 40)
    if draw.random() < 0.1:
        return Plan(refuse="prepare.py changed")
    effect = draw.choice((-0.004, -0.0003, 0.0, 0.002, 0.01))
    return Plan(effect=effect, hypothesis=f"idea {number}", constants={"train.py:LEARNING_RATE": number / 100})


def go_on(made: Bench, folder: Path, experiments: int, *, use: bool) -> Supervisor:
    """One supervisor up to so many experiments; with `use` it reads and writes snapshots."""
    path, index = folder / "ledger.jsonl", folder / "snapshot"
    found = restore(path, index, check=True)
    ledger = FileLedger(path, made.lab.clock.utc, after=found.mark)
    book = Snapshots(index, ledger, found.mark.offset if found.used else 0)
    keep = (lambda: book.keep(found.state)) if use else (lambda: None)
    world = replace(made.world, ledger=ledger, keep=keep)
    rules = replace(made.rules, limits=Limits(experiments=experiments))
    supervisor = Supervisor(world, rules, Options(limit_tokens=BRIEF_TOKENS), found.state)
    supervisor.run(OPENING)
    ledger.close()
    return supervisor


def told(folder: Path) -> list[Event]:
    """The ledger without the comings and goings of supervisors."""
    events = (entry.event for entry in read_entries(folder / "ledger.jsonl"))
    return [event for event in events if not isinstance(event, SupervisorStarted | SupervisorStopped)]


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens within a few experiments that else takes a thousand."""
    monkeypatch.setattr(shelf, "LOOK_BACK", 10)
    monkeypatch.setattr(snapshots, "EVERY_BYTES", 4_000)


@pytest.mark.slow
def test_restarts_from_snapshots_give_the_ledger_of_one_supervisor_that_has_none(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    go_on(bench(Lab(plan=plan)), whole, MANY, use=False)
    made = bench(Lab(plan=plan))
    for experiments in range(STEP, MANY + 1, STEP):
        supervisor = go_on(made, parts, experiments, use=True)
        assert restore(parts / "ledger.jsonl", parts / "snapshot", check=True).used
    assert told(parts) == told(whole)
    assert made.papers.page
    assert len(supervisor.state.experiments) == MANY + 1 + supervisor.state.counts[Verdict.VOID]


def test_a_snapshot_is_there_before_the_loop_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is killed has it as well."""
    seen: list[int] = []
    keep = Snapshots.keep

    def watched(self: Snapshots, state: object) -> None:
        keep(self, state)  # type: ignore[arg-type]
        seen.append((tmp_path / "snapshot").stat().st_size if (tmp_path / "snapshot").exists() else 0)

    monkeypatch.setattr(Snapshots, "keep", watched)
    go_on(bench(Lab(plan=plan)), tmp_path, STEP, use=True)
    assert len(seen) == STEP + 2, "after the baseline, each experiment, and at the end"
    assert any(seen[:-1])
