"""Ends runs that are hopeless: each is looked at in a few moments of its budget, by the supervisor's clock.

A candidate's first run only: the baseline has nothing to be held against, and a repeat was asked for because it is not
clear. Stopping is marked beside the run before it is ended, so that after a kill -9 in between the story is the same.
"""

import math
from collections.abc import Mapping

from ralph.core import pruning
from ralph.core.curves import LOOKS, POINTS, Curve
from ralph.core.fold import State
from ralph.core.pruning import PruneRule
from ralph.model import Experiment
from ralph.ports import Job, World
from ralph.supervisor.experiment import JobKey, run_order

LAG_SHARE = 0.005  # of the budget: a look comes so much late, since a run's clock starts a little after ours
LAG_S = 0.05  # and by so much at least


class EarlyStops:
    """What was looked at lives as long as the run does."""

    def __init__(self, world: World, state: State, rule: PruneRule) -> None:
        self._world, self._state, self._rule = world, state, rule
        self._looks: dict[JobKey, int] = {}  # taken of each run at work; all of them once it is stopped or spared

    def look(self, jobs: Mapping[JobKey, Job[object]]) -> float:
        """End what is hopeless by now; in how many seconds to look again, if nothing else happens."""
        if not self._rule.false_stop_rate:
            return math.inf
        self._looks = {key: taken for key, taken in self._looks.items() if key in jobs}
        return min((self._look_at(key, job) for key, job in jobs.items() if key[0] == "run"), default=math.inf)

    def _look_at(self, key: JobKey, job: Job[object]) -> float:
        _, id_, number = key
        e, arena = self._state.experiments[id_], self._state.arena
        news = job.news()
        if arena is None or news is None or news.stage != "training" or not _first_run(e, number):
            return math.inf
        past_s = news.stage_s - max(LAG_S, LAG_SHARE * arena.budget_s)
        due, taken = sum(look * arena.budget_s <= past_s for look in LOOKS), self._looks.get(key, 0)
        if due > taken:
            ended = self._end_if_hopeless(e, number, job, share=LOOKS[due - 1])
            self._looks[key] = taken = len(LOOKS) if ended else due
        return math.inf if taken == len(LOOKS) else LOOKS[taken] * arena.budget_s - past_s

    def _end_if_hopeless(self, e: Experiment, number: int, job: Job[object], share: float) -> bool:
        """Whether its fate is sealed: it is on its way out, or a spot check."""
        world, state = self._world, self._state
        if state.arena is None:
            return False
        order = run_order(e, number)
        curve, rival = _until(world.runner.curve(order), share), state.kept_as.get(e.base)
        early = pruning.early_stop(self._rule, state.past, e.agent, curve, rival, state.arena.direction)
        if early is None:
            return False
        early = pruning.with_lot(self._rule, early, state.campaign, e.id)
        world.runner.mark(order, early)
        world.reach("early-marked")
        if not early.spared:
            job.stop(pruning.reason(early))
            world.reach("early-stopped")
        return True


def _first_run(e: Experiment, number: int) -> bool:
    """Whether it is a candidate's own, and none before it was any good."""
    return e.id != 0 and e.runs[number - 1].for_id == e.id and all(run.failed for run in e.runs[: number - 1])


def _until(curve: Curve, share: float) -> Curve:
    """Without what a run says of a time that has not come."""
    known = round(share * POINTS)
    return tuple(loss if k < known else None for k, loss in enumerate(curve))
