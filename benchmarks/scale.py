"""Is the hundred-thousandth experiment as quick as the tenth? Per iteration, at a restart, for a look, in memory.

    python -m benchmarks.scale [--sizes 10 1000 10000 100000] [--rounds 4] [--iterations 12] [--json PATH]

Campaigns of each size are made side by side (benchmarks.scale_campaign): a real ledger, a real repository with the
commits, refs and notes of all experiments, tables, learnings, the index of `ralph recall`, a folder for each
experiment. Then, in turns, so that what else the machine does hits all sizes alike:

iteration  the real supervisor, ledger (fsynced), repository, papers and index go on for some experiments; agent, run
           and scorer take no time at all, and the agent edits one constant. From one settled to the next.
restart    `ralph loop` as a process that finds its limit reached: from its start to its end.
status     `ralph status --json` as a process.
memory     of the supervisor that iterates: what it holds when it has restored the state and worked, and the part of it
           that an empty campaign does not need.

Not covered: processes of agents, runs and scorers, and the picture's drawing (its data are made each time).
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.scale_campaign import (
    BEGIN,
    CAMPAIGN,
    CONSTANTS,
    drawn,
    git,
    program_of,
    words_of,
    write_ledger,
    write_repo,
)
from ralph.adapters.files import write_atomic
from ralph.adapters.git import GitRepo
from ralph.adapters.ledger import FileLedger
from ralph.adapters.papers import FilePapers
from ralph.adapters.recall import RecallIndex
from ralph.adapters.scripted.lab import Lab, LabAgents, LabClock, LabControl, LabDisk, LabRunner, LabScorer, Plan
from ralph.adapters.snapshot import Snapshots, restore
from ralph.config import load
from ralph.core.brief import Options
from ralph.core.decision import KeepRule
from ralph.core.learnings import HEADING, NEW_PAGE, format_learning
from ralph.core.step import Limits, Rules
from ralph.core.views import results_columns
from ralph.events import AgentEnded, Entry, Settled
from ralph.front.campaign import measure_arena, opening
from ralph.front.recalling import JudgedExperiments
from ralph.layout import Layout, locate
from ralph.model import Document, Learning
from ralph.ports import AgentOrder, Job, News, World
from ralph.supervisor.loop import Supervisor

SIZES = (10, 1_000, 10_000, 100_000)
SMALL = 1_000  # experiments up to which a campaign is copied for each round
WARM = 2  # iterations of a supervisor that are not counted: caches fill up, and git's as well
RESULTS = Path(__file__).parent / "results" / "scale.json"


# --- a campaign on disk


def make(folder: Path, experiments: int) -> None:
    """Everything that such a campaign leaves, as after its end."""
    folder.mkdir()
    commits = write_repo(folder, experiments)
    layout = locate(folder)
    repo = GitRepo(layout.arena, layout.trees, ("train.py",))
    config = load(layout.arena_toml)
    arena = measure_arena(config=config, repo=repo, device="none", data=None, base=commits[0])
    found = restore(layout.ledger, layout.snapshot, check=False)
    opened = opening(
        state=found.state, arena=arena, repo=repo, device="none", now=BEGIN, name=CAMPAIGN, page=layout.learnings
    )
    write_ledger(layout.ledger, experiments, opened, commits)
    git(folder, "pack-refs", "--all")  # what the loop does itself every few hundred experiments
    for id_ in range(experiments + 1):
        layout.experiment(id_).mkdir(parents=True)
    _write_papers(layout, experiments, config.arena.metric)
    RecallIndex(layout.recall, campaign=CAMPAIGN, source=_Made(experiments)).catch_up()


def keep_snapshot(layout: Layout) -> None:
    """The snapshot that the code of now would have left."""
    found = restore(layout.ledger, layout.snapshot, check=True)
    ledger = FileLedger(layout.ledger, lambda: datetime.now(UTC), after=found.mark)
    Snapshots(layout.snapshot, ledger).keep(found.state)
    ledger.close()


def _write_papers(layout: Layout, experiments: int, metric: str) -> None:
    with FilePapers(layout, "program.md", metric) as papers:
        papers.rebuild(_rows(experiments))
    lines = [
        format_learning(CAMPAIGN, one.id, Learning(text=f"{words_of(one)[:120]} did not help", evidence=(one.id - 1,)))
        for one in drawn(experiments)
        if one.id % 3 == 0
    ]
    layout.learnings.write_text("\n".join([NEW_PAGE.rstrip(), "", *lines, ""]), encoding="utf-8")
    layout.learned.write_text("".join(json.dumps({"line": line}) + "\n" for line in lines), encoding="utf-8")
    assert HEADING in NEW_PAGE
    assert layout.results.read_text().startswith(results_columns(metric))


def _rows(experiments: int) -> Iterator[tuple[Mapping[str, object], str]]:
    """History and results, in the form of `ralph.core.views`."""
    yield {"id": 0, "verdict": "keep", "scores": [1.0], "score": 1.0, "constants": dict(CONSTANTS)}, "-\tbaseline"
    for one in drawn(experiments):
        told = {"id": one.id, "verdict": str(one.kind), "reason": words_of(one), "crash": None, "scores": [one.score]}
        more = {"score": one.score, "delta": 0.01, "agent": "tuner", "hypothesis": words_of(one)}
        line = "\t".join(("abcdef0", f"{one.score:.6f}", "44.0", str(one.kind), words_of(one), str(one.id)))
        yield {**told, **more, "constants": {one.constant: one.value}}, line


class _Made:
    """What the index is made from, without asking git a hundred thousand times."""

    def __init__(self, experiments: int) -> None:
        self._drawn = {one.id: one for one in drawn(experiments)}

    def judged(self) -> set[int]:
        """All of them."""
        return {0, *self._drawn}

    def documents(self, ids: Sequence[int]) -> Iterable[Document]:
        """As long as real ones."""
        yield from (Document(id=0, verdict="keep", reason="baseline") for id_ in ids if id_ == 0)
        for one in (self._drawn[id_] for id_ in ids if id_):
            diff = f"+++ train.py\n-VALUE = 0.0\n+VALUE = {one.value!r}"
            yield Document(
                id=one.id, verdict=str(one.kind), score=one.score, agent="tuner", hypothesis=words_of(one), diff=diff,
                reason=f"{one.value:.4f} worse than #{one.base}, beyond noise", learnings=(words_of(one)[:60],),
            )  # fmt: skip


# --- iterations, in a process of their own


class _Agents(LabAgents):
    """Agents that edit their worktree at once."""

    def __init__(self, lab: Lab, layout: Layout) -> None:
        super().__init__(lab)
        self._layout = layout

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        """A value that nobody has tried."""
        (self._layout.tree(order.tree) / "train.py").write_text(program_of(order.id + time.time() % 1))
        return super().start(order)


class _Papers(FilePapers):
    """Papers that make everything ready for drawing, and draw nothing."""

    def picture(self, data: Mapping[str, object]) -> None:
        """The data on disk, as for the process that draws."""
        write_atomic(self._layout.picture_data, self.picture_text(data), durable=False)


class _Watch:
    """When experiments are settled."""

    every_s = 3600.0

    def __init__(self) -> None:
        self.settled: list[float] = []

    def event(self, entry: Entry) -> None:
        """Look at the clock."""
        if isinstance(entry.event, Settled):
            self.settled.append(time.perf_counter())

    def tick(self, news: News | None) -> None:
        """Nothing to show."""


def iterate(folder: Path, iterations: int) -> dict[str, Any]:
    """Go on for so many experiments; seconds of each, and the memory that this process holds."""
    layout = locate(folder)
    config, repo = load(layout.arena_toml), GitRepo(layout.arena, layout.trees, ("train.py",))
    empty = _resident()
    found = restore(layout.ledger, layout.snapshot, check=True)
    state = found.state
    begun = state.begun
    clock = LabClock(max(state.last_at or BEGIN, BEGIN) + timedelta(seconds=60))
    ledger = FileLedger(layout.ledger, clock.utc, after=found.mark)
    lab = Lab(plan=_plan, clock=clock, sigma=0.0, baseline=9.0)
    recall = RecallIndex(layout.recall, campaign=CAMPAIGN, source=JudgedExperiments(lambda: state, repo))
    snapshots, watch = Snapshots(layout.snapshot, ledger, found.mark.offset), _Watch()
    with _Papers(layout, config.arena.program, config.arena.metric, recall) as papers:
        world = World(
            clock=clock, ledger=ledger, repo=repo, agents=_Agents(lab, layout), runner=LabRunner(lab),
            scorer=LabScorer(lab), papers=papers, control=LabControl(lab), watcher=watch, disk=LabDisk(),
            keep=lambda: snapshots.keep(state),
        )  # fmt: skip
        limits = Limits(experiments=begun + iterations)
        supervisor = Supervisor(world, Rules(keep=KeepRule(), limits=limits), Options(), state)
        papers.catch_up()
        opened = opening(
            state=state, arena=measure_arena(config=config, repo=repo, device="none", data=None, base=state.base),
            repo=repo, device="none", now=clock.utc(), name=None, page=layout.learnings,
        )  # fmt: skip
        ending = supervisor.run(opened)
    assert len(watch.settled) == iterations, ending
    took = [b - a for a, b in zip(watch.settled, watch.settled[1:], strict=False)]
    return {"seconds": took[WARM - 1 :], "resident_mib": _resident(), "held_mib": _resident() - empty}


def _plan(number: int) -> Plan:
    learnt = (Learning(text=f"idea {number} of this kind does not help", evidence=(number - 1,)),)
    return Plan(
        hypothesis=f"VALUE as never before, number {number}, because nothing else is left to try; expect -0.001",
        learnings=learnt if number % 3 == 0 else (),
        meaning=f"program {number}",
    )


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- the comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One size: medians over all rounds, seconds and MiB; ratios are to the smallest size."""

    experiments: int
    iteration_s: float
    restart_s: float
    status_s: float
    resident_mib: float
    held_mib: float
    ledger_mib: float
    iteration_ratio: float = 1.0
    restart_ratio: float = 1.0


