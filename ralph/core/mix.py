"""Which agent is asked next: fixed shares, or a bandit on what each one's experiments have gained per second.

The bandit's reward is confirmed gain: of a keep, by how much it beat the incumbent; of anything else, nothing. What a
gain costs are the seconds for which the lane was its: runs and scorings of the candidate, the incumbent's runs for its
sake, and the agent's own seconds as far as no run hid them. A void experiment says nothing about its agent and is left
out. Gains shrink over a campaign, so an experiment's weight halves with every `HALF_LIFE` experiments begun after it.

An arm's rate has the posterior Gamma(shape = s·N·r·c/u + G/u, scale = u / (N·c + T)), with G the arm's gain and T its
seconds, both discounted. The prior is worth N = `PRIOR` experiments of the mean cost c at s times the pooled rate r,
where s is the arm's share in the mix times the number of arms: shares are what the human expects of each agent. The
unit u = Σg²/Σg over all gains makes the variance right for gains of unequal size (quasi-Poisson). The arm with the
highest draw is asked (Thompson, 1933). Draws come from a hash of campaign, experiment and arm, so that a restart
repeats the choice. Until there is a gain to go by, the shares decide.

Covered: arms that get worse or better, that cost more or less, that may not be asked just now.
Not covered: dollars (budgets have their own rules), what an arm's ideas are worth to other arms.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import assert_never

from ralph.core.fold import State
from ralph.core.wording import plain
from ralph.model import Direction, Experiment, Verdict

HALF_LIFE = 40.0  # experiments
PRIOR = 5.0  # experiments
LOOK_BACK = 400  # experiments: ten half-lives, after which one weighs a thousandth


class Policy(StrEnum):
    """How a mix is shared out."""

    SHARES = "shares"
    BANDIT = "bandit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The agent to ask; `why` is one short sentence, empty where there was no choice."""

    agent: str
    why: str = ""


def choose(state: State, mix: Mapping[str, float], policy: Policy, available: frozenset[str]) -> Choice:
    """The agent for the next experiment, among those of `mix` that are `available`.

    Pure, randomness included: the same state gives the same choice. An agent whose share is 0 is never asked.

    Raises:
        LookupError: nobody who has a share is available; what to do then is not for the mix to say.
    """
    names = sorted(name for name in mix if name in available and mix[name] > 0)
    if not names:
        raise LookupError(f"none of {', '.join(sorted(mix))} can be asked")
    if len(names) == 1:
        return Choice(agent=names[0])
    match policy:
        case Policy.SHARES:
            return _by_shares(state, mix, names)
        case Policy.BANDIT:
            return _by_gain(state, mix, names)
        case _:
            assert_never(policy)


def _by_shares(state: State, mix: Mapping[str, float], names: list[str]) -> Choice:
    """The agent that is furthest behind its share; ties go to the first by name."""
    total, begun = sum(mix[name] for name in names), state.begun

    def behind(name: str) -> float:
        return mix[name] / total * (begun + 1) - state.agent_counts[name]

    agent = max(names, key=behind)
    had = f"{state.agent_counts[agent]} of {begun}"
    return Choice(agent=agent, why=f"shares: {agent} has had {had}, its share is {mix[agent] / total:.0%}")


@dataclass(slots=True, kw_only=True)
class _Arm:
    """What is known of one agent: experiments counted plainly, gain and seconds by discounted weight."""

    tried: int = 0
    weight: float = 0.0
    gain: float = 0.0
    squares: float = 0.0
    seconds: float = 0.0

    def add(self, weight: float, gain: float, seconds: float) -> None:
        self.tried += 1
        self.weight += weight
        self.gain += weight * gain
        self.squares += weight * gain * gain
        self.seconds += weight * seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rate:
    """Posterior of an arm's gain per second."""

    shape: float
    scale: float
    tried: int

    @property
    def mean(self) -> float:
        return self.shape * self.scale


def _by_gain(state: State, mix: Mapping[str, float], names: list[str]) -> Choice:
    rates = _rates(state, mix, names)
    if not rates:
        shared = _by_shares(state, mix, names)
        return Choice(agent=shared.agent, why=f"bandit: no gain to go by yet; {shared.why}")
    where = f"{state.campaign}#{len(state.experiments)}"
    draws = {name: rate.scale * _gamma(rate.shape, _uniforms(f"{where}:{name}")) for name, rate in rates.items()}
    agent = max(names, key=lambda name: draws[name])
    return Choice(agent=agent, why=_why(state, agent, rates))


