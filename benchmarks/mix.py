"""The bandit that shares out the mix, against fixed equal shares and each agent alone, by simulation with known truth.

    python -m benchmarks.mix [--seeds 200] [--first 1000] [--json benchmarks/results/mix.json]

What is simulated. Scores have noise 1, and every number here is in units of it. An agent's ideas take from a room of
its own: what its kind of change can still bring (code for a language model, constants for a tuner). A hit takes a
random share of what is left, so gains shrink as they are made; a miss makes the score worse; a crash costs a tenth of a
run. Verdicts are `ralph.core.decision.decide`, choices `ralph.core.mix.choose` on the state that `ralph.core.fold`
makes of the same events as in a real campaign. A run and its scoring take 326 s; an agent's seconds come on top. The
n-th idea of an agent is the same under every strategy. Every scenario also has a bad agent. `alike` has no better and
no worse agent but the bad one; in `late` the agent that begins best is exhausted soon; `two` has no bad agent.

What is reported, over campaigns of 60 and of 200 experiments: the final true gain, mean and standard error, for each
agent alone, for fixed equal shares and for the bandit; the bandit's ratio to equal shares, to the agent that is best
alone on average in that scenario (which nobody knows beforehand) and its regret: what the best single agent of each
campaign in hindsight gained more, of the bandit and of equal shares. A regret below 0 is the gain of mixing: two kinds
of room hold more than one. Hours are those of the lane.

What it shows (200 campaigns each, benchmarks/results/mix.json). Where agents differ much and one is bad, the bandit
gains 14 to 33% more than equal shares after 60 experiments and 1 to 27% after 200. It does not always win: with two
good agents of separate rooms (`two`) it loses 4% after 200, since it stays with the one whose gains were large while
the other's room is untouched; where the quick one is exhausted soon (`late`) it loses 8% after 60 and 3% (within the
error) after 200; among equals it changes nothing. Finding out costs: after 60 experiments it has 60 to 98% of what the
agent that is best alone would have had, and a regret of 2 to 13 sigmas, more than that of equal shares in `late` alone;
after 200 it has 85 to 140%, and its regret is below 0 in half of the scenarios, for a mix draws on more than one room.
Whoever knows which agent is best should say so in the shares, which are the bandit's prior, or use that one alone.

HALF_LIFE and PRIOR were chosen on other campaigns (seeds 0 to 39) out of 10, 20, 40, 100 and 2, 5, 10: the mean ratio
to equal shares over all scenarios lay between 1.09 and 1.16 after 60 experiments and between 1.02 and 1.10 after 200.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from ralph.core.decision import Discard, Evidence, Keep, KeepRule, RunAgain, Side, baseline_runs, decide
from ralph.core.fold import State
from ralph.core.mix import Policy, choose
from ralph.events import (
    AgentEnded,
    Briefed,
    CampaignOpened,
    Committed,
    Entry,
    Event,
    Judged,
    RunEnded,
    RunStarted,
    Scored,
    Settled,
)
from ralph.model import AgentOutcome, ArenaRecord, CrashKind, Direction, Outcome, ScoreMode, Verdict

HORIZONS = (60, 200)
RUN_S, SCORE_S, CRASH_S = 320.0, 6.0, 33.0
RULE = KeepRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A simulated agent. `room` is all it can ever gain; a hit takes `bite` of what is left, on average."""

    room: float
    hit: float
    bite: float
    crash: float
    agent_s: float
    miss: float = 4.0


