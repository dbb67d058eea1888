"""Lanes and gaps in the laboratory: what 64 devices at once are worth beside one, and repeats while a lane would wait.

    python -m benchmarks.lanes [--lane-hours 160] [--json PATH]

The real supervisor decides; agents, runs, scores and time are scripted (ralph/adapters/scripted/lab.py), with the
times of the ancestor's record run: 25 s an agent, 325 s a run, 5 s its score, one agent ahead for each lane. Ideas
are drawn from the true effects behind that run's log (benchmarks/data/record_run_effects.json): all of them, and
those after its first thirteen, among which large gains are rare. Gains add up and ideas do not run out, so this
measures the loop and not the search; one in ten ideas applies to its own base alone.

"Efficiency" can mean three things, and the table has all three: the share of lane time that is at work; verdicts an
hour of a lane beside those of one lane; what is truly gained with equal lane-hours. Not measured: what 64 real
processes do to one host.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.overhead import machine
from ralph.adapters.scripted.lab import Lab, Plan, SilentWatcher
from ralph.core import step
from ralph.core.brief import Options
from ralph.core.lanes import Lanes
from ralph.events import Entry, Judged, RunEnded, RunStarted, Scored
from ralph.model import Outcome, Verdict
from ralph.ports import Signals
from ralph.supervisor.loop import Supervisor
from tests.supervisor.labs import OPENING, Bench, bench

RESULTS = Path(__file__).with_name("results") / "lanes.json"
EFFECTS = Path(__file__).parent / "data" / "record_run_effects.json"
LANES = (1, 2, 8, 64)
FIRST_IDEAS = 13  # of the record run, in which 88% of its gain came
CONFLICTS = 0.1  # of ideas that apply to their own base alone
AGENTS_S = (300.0, 900.0)  # slower than a run
BRIEF_TOKENS = 1_000  # nobody reads them, and writing them takes most of the time
GAP_HOURS = 40.0
SEED = 1
MILLI = 1e3
HOUR_S = 3600.0


class Ideas:
    """The plan of a campaign: for each experiment an effect that somebody's idea had."""

    def __init__(self, effects: Sequence[float], seed: int) -> None:
        self._effects, self._seed = tuple(effects), seed

    def __call__(self, number: int) -> Plan:
        """The idea of this experiment, the same for any number of lanes."""
        dice = np.random.default_rng([self._seed, number])
        return Plan(
            effect=float(dice.choice(self._effects)),
            hypothesis=f"idea {number}",
            conflicts=bool(dice.random() < CONFLICTS),
        )


@dataclass
class Tape(SilentWatcher):
    """What a campaign did, written down as it goes, and its end at an hour of the laboratory."""

    lab: Lab
    hours: float
    kinds: Counter[str] = field(default_factory=Counter)
    kept: list[tuple[float, float]] = field(default_factory=list)  # hour, effect
    since: dict[tuple[int, int], float] = field(default_factory=dict)
    at_work_s: float = 0.0
    judged: int = 0
    first_hour: float = 0.0  # at which the baseline is there

    def event(self, entry: Entry) -> None:
        """Write it down; the first thing after the last hour is the end."""
        event, hour = entry.event, self.lab.clock.seconds / HOUR_S
        self.kinds[event.kind] += 1
        match event:
            case RunStarted():
                self.since[event.id, event.run] = hour
            case RunEnded() if event.outcome is not Outcome.OK:
                self._free(event.id, event.run, hour)
            case Scored():
                self._free(event.id, event.run, hour)
            case Judged(id=0):
                self.first_hour, self.at_work_s = hour, 0.0
            case Judged():
                self.judged += 1
                if event.verdict is Verdict.KEEP:
                    self.kept.append((hour, self.lab.plan(event.id).effect))
            case _:
                pass
        if hour >= self.hours:
            self.lab.signals = Signals(stop_now=True, by="the benchmark")

    def _free(self, id_: int, run: int, hour: float) -> None:
        self.at_work_s += (hour - self.since.pop((id_, run))) * HOUR_S

    def lane_hours(self, lanes: int) -> float:
        """Since the baseline was there."""
        return lanes * (self.hours - self.first_hour)

    def share_at_work(self, lanes: int) -> float:
        """Of these."""
        unfinished = sum(max(0.0, self.hours - hour) for hour in self.since.values())
        return (self.at_work_s / HOUR_S + unfinished) / self.lane_hours(lanes)

    def gain(self, until_hour: float) -> float:
        """What is truly gained by then, in thousandths of the metric; positive is better."""
        return -MILLI * sum(effect for hour, effect in self.kept if hour <= until_hour)


def campaign(lab: Lab, lanes: int, ahead: int, hours: float) -> tuple[Tape, Bench]:
    """One campaign of that many hours, cut off at the end of them."""
    tape = Tape(lab, hours)
    made = bench(lab, in_flight=lanes + ahead, lanes=Lanes(count=lanes))
    made.world = replace(made.world, watcher=tape, picture_every_s=math.inf)
    made.supervisor = Supervisor(made.world, made.rules, Options(limit_tokens=BRIEF_TOKENS))
    made.supervisor.run(OPENING)
    return tape, made


