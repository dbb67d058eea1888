"""A supervisor in a laboratory."""

from dataclasses import dataclass, field, replace

from ralph.adapters.scripted.lab import (
    Lab,
    LabAgents,
    LabControl,
    LabDisk,
    LabRepo,
    LabRunner,
    LabScorer,
    MemoryLedger,
    SilentWatcher,
)
from ralph.adapters.scripted.papers import ScriptedPapers
from ralph.core.actions import End
from ralph.core.brief import Options
from ralph.core.decision import KeepRule
from ralph.core.step import Limits, Rules
from ralph.events import CampaignOpened
from ralph.model import ArenaRecord, Direction, ScoreMode
from ralph.ports import World
from ralph.supervisor.loop import Supervisor

BRIEF_TOKENS = 8_000


@dataclass(kw_only=True)
class Bench:
    """Everything of one laboratory campaign, to look at afterwards."""

    lab: Lab
    ledger: MemoryLedger
    repo: LabRepo
    papers: ScriptedPapers
    disk: LabDisk
    world: World
    rules: Rules = field(default_factory=lambda: Rules(keep=KeepRule()))

    def run(self, experiments: int | None, opening: CampaignOpened | None = None, *, hours: float = 0.0) -> End:
        """A supervisor from its start to its end."""
        rules = replace(self.rules, limits=Limits(experiments=experiments, hours=hours))
        self.supervisor = Supervisor(self.world, rules, Options(limit_tokens=BRIEF_TOKENS))
        return self.supervisor.run(opening or OPENING)


OPENING = CampaignOpened(
    campaign="lab",
    arena=ArenaRecord(
        name="lab",
        metric="val_bpb",
        direction=Direction.MIN,
        mode=ScoreMode.SEALED,
        hash="0" * 64,
        device="cpu",
        budget_s=300.0,
    ),
    base="c0",
    constants={"train.py:LEARNING_RATE": 0.1},
)


def bench(lab: Lab, **rules: object) -> Bench:
    """A laboratory with all its ports."""
    ledger, repo, papers, disk = MemoryLedger(lab.clock), LabRepo(lab), ScriptedPapers(), LabDisk()
    world = World(
        clock=lab.clock,
        ledger=ledger,
        repo=repo,
        agents=LabAgents(lab),
        runner=LabRunner(lab),
        scorer=LabScorer(lab),
        papers=papers,
        control=LabControl(lab),
        watcher=SilentWatcher(),
        disk=disk,
        report_every_s=3600.0,
    )
    made = Bench(lab=lab, ledger=ledger, repo=repo, papers=papers, disk=disk, world=world)
    made.rules = replace(made.rules, **rules)  # type: ignore[arg-type]
    return made