LLM = Arm(room=50, hit=0.30, bite=0.15, crash=0.10, agent_s=90)
TUNER = Arm(room=20, hit=0.25, bite=0.08, crash=0.03, agent_s=3)
BAD = Arm(room=4, hit=0.03, bite=0.20, crash=0.30, agent_s=60)
SCENARIOS: Mapping[str, Mapping[str, Arm]] = {
    "early": {"llm": LLM, "tuner": TUNER, "bad": BAD},
    "two": {"llm": LLM, "tuner": TUNER},
    "tuner": {
        "llm": Arm(room=10, hit=0.08, bite=0.15, crash=0.20, agent_s=180),
        "tuner": Arm(room=40, hit=0.25, bite=0.06, crash=0.03, agent_s=3),
        "bad": BAD,
    },
    "llm": {
        "llm": Arm(room=60, hit=0.15, bite=0.10, crash=0.10, agent_s=90),
        "tuner": Arm(room=5, hit=0.20, bite=0.08, crash=0.03, agent_s=3),
        "bad": BAD,
    },
    "late": {
        "llm": Arm(room=60, hit=0.08, bite=0.10, crash=0.10, agent_s=90),
        "tuner": Arm(room=15, hit=0.40, bite=0.20, crash=0.03, agent_s=3),
        "bad": BAD,
    },
    "alike": {"one": TUNER, "other": TUNER, "bad": BAD},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Idea:
    """What an agent hands in: a share of its room, or a loss, or a crash."""

    bite: float
    loss: float
    crash: bool


class Campaign:
    """One simulated campaign under the code of the loop; `gain` is the incumbent's true gain so far."""

    def __init__(self, arms: Mapping[str, Arm], seed: int) -> None:
        self.state, self.gain, self.lane_s = State(), 0.0, 0.0
        self._arms, self._left = arms, {name: arm.room for name, arm in arms.items()}
        self._ideas = {n: _ideas(arm, np.random.default_rng([seed, k])) for k, (n, arm) in enumerate(arms.items())}
        self._noise = np.random.default_rng([seed, 99])
        self._truths = {0: 0.0}
        self._at = datetime(2026, 1, 1, tzinfo=UTC)
        arena = ArenaRecord(
            name="a", metric="m", direction=Direction.MIN, mode=ScoreMode.SEALED, hash="", device="cpu", budget_s=300
        )
        self._tell(CampaignOpened(campaign=f"campaign {seed}", arena=arena, base="0"))
        for _ in range(baseline_runs(RULE)):
            self._run(0, 0)
        self._tell(Judged(id=0, verdict=Verdict.KEEP, reason=""), Settled(id=0))

    def experiment(self, agent: str) -> None:
        """One experiment of `agent`, from brief to verdict."""
        arm, incumbent, id_ = self._arms[agent], self.state.incumbent_id or 0, len(self.state.experiments)
        idea = self._ideas[agent].pop()
        gain = self._left[agent] * idea.bite - idea.loss
        self.lane_s += arm.agent_s
        self._tell(
            Briefed(id=id_, base=str(incumbent), agent=agent),
            AgentEnded(id=id_, attempt=1, outcome=AgentOutcome.PROPOSED, reason="", seconds=arm.agent_s),
            Committed(id=id_, commit=str(id_), hypothesis="x"),
        )
        self._truths[id_] = self.gain + gain
        if idea.crash:
            self._crash(id_)
        elif self._kept(id_, incumbent):
            self.gain += gain
            self._left[agent] -= max(0.0, gain)
        self._tell(Settled(id=id_))

    def _kept(self, id_: int, incumbent: int) -> bool:
        self._run(id_, id_)
        while True:
            here, there = self.state.experiments[id_], self.state.experiments[incumbent]
            found = decide(
                RULE,
                Evidence(
                    candidate=here.scores,
                    incumbent=there.scores,
                    noise=self.state.noise,
                    lines_delta=1,
                    challengers=self.state.challengers,
                ),
            )
            match found:
                case RunAgain(of=Side.CANDIDATE):
                    self._run(id_, id_)
                case RunAgain():
                    self._run(incumbent, id_)
                case Keep() | Discard():
                    keep = isinstance(found, Keep)
                    verdict = Verdict.KEEP if keep else Verdict.DISCARD
                    self._tell(Judged(id=id_, verdict=verdict, reason="", delta=found.delta, against=incumbent))
                    return keep

    def _run(self, id_: int, for_id: int) -> None:
        number, score = len(self.state.experiments[id_].runs) + 1, float(self._noise.normal()) - self._truths[id_]
        self.lane_s += RUN_S + SCORE_S
        self._tell(
            RunStarted(id=id_, run=number, seed=number, for_id=for_id),
            RunEnded(id=id_, run=number, outcome=Outcome.OK, seconds=RUN_S),
            Scored(id=id_, run=number, outcome=Outcome.OK, score=score, seconds=SCORE_S),
        )

    def _crash(self, id_: int) -> None:
        self.lane_s += CRASH_S
        self._tell(
            RunStarted(id=id_, run=1, seed=1, for_id=id_),
            RunEnded(id=id_, run=1, outcome=Outcome.CRASH, crash=CrashKind.EXCEPTION, seconds=CRASH_S),
            Judged(id=id_, verdict=Verdict.CRASH, reason=""),
        )

    def _tell(self, *events: Event) -> None:
        for event in events:
            self._at += timedelta(seconds=1)
            self.state.apply(Entry(seq=self.state.seq + 1, at=self._at, event=event))


def _ideas(arm: Arm, rng: np.random.Generator) -> list[Idea]:
    """More ideas than any campaign asks for."""
    most = max(HORIZONS)
    hits, bites = rng.random(most) < arm.hit, np.minimum(0.9, arm.bite * rng.exponential(size=most))
    losses, crashes = arm.miss * rng.exponential(size=most), rng.random(most) < arm.crash
    return [
        Idea(bite=float(b) if h else 0.0, loss=0.0 if h else float(m), crash=bool(c))
        for h, b, m, c in zip(hits, bites, losses, crashes, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One campaign's true gain and lane hours at each horizon, and how often each agent was asked by the last."""

    gain: tuple[float, ...]
    hours: tuple[float, ...]
    asked: Mapping[str, int]


def play(arms: Mapping[str, Arm], mix: Mapping[str, float], policy: Policy, seed: int) -> Played:
    """A whole campaign of the agents in `mix`."""
    campaign, gains, hours = Campaign(arms, seed), [], []
    for n in range(1, max(HORIZONS) + 1):
        choice = choose(campaign.state, mix, policy, frozenset(mix))
        campaign.experiment(choice.agent)
        if n in HORIZONS:
            gains.append(campaign.gain)
            hours.append(campaign.lane_s / 3600)
    return Played(gain=tuple(gains), hours=tuple(hours), asked=dict(campaign.state.agent_counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One strategy at one horizon; `share` is how much of the experiments each agent had by the longest horizon."""

    strategy: str
    gain: float
    se: float
    hours: float
    share: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One scenario at one horizon. Regrets are against the best single agent of each campaign in hindsight."""

    scenario: str
    experiments: int
    rows: tuple[Row, ...]
    best_alone: str
    to_equal: float
    to_equal_se: float
    to_best_alone: float
    hindsight: float
    regret: float
    regret_se: float
    regret_of_equal: float


def compare(name: str, seeds: Sequence[int]) -> list[Table]:
    """Play every strategy in one scenario."""
    arms = SCENARIOS[name]
    equal = dict.fromkeys(arms, 1.0)
    games = {f"{agent} alone": ({agent: 1.0}, Policy.SHARES) for agent in arms}
    games |= {"equal shares": (equal, Policy.SHARES), "bandit": (equal, Policy.BANDIT)}
    played = {game: [play(arms, mix, policy, seed) for seed in seeds] for game, (mix, policy) in games.items()}
    return [_table(name, k, played, len(arms)) for k in range(len(HORIZONS))]


def _table(scenario: str, k: int, played: Mapping[str, Sequence[Played]], arms: int) -> Table:
    gains = {game: np.array([each.gain[k] for each in campaigns]) for game, campaigns in played.items()}
    singles = list(gains)[:arms]
    hindsight = np.max([gains[game] for game in singles], axis=0)
    best_alone = max(singles, key=lambda game: gains[game].mean())
    bandit, equal = gains["bandit"], gains["equal shares"]
    return Table(
        scenario=scenario,
        experiments=HORIZONS[k],
        rows=tuple(_row(game, k, campaigns) for game, campaigns in played.items()),
        best_alone=best_alone,
        to_equal=float(bandit.mean() / equal.mean()),
        to_equal_se=_se(bandit - equal) / float(equal.mean()),
        to_best_alone=float(bandit.mean() / gains[best_alone].mean()),
        hindsight=float(hindsight.mean()),
        regret=float((hindsight - bandit).mean()),
        regret_se=_se(hindsight - bandit),
        regret_of_equal=float((hindsight - equal).mean()),
    )


def _row(game: str, k: int, campaigns: Sequence[Played]) -> Row:
    gains = np.array([each.gain[k] for each in campaigns])
    asked: dict[str, float] = defaultdict(float)
    for each in campaigns:
        for agent, times in each.asked.items():
            asked[agent] += times / max(HORIZONS) / len(campaigns)
    hours = float(np.mean([each.hours[k] for each in campaigns]))
    return Row(strategy=game, gain=float(gains.mean()), se=_se(gains), hours=hours, share=dict(asked))


def _se(values: "np.typing.NDArray[np.float64]") -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def show(table: Table) -> None:
    """Print one table."""
    print(f"\n{table.scenario}, {table.experiments} experiments; gains in sigmas")
    for row in table.rows:
        shares = ", ".join(f"{agent} {share:.0%}" for agent, share in sorted(row.share.items()))
        rate = row.gain / row.hours
        print(f"  {row.strategy:14}{row.gain:7.2f} ± {row.se:4.2f}{row.hours:8.1f} h{rate:7.2f} an hour   {shares}")
    print(
        f"  bandit to equal shares {table.to_equal:.3f} ± {table.to_equal_se:.3f}, to {table.best_alone} "
        f"{table.to_best_alone:.3f}; regret against hindsight ({table.hindsight:.2f}) {table.regret:+.2f} ± "
        f"{table.regret_se:.2f}, of equal shares {table.regret_of_equal:+.2f}"
    )


def main() -> None:
    """Print the tables, write them as JSON if asked to."""
    parser = argparse.ArgumentParser(description="Simulate the bandit of the mix against fixed shares.")
    parser.add_argument("--seeds", type=int, default=200, help="campaigns per strategy and scenario")
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, help="write the tables there as well")
    arguments = parser.parse_args()
    begin = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    tables = []
    for name in arguments.scenario or SCENARIOS:
        for table in compare(name, seeds):
            show(table)
            tables.append(asdict(table))
    print(f"\n{time.monotonic() - begin:.0f} s")
    if arguments.json:
        settings = {"seeds": arguments.seeds, "first": arguments.first}
        text = json.dumps({"settings": settings, "tables": tables}, indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
