"""What refusing known programs spares an agent that forgets: `python -m benchmarks.duplicates`.

Whole campaigns of the real supervisor on a fake clock. The agent draws an idea from a small pool, with replacement, and
applies it to the incumbent; an idea that the incumbent has already changes nothing but a comment. The same idea on
another incumbent is another program and no repeat. Without the refusal every draw is run; with it a known program goes
back, and a fresh agent draws again, at most twice. Runs take 325 s, agents 25 s. Most ideas do nothing or harm.

Not modelled: that an agent draws more wisely, that an answer with the old result teaches it something.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ralph.adapters.scripted.lab import (
    Lab,
    LabAgents,
    LabControl,
    LabDisk,
    LabRepo,
    LabRunner,
    LabScorer,
    MemoryLedger,
    Plan,
    SilentWatcher,
)
from ralph.adapters.scripted.papers import ScriptedPapers
from ralph.core.brief import Options
from ralph.core.decision import KeepRule
from ralph.core.fold import State
from ralph.core.patience import Patience
from ralph.core.step import Limits, Rules
from ralph.events import CampaignOpened
from ralph.model import ArenaRecord, Change, Direction, ScoreMode
from ralph.ports import World
from ralph.supervisor.loop import Supervisor

POOLS = (40, 120, 400)
BASE = "c0"
ENDLESS = Patience(give_up=10**9)  # a pool that is used up would park the loop, which is right and ends the comparison
OPENING = CampaignOpened(
    campaign="lab",
    arena=ArenaRecord(
        name="lab", metric="val_bpb", direction=Direction.MIN, mode=ScoreMode.SEALED, hash="0" * 64, device="cpu",
        budget_s=300.0,
    ),
    base=BASE,
    meaning="",
)  # fmt: skip


class PoolRepo(LabRepo):
    """A repository whose programs are sets of ideas; what an agent left is a draw from the pool on top of its base."""

    def __init__(self, lab: Lab, effects: Sequence[float], rng: random.Random, *, refuse: bool) -> None:
        super().__init__(lab)
        self._effects, self._rng, self._refuse = effects, rng, refuse
        self._drawn: dict[str, int] = {}
        self.ideas: dict[str, frozenset[int]] = {BASE: frozenset()}

    def examine(self, name: str, base: str) -> Change:
        """The next draw; without the refusal no program is known by its meaning."""
        self._drawn[name] = idea = self._rng.randrange(len(self._effects))
        program = sorted(self.ideas[base] | {idea})
        return replace(super().examine(name, base), meaning=f"ideas {program}" if self._refuse else "")

    def commit(self, change: Change, base: str, message: str, ref: str) -> str:
        """An idea helps or harms once."""
        commit = super().commit(change, base, message, ref)
        idea, before = self._drawn[change.tree], self.ideas[base]
        self.ideas[commit] = before | {idea}
        self._lab.true[commit] = self._lab.truth(base) + (0.0 if idea in before else self._effects[idea])
        return commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One campaign, or the mean of many. Of `experiments` that ran, `repeats` ran a program that was known."""

    experiments: float
    repeats: float
    refused: float
    programs: float
    device_hours: float
    repeat_hours: float
    agent_calls: float
    gain: float


def campaign(pool: int, experiments: int, seed: int, *, refuse: bool) -> Campaign:
    """One campaign of a number of experiments."""
    rng = random.Random(seed)
    effects = [rng.choice((-0.004, -0.001, 0.0, 0.0, 0.001, 0.002, 0.004, 0.008)) for _ in range(pool)]
    lab = Lab(plan=lambda number: Plan(hypothesis=f"an idea for experiment {number}"))
    repo = PoolRepo(lab, effects, rng, refuse=refuse)
    world = World(
        clock=lab.clock,
        ledger=MemoryLedger(lab.clock),
        repo=repo,
        agents=LabAgents(lab),
        runner=LabRunner(lab),
        scorer=LabScorer(lab),
        papers=ScriptedPapers(),
        control=LabControl(lab),
        watcher=SilentWatcher(),
        disk=LabDisk(),
        report_every_s=1e9,
    )
    rules = Rules(keep=KeepRule(), limits=Limits(experiments=experiments), patience=ENDLESS)
    supervisor = Supervisor(world, rules, Options(limit_tokens=2_000))
    supervisor.run(OPENING)
    return _measured(supervisor.state, repo, lab)


def _measured(state: State, repo: PoolRepo, lab: Lab) -> Campaign:
    ran = [e for e in state.experiments.values() if e.id and e.runs]
    seen, repeats = {repo.ideas[BASE]}, []
    for e in ran:
        program = repo.ideas[e.commit]
        if program in seen:
            repeats.append(e)
        seen.add(program)
    incumbent = state.incumbent
    return Campaign(
        experiments=len(ran),
        repeats=len(repeats),
        refused=sum(len(e.refusals) for e in state.experiments.values()),
        programs=len(seen) - 1,
        device_hours=(state.run_s + state.score_s) / 3600,
        repeat_hours=sum(run.seconds + run.score_s for e in repeats for run in e.runs) / 3600,
        agent_calls=state.agent_s / lab.agent_s,
        gain=lab.baseline - lab.truth(incumbent.commit) if incumbent else 0.0,
    )


def mean(campaigns: Sequence[Campaign]) -> Campaign:
    """The mean of each figure."""
    rows = [asdict(each) for each in campaigns]
    return Campaign(**{name: statistics.fmean(row[name] for row in rows) for name in rows[0]})


def main() -> None:
    """Print a table, write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Count the repeats that a forgetful agent is spared.")
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--campaigns", type=int, default=1, help="campaigns per row")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    begin, rows = time.monotonic(), []
    print(
        f"{'pool':>5} {'known programs':15}{'ran':>7}{'repeats':>9}{'refused':>9}{'programs':>10}{'device h':>10}"
        f"{'on repeats':>12}{'agent calls':>13}{'true gain':>11}"
    )
    for pool in POOLS:
        for refuse in (False, True):
            each = mean([campaign(pool, arguments.experiments, n, refuse=refuse) for n in range(arguments.campaigns)])
            rows.append({"pool": pool, "refuse": refuse, "mean": asdict(each)})
            print(
                f"{pool:5} {'refused' if refuse else 'run again':15}{each.experiments:7.0f}{each.repeats:9.1f}"
                f"{each.refused:9.1f}{each.programs:10.1f}{each.device_hours:10.1f}{each.repeat_hours:12.1f}"
                f"{each.agent_calls:13.0f}{each.gain:11.4f}"
            )
    print(f"\n{time.monotonic() - begin:.0f} s")
    if arguments.json:
        settings = {"experiments": arguments.experiments, "campaigns": arguments.campaigns}
        arguments.json.write_text(json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