def _why(state: State, agent: str, rates: Mapping[str, _Rate]) -> str:
    sigma = state.noise.sigma
    unit = sigma or 1.0
    word = "sigma" if sigma else plain(state.arena.metric, 30) if state.arena else "gain"
    ordered = sorted(rates, key=lambda name: (name != agent, -rates[name].mean, name))

    def says(name: str, unit_word: str) -> str:
        rate = rates[name]
        return f"{name} {rate.mean * 3600 / unit:.2g}{unit_word} ({rate.tried} tried)"

    figures = ", ".join(says(name, "" if k else f" {word} an hour") for k, name in enumerate(ordered))
    best = max(rates, key=lambda name: rates[name].mean)
    return f"bandit: {figures}" if best == agent else f"bandit, to explore: {figures}"


def _rates(state: State, mix: Mapping[str, float], names: list[str]) -> dict[str, _Rate]:
    """Posteriors of the named arms; none at all while nobody has gained anything."""
    arms = _arms(state)
    gain, squares = (sum(getattr(arm, key) for arm in arms.values()) for key in ("gain", "squares"))
    weight, seconds = (sum(getattr(arm, key) for arm in arms.values()) for key in ("weight", "seconds"))
    if gain <= 0 or seconds <= 0:
        return {}
    unit, prior_s = squares / gain, PRIOR * seconds / weight
    total = sum(mix[name] for name in names)
    rates = {}
    for name in names:
        arm, share = arms.get(name, _Arm()), mix[name] / total * len(names)
        prior = share * prior_s * gain / seconds
        rates[name] = _Rate(shape=(prior + arm.gain) / unit, scale=unit / (prior_s + arm.seconds), tried=arm.tried)
    return rates


def _arms(state: State) -> dict[str, _Arm]:
    """Every agent's record over the last `LOOK_BACK` experiments."""
    end = len(state.experiments)
    recent = [state.experiments[i] for i in range(max(1, end - LOOK_BACK), end)]
    seconds = _lane_seconds(state, recent)
    sign = (state.arena.direction if state.arena else Direction.MIN).sign
    arms: dict[str, _Arm] = {}
    for e in recent:
        if e.verdict in (None, Verdict.VOID):
            continue
        gain = max(0.0, -sign * e.delta) if e.verdict is Verdict.KEEP and e.delta is not None else 0.0
        weight = 0.5 ** ((end - 1 - e.id) / HALF_LIFE)
        arms.setdefault(e.agent, _Arm()).add(weight, gain, seconds[e.id])
    return arms


def _lane_seconds(state: State, recent: list[Experiment]) -> dict[int, float]:
    """Seconds by experiment for which nothing else could use the lane.

    How much of an agent's time a run hid is known for the campaign as a whole, and shared out evenly.
    """
    waited = 1.0 - min(1.0, state.hidden_s / state.agent_s) if state.agent_s else 1.0
    seconds = {e.id: e.agent_s * waited for e in recent}
    first = recent[0].id if recent else 0
    standing = max((k for k in state.keeps if k < first), default=0)  # the incumbent when the oldest of them began
    measured = [state.experiments[standing], *recent] if standing in state.experiments else recent
    for run in (run for e in measured for run in e.runs):
        if run.for_id in seconds:
            seconds[run.for_id] += run.seconds + run.score_s
    return seconds


def _uniforms(seed: str) -> Iterator[float]:
    """Numbers in (0, 1) that depend on `seed` alone."""
    for n in count():
        digest = hashlib.blake2b(f"{seed}/{n}".encode(), digest_size=8).digest()
        yield (int.from_bytes(digest) + 0.5) / 2**64


def _gamma(shape: float, uniforms: Iterator[float]) -> float:
    """A draw from Gamma(shape, 1) by Marsaglia and Tsang (2000); a small shape is drawn one higher and scaled back."""
    if shape < 1:
        power = math.log(next(uniforms)) / shape if shape > 0 else -math.inf
        return _gamma(shape + 1, uniforms) * math.exp(power) if power > -700 else 0.0
    d = shape - 1 / 3
    while True:
        u, angle = next(uniforms), 2 * math.pi * next(uniforms)
        x = math.sqrt(-2 * math.log(u)) * math.cos(angle)
        v = (1 + x / math.sqrt(9 * d)) ** 3
        if v > 0 and math.log(next(uniforms)) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v
