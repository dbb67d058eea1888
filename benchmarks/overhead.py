"""What a loop costs beside agent and run: seconds an iteration, with an agent that answers at once and a trivial run.

    python -m benchmarks.overhead [--iterations 20] [--rounds 3] [--json PATH] [--rivals FOLDER] [--install]

The real supervisor with sandbox, git and fsync, beside OpenEvolve, ShinkaEvolve (their model is a loopback server that
answers at once) and a plain Optuna loop, in turns on the same work: a Python program that prints one number. Then what
else is noticed of the supervisor: how long from the decision until an agent is ready, what it uses while it waits, how
long `ralph status` takes. Absolute times are this machine's at this moment; what counts are the ratios.

Not measured: how good anybody's proposals are. A rival that is not installed is left out, with the reason; `--install`
installs them into an environment of their own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.rivals import CACHE, RIVALS, START, install, seconds_each, why_not
from ralph.adapters.ledger import read_entries
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.events import AgentEnded, Briefed, Entry
from ralph.model import AgentOutcome
from tests.arenas import ToyArena, toy_arena
from tests.conftest import git
from tests.provider import Provider, Reply, Request, ToolCall, Usage

RESULTS = Path(__file__).with_name("results") / "overhead.json"
WARM_UP = 2  # first iterations of a loop that do not count
WAIT_S = 4.0  # how long the waiting supervisor is looked at
RUN_S = 3  # a run that leaves time for a standby
COUNT = 10  # commands timed

TOML = """\
[arena]
name = "overhead"
editable = ["train.py"]

[run]
command = "{pause}{python} -I -S train.py"
budget_s = 20
gate = false
device = "none"

[score]
mode = "reported"

[keep]
max_runs = 1

[agent]
use = "{agent}"
timeout_s = 60
repairs = 0

[agents.shell]
kind = "command"
command = "/bin/sh shell.sh"

[agents.model]
kind = "openai"
api = "chat"
model = "model"
base_url = "{url}"
"""
SHELL = """\
date +%s.%N
printf 'RATE = 0.5%s\\nprint("---")\\nprint("val_bpb: %%.9f" %% (1 + abs(RATE - 0.1)))\\n' "$RALPH_SEED" > train.py
printf '{"hypothesis": "rate 0.5%s, because it is the next; expect nothing"}' "$RALPH_SEED" > "$RALPH_PROPOSAL"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mine:
    """ralph with one of its agents."""

    name: str
    agent: str
    lacks: str = "nothing left out: sandbox, git, fsync, fresh agent"


MINE = (
    Mine(name="ralph, shell agent", agent="shell"),
    Mine(name="ralph, tuner", agent="tuner"),
    Mine(name="ralph, openai agent", agent="model", lacks="nothing left out; two calls through the gateway"),
)


def answer(request: Request) -> Reply:
    """Write the file anew, then submit."""
    if request.body["messages"][-1]["role"] == "tool":
        said = {"hypothesis": f"idea {request.number}, because it is the next; expect nothing", "expected": "0"}
        return Reply(tools=[ToolCall("submit", said)], usage=Usage())
    code = START.replace("RATE = 0.5", f"RATE = {0.5 + (request.number + 1) / 1e6:.6f}")
    return Reply(tools=[ToolCall("write", {"path": "train.py", "text": code})], usage=Usage())


