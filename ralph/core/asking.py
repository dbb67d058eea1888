"""Whom to ask for the next proposal: by share, but nobody whose provider sends it away or whose budget is spent.

Covers: a usage limit or an outage sends the question to another agent of the mix, or makes the loop wait; an agent
whose money or tokens are spent is out, and when all are, the loop ends as at any limit. Does not cover: a call that
alone costs more than what is left; the gateway refuses that one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ralph.core.actions import End, Wait
from ralph.core.fold import State
from ralph.core.mix import Choice, Policy, choose
from ralph.core.wording import dollars
from ralph.errors import ExitStatus
from ralph.model import Cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """What may be spent; None is no limit. Dollars, and tokens read and written."""

    usd: float | None = None
    tokens: int | None = None

    def left(self, cost: Cost) -> "Cap":
        """What of it is left."""
        return Cap(
            usd=None if self.usd is None else max(0.0, self.usd - cost.usd),
            tokens=None if self.tokens is None else max(0, self.tokens - cost.tokens),
        )

    def spent(self, cost: Cost) -> str:
        """Which part of it is spent, in words; empty when something of each is left."""
        if self.usd is not None and cost.usd >= self.usd:
            return f"{dollars(self.usd)} are spent"
        if self.tokens is not None and cost.tokens >= self.tokens:
            return f"{self.tokens:,} tokens are spent"
        return ""

    def tighter(self, other: "Cap") -> "Cap":
        """The smaller of each."""
        usd = [cap.usd for cap in (self, other) if cap.usd is not None]
        tokens = [cap.tokens for cap in (self, other) if cap.tokens is not None]
        return Cap(usd=min(usd, default=None), tokens=min(tokens, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """The agents in use: `shares`, read by `policy`; those that cost, `paid`; and what these may spend, together and
    each in a campaign.

    `menders` can repair a draft that crashed in its set-up; the others make another proposal of their own.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: {"tuner": 1.0})
    policy: Policy = Policy.SHARES
    paid: frozenset[str] = frozenset()
    menders: frozenset[str] = frozenset()
    together: Cap = Cap()
    each: Mapping[str, Cap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """This agent is to be asked. `why` is empty where there was no choice."""

    agent: str
    why: str = ""


def allowance(state: State, mix: Mix, agent: str) -> Cap:
    """What an agent may still spend."""
    if agent not in mix.paid:
        return Cap()
    own = mix.each.get(agent, Cap()).left(state.spent.get(agent, Cost()))
    return own.tighter(mix.together.left(Cost(usd=state.usd, tokens=state.tokens)))


def spent_up(state: State, mix: Mix, agent: str) -> str:
    """Why an agent may not spend any more, in words; empty while it may."""
    if agent not in mix.paid:
        return ""
    if why := mix.together.spent(Cost(usd=state.usd, tokens=state.tokens)):
        return f"the campaign's {why}"
    if why := mix.each.get(agent, Cap()).spent(state.spent.get(agent, Cost())):
        return f"{agent}'s {why}"
    return state.exhausted.get(agent, "")


def ask(state: State, now: datetime, mix: Mix, prefer: str = "") -> Chosen | Wait | End:
    """Who thinks next, or what to wait for, or why there is nobody left. `prefer` is asked if it can be."""
    wanted = [agent for agent, share in mix.shares.items() if share > 0]
    out = {agent: why for agent in wanted if (why := spent_up(state, mix, agent))}
    if len(out) == len(wanted):
        return End(status=ExitStatus.DONE, reason="; ".join(dict.fromkeys(out.values())))
    away = {
        agent: weather
        for agent in wanted
        if agent not in out and (weather := state.weather.get(agent)) and weather.until > now
    }
    free = frozenset(agent for agent in wanted if agent not in out and agent not in away)
    if not free:
        first = min(away, key=lambda agent: away[agent].until)
        return Wait(until=away[first].until, reason=f"{first}: {away[first].reason}")
    choice = Choice(agent=prefer) if prefer in free else choose(state, mix.shares, mix.policy, free)
    waits = (f"{a} waits: {w.reason}" for a, w in away.items())
    return Chosen(agent=choice.agent, why="; ".join(filter(None, [choice.why, *dict.fromkeys(out.values()), *waits])))


def notices(state: State, now: datetime, mix: Mix) -> Iterator[str]:
    """What the human should know about agents that cannot be asked, one sentence each."""
    yield from dict.fromkeys(why for agent in mix.shares if (why := spent_up(state, mix, agent)))
    for agent, weather in state.weather.items():
        if weather.until > now:
            yield f"{agent} was sent away by its provider: {weather.reason}"


def likely(mix: Mix) -> str:
    """The agent that is asked at least every other time; empty if there is none."""
    name = max(mix.shares, key=lambda each: mix.shares[each], default="")
    return name if name and 2 * mix.shares[name] >= sum(mix.shares.values()) else ""
