"""Which share of its time does the device train, with agents of 1, 30 and 90 s and runs of 300 s?

    python -m benchmarks.duty [--scale 100] [--runs 8] [--rivals FOLDER] [--json PATH]

On a clock that is `scale` times faster, with real processes: a run that sleeps for 300 s / scale, agents that sleep
or a model that answers after their time / scale. The real supervisor with sandbox, git and fsync, serial (`lookahead
= 0`) and thinking ahead (1), beside the loops of benchmarks.rivals on the same work. The run notes when its first
line and its last one were executed, so what lies between two runs has all in it: the end of one's process tree,
verdict, start of the next.

- duty, measured: on the fast clock. It overstates what a loop takes for itself `scale` times over: a lower bound.
- duty at 300 s: reckoned from the same times. What a loop takes for itself stays, agents and runs have their length.
- idle: milliseconds between two runs, medians.

Not covered: set-up and scoring on the device itself (a GPU's are in cuda_check.py), runs that are kept, upon which
the next candidate is carried over first, and whose proposals are better. The ancestor is not run: 351 s an
experiment, of which 300 train, are from the published log of its record run.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.overhead import machine
from benchmarks.rivals import CACHE, RIVALS, Rival, asked_by, why_not
from tests.arenas import toy_arena
from tests.conftest import git

RESULTS = Path(__file__).with_name("results") / "duty.json"
RUN_S = 300.0
AGENTS_S = (1.0, 30.0, 90.0)
ANCESTOR_S = 351.0  # an experiment of its record run
ANCESTOR_DEVICE_S = 26.0  # of these, start-up and scoring; what is left, 25 s, is its agent
WARM_UP = 2  # experiments that do not count: the baseline, and the first, before whose end nobody thinks ahead
SPANS = "progress.jsonl"  # of a run, what its report keeps for good

PROGRAM = """\
# EVOLVE-BLOCK-START
RATE = 0.5
# EVOLVE-BLOCK-END
import os, time
began = time.time()
time.sleep({run_s})
print("---")
print("val_bpb: %.9f" % (1 + abs(RATE - 0.1)))
with open(os.path.join(os.environ.get("RALPH_RUN_DIR") or os.environ["SPANS"], "progress.jsonl"), "a") as spans:
    spans.write("%.6f %.6f\\n" % (began, time.time()))
"""
TOML = """\
[arena]
name = "duty"
editable = ["train.py"]

[run]
command = "{python} -I -S train.py"
budget_s = 60
gate = false
device = "none"

[score]
mode = "reported"

[keep]
max_runs = 1

[agent]
use = "shell"
timeout_s = 60
repairs = 0
lookahead = {lookahead}