def arena(folder: Path, agent: str, url: str = "http://127.0.0.1:9", pause: str = "") -> ToyArena:
    """A repository with the trivial run."""
    made = toy_arena(
        folder, [], train=START, toml=TOML.format(agent=agent, url=url, python=sys.executable, pause=pause)
    )
    (folder / "shell.sh").write_text(SHELL)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "A shell agent")
    made.environment["OPENAI_API_KEY"] = "a-key-of-no-worth"
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What one loop of ours told: its ledger, and when its model was asked (seconds since the epoch)."""

    folder: Path
    mine: Mine
    entries: list[Entry]
    asked: list[float]

    def begun(self) -> list[Entry]:
        """The decisions to brief, in order."""
        return [entry for entry in self.entries if isinstance(entry.event, Briefed)]

    def seconds_each(self) -> float:
        """Seconds an iteration takes, from decision to decision, once the loop is warm."""
        begun = self.begun()[WARM_UP:]
        return (begun[-1].at - begun[0].at).total_seconds() / (len(begun) - 1)

    def ready_s(self) -> list[float]:
        """Seconds from each decision to its agent's first doing: its first line, its first call, the tuner's all."""
        ends = {entry.event.id: entry.at for entry in self.entries if isinstance(entry.event, AgentEnded)}
        return [
            self._until_ready(entry, ends[entry.event.id]) for entry in self.begun() if isinstance(entry.event, Briefed)
        ]

    def _until_ready(self, entry: Entry, end: datetime) -> float:
        assert isinstance(entry.event, Briefed)
        at = entry.at.timestamp()
        match self.mine.agent:
            case "shell":
                log = self.folder / "state" / "experiments" / f"{entry.event.id:06d}" / "agent-1" / "log.txt"
                return float(log.read_text()) - at
            case "model":
                return min(call for call in self.asked if call >= at - 0.001) - at
            case _:
                return end.timestamp() - at


def looped(folder: Path, mine: Mine, iterations: int, pause: str = "") -> Loop:
    """A loop of so many iterations in an empty folder, each run after a pause of the shell's.

    Raises:
        RuntimeError: the loop ended otherwise than it should.
    """
    asked: list[float] = []

    def note(request: Request) -> Reply:
        asked.append(time.time())
        return answer(request)

    with Provider(note) as provider:
        made = arena(folder, mine.agent, f"{provider.url}/v1", pause)
        done = made.ralph("loop", "--max-experiments", str(iterations + WARM_UP), timeout_s=900)
    entries = list(read_entries(folder / "state" / "ledger.jsonl"))
    ends = [e.event for e in entries if isinstance(e.event, AgentEnded)]
    if done.status or any(end.outcome is not AgentOutcome.PROPOSED for end in ends):
        raise RuntimeError(f"{mine.name}: status {done.status}, {done.err[-400:]}{ends[-1:]}")
    return Loop(folder=folder, mine=mine, entries=entries, asked=asked)


def readiness(folder: Path, mine: Mine, rounds: int) -> dict[str, float]:
    """Until an agent is ready: the first of a loop, and those that could stand by while a run went on."""
    told = [looped(folder / f"ready-{n}-{mine.agent}", mine, 2, f"sleep {RUN_S} && ").ready_s() for n in range(rounds)]
    return {
        "first": statistics.median(each[0] for each in told),
        "later": statistics.median(seconds for each in told for seconds in each[1:]),
    }


def waiting_share(folder: Path) -> float:
    """How much of one core the supervisor uses while a run sleeps."""
    made = arena(folder, "shell")
    toml = made.root / "arena.toml"
    toml.write_text(toml.read_text().replace(f"{sys.executable} -I -S train.py", "sleep 600"))
    git(folder, "commit", "-q", "-a", "-m", "A run that sleeps")
    with (folder / "state" / "out.txt").open("wb") as out:
        loop = subprocess.Popen(
            made.argv("loop"), env={**os.environ, **made.environment}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        process = psutil.Process(loop.pid)
        while b'"run_started"' not in _ledger(folder):
            if loop.poll() is not None:
                raise RuntimeError(f"the loop ended: {(folder / 'state' / 'out.txt').read_text()}")
            time.sleep(0.05)
        time.sleep(1.0)  # until what follows a start is over
        before, at = process.cpu_times(), time.monotonic()
        time.sleep(WAIT_S)
        after = process.cpu_times()
        return max(0.0, after.user + after.system - before.user - before.system) / (time.monotonic() - at)
    finally:
        loop.terminate()
        loop.terminate()
        try:
            loop.wait(timeout=1)
        except subprocess.TimeoutExpired:
            loop.terminate()
            loop.wait(timeout=60)


def _ledger(folder: Path) -> bytes:
    try:
        return (folder / "state" / "ledger.jsonl").read_bytes()
    except FileNotFoundError:
        return b""


def command_s(do: Callable[[], object]) -> float:
    """Median seconds of something done `COUNT` times."""
    times = []
    for _ in range(COUNT):
        began = time.perf_counter()
        do()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def bare(folder: Path) -> dict[str, float]:
    """What agent and run take by themselves."""
    (folder / "train.py").write_text(START)
    (folder / "shell.sh").write_text(SHELL)
    (folder / "tmp").mkdir()
    env = {"RALPH_SEED": "1", "RALPH_PROPOSAL": "proposal.json", "TMPDIR": str(folder / "tmp"), "PATH": os.defpath}
    agent = ["/bin/sh", "shell.sh"]
    run = [sys.executable, "-I", "-S", "train.py"]
    return {
        "agent": command_s(lambda: subprocess.run(agent, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)),
        "run": command_s(lambda: subprocess.run(run, cwd=folder, check=True, stdout=subprocess.DEVNULL)),
    }


def measured(place: Path, iterations: int, rounds: int, folder: Path) -> dict[str, Any]:
    """All of it: every loop once in each round, then the supervisor at rest."""
    times: dict[str, list[float]] = {}
    missing = {rival.name: reason for rival in RIVALS if (reason := why_not(rival, place))}
    for number in range(rounds):
        for mine in MINE:
            loop = looped(folder / f"{number}-{mine.agent}", mine, iterations)
            times.setdefault(mine.name, []).append(loop.seconds_each())
        for rival in RIVALS:
            if rival.name not in missing:
                (where := folder / f"{number}-{rival.module}").mkdir()
                times.setdefault(rival.name, []).append(seconds_each(rival, where, iterations, place))
    at_rest = folder / f"0-{MINE[0].agent}"
    (folder / "bare").mkdir()
    ralph = [sys.executable, "-m", "ralph", "--dir", str(at_rest)]
    told: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(folder),
        "iterations": iterations,
        "rounds": rounds,
        "bare_s": bare(folder / "bare"),
        "iteration_s": {name: statistics.median(each) for name, each in times.items()},
        "fastest_s": {name: min(each) for name, each in times.items()},
        "lacks": {each.name: each.lacks for each in (*MINE, *RIVALS)},
        "missing": missing,
        "ready_s": {mine.name: readiness(folder, mine, rounds) for mine in MINE},
        "waiting_share_of_a_core": waiting_share(folder / "waiting"),
        "status_s": command_s(lambda: subprocess.run([*ralph, "status"], check=True, capture_output=True)),
        "help_s": command_s(lambda: subprocess.run([*ralph, "--help"], check=True, capture_output=True)),
    }
    return {**told, "headline": headline(told)}


def headline(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the README's table."""
    work_s, mine = sum(told["bare_s"].values()), {each.name for each in MINE}
    each_ms = {name: f"{seconds * 1e3:.0f} ms" for name, seconds in told["iteration_s"].items()}
    own_ms = (told["iteration_s"][MINE[0].name] - work_s) * 1e3
    return [
        {
            "what": "an iteration, beside an agent that answers at once and a trivial run",
            "ralph": f"{own_ms:.0f} ms, {each_ms[MINE[0].name]} with both",
            "beside": {name: f"{ms} with both" for name, ms in each_ms.items() if name not in mine},
            "aim": "at most 100 ms",
        },
        {
            "what": "from the decision to an agent at work",
            "ralph": f"{told['ready_s'][MINE[0].name]['later'] * 1e3:.0f} ms",
            "aim": "at most 150 ms",
        },
        {
            "what": "the supervisor while a run works",
            "ralph": f"{told['waiting_share_of_a_core']:.2%} of a core",
            "aim": "below 1%",
        },
        {"what": "`ralph status`", "ralph": f"{told['status_s'] * 1e3:.0f} ms", "aim": "below 300 ms"},
    ]


