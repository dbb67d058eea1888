"""Device slots: which are free, and what one can do that would otherwise wait for an agent.

A lane is one device on which runs go one at a time. Numbers count from 0; which device a number stands for is the
runner's business.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from ralph.core.decision import KeepRule, incumbent_runs
from ralph.core.fold import State
from ralph.events import RunStarted
from ralph.model import Experiment, Phase

GUESSES_NEED = 3  # agents that must have ended before the length of their thinking is guessed


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """How many there are. `early`: the process of the next run may start while its device is still taken.

    `scoring`: scoring takes the lane of its run, because it needs the device or would disturb it, or is over at once.
    """

    count: int = 1
    early: bool = False
    scoring: bool = True


def free_lanes(state: State, lanes: Lanes) -> list[int]:
    """The lanes on which nothing is at work, lowest first."""
    taken = {state.audits.at_work.lane} if state.audits.at_work is not None else set()
    for hand in state.at_work.values():
        run = state.run_of(hand)
        if run.outcome is None or lanes.scoring:
            taken.add(run.lane)
    return [lane for lane in range(lanes.count) if lane not in taken]


def next_free(state: State) -> list[int]:
    """The lanes with a run, in the order in which they are likely to be free: since runs have one budget, of age."""
    runs = [state.run_of(hand) for hand in state.at_work.values()]
    return [run.lane for run in sorted(runs, key=lambda run: run.started)]


def seed_of(id: int, run: int) -> int:  # noqa: A002 - the word of the ledger
    """Seeds are unique within a campaign, and say where they are from."""
    return 1000 * id + run


def incumbent_lacks(state: State, rule: KeepRule) -> int:
    """How many runs more the incumbent should have by the rule; those at work are not counted."""
    incumbent = state.incumbent
    if incumbent is None or rule.max_runs == 1:
        return 0
    return max(0, incumbent_runs(rule, state.challengers) - len(incumbent.scores))


def repeat_in_the_gap(state: State, now: datetime, rule: KeepRule, lane: int) -> RunStarted | None:
    """One more run of the incumbent, on a lane that would wait for an agent for longer than that takes.

    Candidates that are not clear ask for it sooner or later (core/decision.py). Covers: an incumbent that lacks runs by
    that rule, agents whose kind takes longer on average than a run, as far as one can know. Does not cover: an agent
    that is faster than its kind; its candidate waits for the rest of the run.
    """
    incumbent = state.incumbent
    if incumbent is None or not state.noise.sigma or incumbent.id in state.at_work:
        return None
    at_work = sum(hand.owner == incumbent.id for hand in state.at_work.values())
    spoilt = incumbent.runs and incumbent.runs[-1].failed and incumbent.runs[-1].for_id == incumbent.id
    if spoilt or at_work >= incumbent_lacks(state, rule):
        return None
    waits = list(_thinking_s(state, now))
    if not waits or not state.last_run_s or min(waits) < state.last_run_s:
        return None
    number = len(incumbent.runs) + 1
    seed = seed_of(incumbent.id, number)
    return RunStarted(id=incumbent.id, run=number, seed=seed, for_id=incumbent.id, lane=lane)


def _thinking_s(state: State, now: datetime) -> Iterator[float]:
    """For each agent at work the seconds it is likely to take yet; none while anything else of an experiment is due."""
    for e in state.open():
        if e.phase is Phase.AGENT:
            yield _average_s(state, e) - (now - state.since[e.id]).total_seconds()
        elif e.id not in state.at_work:
            yield 0.0


def _average_s(state: State, e: Experiment) -> float:
    ends = state.agent_ends.get(e.agent, 0)
    return state.agent_seconds[e.agent] / ends if ends >= GUESSES_NEED else 0.0