def with_lanes(effects: Sequence[float], lane_hours: float) -> list[dict[str, Any]]:
    """The same lane-hours on one lane and on many; and what one of the same hours has gained on the way."""
    rows: list[dict[str, Any]] = []
    alone: Tape | None = None
    for lanes in LANES:
        hours = lane_hours / lanes
        tape, made = campaign(Lab(plan=Ideas(effects, SEED)), lanes, lanes, hours)
        alone = alone or tape
        state = made.supervisor.state
        many = max(1, sum(count for count, _ in state.staleness.values()))
        rows.append(
            {
                "lanes": lanes,
                "hours": hours,
                "at_work": tape.share_at_work(lanes),
                "verdicts": tape.judged,
                "verdicts_per_lane_hour": tape.judged / tape.lane_hours(lanes),
                "runs_per_verdict": tape.kinds["run_started"] / max(1, tape.judged),
                "gain": tape.gain(hours),
                "gain_of_one_lane_in_these_hours": alone.gain(hours),
                "keeps": len(tape.kept),
                "false_keeps": sum(effect >= 0 for _, effect in tape.kept),
                "carried_over": tape.kinds["rebased"],
                "sent_back": tape.kinds["refused"],
                "behind_mean": sum(behind * count for behind, (count, _) in state.staleness.items()) / many,
                "behind_most": max(state.staleness, default=0),
            }
        )
    for row in rows:
        row["efficiency"] = row["verdicts_per_lane_hour"] / rows[0]["verdicts_per_lane_hour"]
    return rows


@contextmanager
def without_repeats() -> Iterator[None]:
    """A loop that leaves its lane empty while it waits for an agent."""
    place = vars(step)
    ours = place["repeat_in_the_gap"]
    place["repeat_in_the_gap"] = lambda *_: None
    try:
        yield
    finally:
        place["repeat_in_the_gap"] = ours


def in_the_gaps(effects: Sequence[float]) -> list[dict[str, Any]]:
    """One lane, agents slower than runs, one of them ahead: with repeats of the incumbent in the gaps, and without."""
    rows = []
    for agent_s in AGENTS_S:
        told = {}
        for name, way in (("repeats", nullcontext()), ("waits", without_repeats())):
            with way:
                tape, _ = campaign(Lab(plan=Ideas(effects, SEED), agent_s=agent_s), 1, 1, GAP_HOURS)
            told[name] = {
                "at_work": tape.share_at_work(1),
                "experiments_per_hour": tape.judged / tape.lane_hours(1),
                "gain": tape.gain(GAP_HOURS),
                "false_keeps": sum(effect >= 0 for _, effect in tape.kept),
            }
        ratio = told["repeats"]["experiments_per_hour"] / told["waits"]["experiments_per_hour"]
        rows.append({"agent_s": agent_s, **told, "ratio": ratio})
    return rows


def measured(lane_hours: float) -> dict[str, Any]:
    """All of it."""
    guess = [effect / 1e6 for effect in json.loads(EFFECTS.read_text(encoding="utf-8"))["effects"][0]]
    all_ideas, later = with_lanes(guess, lane_hours), with_lanes(guess[FIRST_IDEAS:], lane_hours)
    gaps = in_the_gaps(guess[FIRST_IDEAS:])
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": {name: value for name, value in machine(Path.cwd()).items() if name != "load"},  # time is scripted
        "lane_hours": lane_hours,
        "ideas": {"all of the record run's": all_ideas, "those after its first 13": later},
        "gaps": gaps,
        "headline": headline(all_ideas, later, gaps[-1]),
    }


def headline(
    early: Sequence[Mapping[str, Any]], late: Sequence[Mapping[str, Any]], gap: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """The lines of the README's table, for the most lanes and the slowest agents."""
    lanes = f"{late[-1]['lanes']} scripted lanes"
    each = [
        f"{rows[-1]['efficiency']:.3f} where one lane keeps one idea in {rows[0]['verdicts'] / rows[0]['keeps']:.0f}"
        for rows in (late, early)
    ]
    return [
        {
            "what": f"{lanes}: share of their time at work",
            "ralph": f"{min(early[-1]['at_work'], late[-1]['at_work']):.3f}",
            "aim": "at least 0.95",
        },
        {
            "what": f"{lanes}: verdicts an hour of a lane, beside those of a single lane",
            "ralph": ", ".join(each),
            "aim": "at least 0.95",
        },
        {
            "what": f"experiments an hour by repeats of the incumbent in the gaps, agents of {gap['agent_s']:.0f} s",
            "ralph": f"{gap['ratio']:.2f} times",
        },
    ]


def table(told: dict[str, Any]) -> str:
    """What a person reads."""
    lines: list[str] = []
    for name, rows in told["ideas"].items():
        lines += [f"ideas: {name}; {told['lane_hours']:g} lane-hours each; gains in thousandths of the metric", HEAD]
        lines += [
            f"{row['lanes']:5} {row['hours']:6.1f} {row['at_work']:8.1%} {row['verdicts_per_lane_hour']:9.2f}"
            f" {row['efficiency']:10.2f} {row['runs_per_verdict']:9.2f} {row['gain']:7.1f}"
            f" {row['gain_of_one_lane_in_these_hours']:9.1f} {row['keeps']:6} {row['false_keeps']:6}"
            f" {row['carried_over']:8} {row['sent_back']:5} {row['behind_mean']:7.1f}"
            for row in rows
        ]
        lines.append("")
    lines += ["one lane, one agent ahead, agents slower than runs of 325 s: experiments an hour", GAPS_HEAD]
    lines += [
        f"{row['agent_s']:9.0f} {row['waits']['experiments_per_hour']:9.2f} {row['waits']['at_work']:8.1%}"
        f" {row['repeats']['experiments_per_hour']:12.2f} {row['repeats']['at_work']:8.1%} {row['ratio']:6.2f}"
        for row in told["gaps"]
    ]
    return "\n".join(lines)


HEAD = "lanes  hours  at work  per lane  efficiency  runs each    gain  one lane   keeps  false  carried  back  behind"
GAPS_HEAD = "  agent s     waits  at work       repeats  at work  ratio"


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lane-hours", type=float, default=160.0)
    parser.add_argument("--json", type=Path, default=RESULTS)
    options = parser.parse_args()
    told = measured(options.lane_hours)
    print(table(told))
    options.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