def compare(folder: Path, sizes: Sequence[int], rounds: int, iterations: int) -> list[Row]:
    """All sizes in turns."""
    for size in sizes:
        began = time.perf_counter()
        if not (folder / str(size)).exists():
            make(folder / str(size), size)
        keep_snapshot(locate(folder / str(size)))
        print(f"made a campaign of {size:,} in {time.perf_counter() - began:.0f} s", flush=True)
    seen: dict[int, dict[str, list[float]]] = {size: defaultdict(list) for size in sizes}
    for number in range(1, rounds + 1):
        for size in sizes:
            with _at_its_size(folder / str(size), size) as campaign:
                _measure(campaign, iterations, seen[size])
        print(f"round {number} of {rounds}", flush=True)
    rows = [_row(folder / str(size), size, seen[size]) for size in sizes]
    return [_against(row, rows[0]) for row in rows]


@contextlib.contextmanager
def _at_its_size(folder: Path, size: int) -> Iterator[Path]:
    """A copy of a small campaign, which would be another one after a round."""
    if size > SMALL:
        yield folder
        return
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy, symlinks=True)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def _measure(folder: Path, iterations: int, seen: dict[str, list[float]]) -> None:
    asked = [sys.executable, "-m", "benchmarks.scale", "--iterate", str(folder), "--iterations", str(iterations)]
    told = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    seen["iteration"] += told["seconds"]
    seen["resident"].append(told["resident_mib"])
    seen["held"].append(told["held_mib"])
    limit = str(restore(folder / "state/ledger.jsonl", folder / "state/snapshot", check=False).state.begun)
    for _ in range(2):
        seen["restart"].append(_seconds(folder, "loop", "--max-experiments", limit))
        seen["status"].append(_seconds(folder, "status", "--json"))