def machine(folder: Path) -> dict[str, object]:
    """Where it was measured."""
    disk = max(
        (each for each in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(each.mountpoint)),
        key=lambda each: len(each.mountpoint),
    )
    return {
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": disk.fstype,
        "sandbox": str(reached(SandboxLevel.BWRAP).level),
        "load": round(os.getloadavg()[0], 1),
    }


def table(told: dict[str, Any]) -> str:
    """What a person reads."""
    bare_s = told["bare_s"]["run"]
    reference = told["iteration_s"][MINE[0].name]
    rows = [f"{'an iteration of':22} {'ms':>7} {'beside the run':>15} {'ratio':>6}  what it does not do"]
    for name, seconds in told["iteration_s"].items():
        figures = f"{seconds * 1e3:7.0f} {(seconds - bare_s) * 1e3:15.0f} {seconds / reference:6.2f}"
        rows.append(f"{name:22} {figures}  {told['lacks'][name]}")
    rows += [f"{name:22} left out: {reason}" for name, reason in told["missing"].items()]
    rows += ["", "from the decision to an agent's first line, first call, or the tuner's whole work, in ms"]
    rows += [
        f"{name:22} first of a loop {each['first'] * 1e3:5.0f}, later {each['later'] * 1e3:5.0f}"
        for name, each in told["ready_s"].items()
    ]
    rows += [
        "",
        f"bare agent {told['bare_s']['agent'] * 1e3:.0f} ms, bare run {bare_s * 1e3:.0f} ms",
        f"supervisor while a run works: {told['waiting_share_of_a_core']:.2%} of a core",
        f"ralph status {told['status_s'] * 1e3:.0f} ms, ralph --help {told['help_s'] * 1e3:.0f} ms",
    ]
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rivals", type=Path, default=CACHE, help="their environment")
    parser.add_argument("--install", action="store_true", help="make it first")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.install:
        install(options.rivals)
    with tempfile.TemporaryDirectory(prefix="ralph-overhead-") as folder:
        told = measured(options.rivals, options.iterations, options.rounds, Path(folder))
    print(table(told))
    options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
