"""Where the time went, from the ledger alone.

run, score and agent are what these processes took, as measured around each of them. Of the time a supervisor was
alive, idle is what passed with nothing in flight (a pause, a back-off, the moments between experiments), and limited
the part of it that went into waiting for a provider; overhead is what passed with something in flight beyond run, score
and the agents one had to wait for: worktrees, commits, checks, the ledger. An agent that thinks while a run goes on
costs no time; such seconds are `hidden_s`. Away is the time without a supervisor. With several lanes run and score are
sums over all of them, which is more than the time that went by.
"""

from dataclasses import dataclass
from datetime import datetime

from ralph.core.fold import State
from ralph.model import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSplit:
    """Seconds. On one lane run + score + (agent − hidden) + overhead + idle is the supervised time, up to rounding."""

    run_s: float
    score_s: float
    agent_s: float
    hidden_s: float
    overhead_s: float
    idle_s: float
    limited_s: float
    away_s: float
    alive_s: float

    @property
    def waited_s(self) -> float:
        """Seconds in which the lane waited for an agent."""
        return max(0.0, self.agent_s - self.hidden_s)

    @property
    def supervised_s(self) -> float:
        """All of it but the time away."""
        return self.run_s + self.score_s + self.waited_s + self.overhead_s + self.idle_s


def time_split(state: State, now: datetime, alive: bool) -> TimeSplit:
    """The split up to `now`; with `alive`, what is in flight counts for as long as it has lasted."""
    running = alive and state.running and state.last_at is not None
    tail_s = seconds_since(state.last_at, now) if running else 0.0
    so_far = dict.fromkeys(Phase, 0.0)
    if running:
        for e in state.open():
            so_far[e.phase] += seconds_since(state.since.get(e.id), now)
    run_s = state.run_s + so_far[Phase.RUN]
    score_s = state.score_s + so_far[Phase.SCORE]
    agent_s = state.agent_s + so_far[Phase.AGENT]
    hidden_s = state.hidden_s + (tail_s if state.thinking_ahead else 0.0)
    busy_s = state.busy_s + (tail_s if state.working else 0.0)
    supervised_s = state.supervised_s + tail_s
    return TimeSplit(
        run_s=run_s,
        score_s=score_s,
        agent_s=agent_s,
        hidden_s=min(hidden_s, agent_s),
        overhead_s=max(0.0, busy_s - run_s - score_s - max(0.0, agent_s - hidden_s)),
        idle_s=max(0.0, supervised_s - busy_s),
        limited_s=min(state.limited_s + (tail_s if state.sent_away else 0.0), max(0.0, supervised_s - busy_s)),
        away_s=max(0.0, seconds_since(state.opened, now) - supervised_s),
        alive_s=supervised_s,
    )


def seconds_since(when: datetime | None, now: datetime) -> float:
    """Seconds from `when` to `now`, never negative; 0 without a `when`."""
    return 0.0 if when is None else max(0.0, (now - when).total_seconds())