def _seconds(folder: Path, *command: str) -> float:
    argv = [sys.executable, "-P", "-m", "ralph", "--dir", str(folder), *command]
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, env={**os.environ, "RALPH_NO_PICTURE": "1"})
    return time.perf_counter() - began


def _row(folder: Path, size: int, seen: Mapping[str, Sequence[float]]) -> Row:
    middle = {name: statistics.median(values) for name, values in seen.items()}
    return Row(
        experiments=size,
        iteration_s=round(middle["iteration"], 4),
        restart_s=round(middle["restart"], 3),
        status_s=round(middle["status"], 3),
        resident_mib=round(middle["resident"], 1),
        held_mib=round(middle["held"], 1),
        ledger_mib=round((folder / "state/ledger.jsonl").stat().st_size / 2**20, 1),
    )


def _against(row: Row, least: Row) -> Row:
    return Row(
        **{
            **asdict(row),
            "iteration_ratio": round(row.iteration_s / least.iteration_s, 2),
            "restart_ratio": round(row.restart_s / least.restart_s, 2),
        }
    )


def table(rows: Sequence[Row]) -> str:
    """For people."""
    head = " experiments   iteration  ratio   restart   status    memory  of it held"
    lines = [
        f"{r.experiments:>12,} {r.iteration_s * 1000:>8.1f} ms {r.iteration_ratio:>6.2f} {r.restart_s:>7.2f} s "
        f"{r.status_s:>6.2f} s {r.resident_mib:>5.0f} MiB {r.held_mib:>7.0f} MiB"
        for r in rows
    ]
    return "\n".join((head, *lines))


def headline(most: Row, least: Row) -> list[dict[str, Any]]:
    """The lines of the README's table."""
    at = f"at {most.experiments:,} experiments"
    return [
        {
            "what": f"an iteration {at}, beside one at {least.experiments:,}",
            "ralph": f"{most.iteration_ratio:.2f} times",
            "aim": "at most 1.2 times",
        },
        {"what": f"a restart {at}", "ralph": f"{most.restart_s:.2f} s", "aim": "below 2 s"},
        {"what": f"memory of the supervisor {at}", "ralph": f"{most.resident_mib:.0f} MiB"},
    ]


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "git": subprocess.run(["git", "version"], check=True, capture_output=True, text=True).stdout.split()[-1],
    }


def main() -> None:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="where the campaigns are made, and stay for the next time")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--iterate", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.iterate:
        print(json.dumps(iterate(options.iterate, options.iterations)))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="ralph-scale-"))
    try:
        rows = compare(folder, options.sizes, options.rounds, options.iterations)
    finally:
        if not options.folder:
            shutil.rmtree(folder)
    print(table(rows))
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "rounds": options.rounds,
        "iterations": options.rounds * (options.iterations - WARM),
        "sizes": [asdict(row) for row in rows],
        "headline": headline(rows[-1], rows[0]),
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