[agents.shell]
kind = "command"
command = "/bin/sh shell.sh"
"""
SHELL = """\
sleep {agent_s}
sed -i "s/^RATE = .*/RATE = 0.5$RALPH_SEED/" train.py
printf '{{"hypothesis": "rate 0.5%s, because it is the next; expect nothing"}}' "$RALPH_SEED" > "$RALPH_PROPOSAL"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of one loop with agents of one length: the mean run, the mean and the median gap, seconds of the fast clock."""

    run_s: float
    idle_s: float
    idle_median_s: float

    @property
    def duty(self) -> float:
        """The share of the time in which a run trains."""
        return self.run_s / (self.run_s + self.idle_s)


def times_of(spans: list[tuple[float, float]], runs: int) -> Times:
    """From when each run began and ended, the last ones alone: a baseline has several.

    >>> times_of([(0, 1), (1, 2), (10, 13), (14, 17), (18, 21)], 3).duty
    0.75
    """
    if len(spans) < runs + WARM_UP:
        raise RuntimeError(f"there were {len(spans)} runs, and not {runs + WARM_UP}")
    counted = sorted(spans)[-runs:]
    gaps = [after[0] - before[1] for before, after in pairwise(counted)]
    return Times(
        run_s=statistics.mean(end - begin for begin, end in counted),
        idle_s=statistics.mean(gaps),
        idle_median_s=statistics.median(gaps),
    )


def read_spans(folder: Path) -> list[tuple[float, float]]:
    """All that the runs below a folder have noted."""
    lines = [line.split() for file in folder.rglob(SPANS) for line in file.read_text().splitlines()]
    return [(float(begin), float(end)) for begin, end in lines]


def ours(folder: Path, lookahead: int, agent_s: float, run_s: float, runs: int) -> Times:
    """A campaign of the real loop."""
    toml = TOML.format(python=sys.executable, lookahead=lookahead)
    arena = toy_arena(folder, [], train=PROGRAM.replace("{run_s}", f"{run_s:g}"), toml=toml)
    (folder / "shell.sh").write_text(SHELL.format(agent_s=agent_s))
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "A slow agent")
    done = arena.ralph("loop", "--max-experiments", str(runs + WARM_UP - 1), timeout_s=600)
    if done.status:
        raise RuntimeError(f"the loop ended with {done.status}: {done.err[-400:]}")
    return times_of(read_spans(folder / "state" / "experiments"), runs)


def theirs(folder: Path, rival: Rival, place: Path, agent_s: float, run_s: float, runs: int) -> Times:
    """The same work in another loop."""
    folder.mkdir()
    program = PROGRAM.replace("{run_s}", f"{run_s:g}")
    asked_by(rival, folder, runs + WARM_UP, place, start=program, answer_s=agent_s, env={"SPANS": str(folder)})
    return times_of(read_spans(folder), runs)


def at_full_length(by_agent: Mapping[float, Times], scale: float) -> dict[float, float]:
    """Duty with runs of 300 s, by the agent's seconds.

    What a loop waits beside its own work grows with the agent in the part that it does not hide; what is idle with the
    fastest agent is its own work. Both are read off the fast clock.
    """
    fastest, slowest = min(by_agent), max(by_agent)
    own_s = by_agent[fastest].idle_s
    waits = (by_agent[slowest].idle_s - own_s) * scale / (slowest - fastest)
    exposed = min(1.0, max(0.0, waits))
    own_s = max(0.0, own_s - exposed * fastest / scale)
    return {agent: RUN_S / (RUN_S + own_s + exposed * agent) for agent in by_agent}


def measured(folder: Path, place: Path, scale: float, runs: int) -> dict[str, Any]:
    """Every loop in turn, for each length of agents."""
    run_s = RUN_S / scale
    loops: dict[str, Callable[[Path, float], Times]] = {
        "ralph, thinking ahead": lambda where, agent_s: ours(where, 1, agent_s, run_s, runs),
        "ralph, serial": lambda where, agent_s: ours(where, 0, agent_s, run_s, runs),
    }
    missing = {}
    for rival in RIVALS:
        if why := why_not(rival, place):
            missing[rival.name] = why
        else:
            loops[rival.name] = lambda where, agent_s, rival=rival: theirs(where, rival, place, agent_s, run_s, runs)  # type: ignore[misc]
    found: dict[str, dict[float, Times]] = {name: {} for name in loops}
    for agent in AGENTS_S:
        for number, (name, loop) in enumerate(loops.items()):
            found[name][agent] = loop(folder / f"{number}-{agent:g}", agent / scale)
    told = {
        name: {
            "duty_measured": {f"{agent:g}": times.duty for agent, times in by_agent.items()},
            "duty_at_300_s": {f"{agent:g}": duty for agent, duty in at_full_length(by_agent, scale).items()},
            "idle_ms": {f"{agent:g}": times.idle_median_s * 1e3 for agent, times in by_agent.items()},
            "times": {f"{agent:g}": asdict(times) for agent, times in by_agent.items()},
        }
        for name, by_agent in found.items()
    }
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(folder),
        "scale": scale,
        "runs": runs,
        "loops": told,
        "missing": missing,
        "ancestor": {
            f"{agent:g}": RUN_S / (RUN_S + ANCESTOR_DEVICE_S + agent) for agent in (*AGENTS_S, _ancestors_agent_s())
        },
        "headline": headline(told),
    }


def _ancestors_agent_s() -> float:
    return ANCESTOR_S - RUN_S - ANCESTOR_DEVICE_S


def headline(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The lines of the README's table."""
    ahead, rivals = told["ralph, thinking ahead"], {name: each for name, each in told.items() if "ralph" not in name}
    least = min(ahead["duty_at_300_s"].values())
    per_hour = ANCESTOR_S / (RUN_S / ahead["duty_at_300_s"]["30"])
    with_device = ANCESTOR_S / (RUN_S / ahead["duty_at_300_s"]["30"] + ANCESTOR_DEVICE_S)
    return [
        {
            "what": "device idle between two runs on a fast clock, agents of 1 s and of 90 s (CPU)",
            "ralph": _idle(ahead),
            "beside": {name: _idle(each) for name, each in rivals.items()},
            "aim": "at most 25 ms",
        },
        {
            "what": "duty at 300 s runs, agents of up to 90 s",
            "ralph": f"{least:.4f}",
            "beside": {
                **{name: f"{min(each['duty_at_300_s'].values()):.3f}" for name, each in rivals.items()},
                "the ancestor, agent of 25 s": f"{RUN_S / ANCESTOR_S:.2f}",
            },
            "aim": "at least 0.98",
        },
        {
            "what": "experiments an hour beside the ancestor's, set-up and scoring hidden",
            "ralph": f"{per_hour:.2f} times",
            "beside": {"with its 26 s of both on the device": f"{with_device:.2f} times"},
            "aim": "at least 1.15 times",
        },
    ]


def _idle(loop: Mapping[str, Any]) -> str:
    return f"{loop['idle_ms']['1']:.0f} and {loop['idle_ms']['90']:.0f} ms"


def table(told: Mapping[str, Any]) -> str:
    """What a person reads."""
    agents = [f"{agent:g}" for agent in AGENTS_S]
    head = "".join(f"{f'{agent} s':>8}" for agent in agents)
    lines = [
        f"{'agents of':24}{head}   {head}   {head}",
        f"{'':24}{'duty at 300 s':>24}{'measured':>27}{'idle, ms':>27}",
    ]
    for name, each in told["loops"].items():
        full = "".join(f"{each['duty_at_300_s'][agent]:8.3f}" for agent in agents)
        fast = "".join(f"{each['duty_measured'][agent]:8.3f}" for agent in agents)
        idle = "".join(f"{each['idle_ms'][agent]:8.0f}" for agent in agents)
        lines.append(f"{name:24}{full}   {fast}   {idle}")
    lines.append(f"{'the ancestor, reckoned':24}" + "".join(f"{told['ancestor'][agent]:8.3f}" for agent in agents))
    lines += [f"{name:24}left out: {reason}" for name, reason in told["missing"].items()]
    lines.append(
        f"one second here is {told['scale']:g} there; load of the machine at the end: {told['machine']['load']}"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=100.0)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--rivals", type=Path, default=CACHE, help="the environment of benchmarks.overhead --install")
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ralph-duty-") as folder:
        told = measured(Path(folder), options.rivals, options.scale, options.runs)
    print(table(told))
    options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
