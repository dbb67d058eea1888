"""The mix: fixed shares, and a bandit on confirmed gain per second."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ralph.core.mix import Choice, Policy, choose
from ralph.events import AgentEnded, RunEnded
from ralph.model import AgentOutcome, Direction, Outcome, Verdict
from tests.core.states import Story, small

ROOT = Path(__file__).parents[2]
BOTH = {"claude": 1.0, "tuner": 1.0}
ALL = frozenset({"claude", "tuner", "other"})


def begun(direction: Direction = Direction.MIN) -> Story:
    return Story(direction=direction).start().baseline(1.0, 1.001)


def shares(story: Story, policy: Policy, mix: dict[str, float], turns: int = 300) -> Counter[str]:
    """Whom the next `turns` experiments would ask, if nothing else were learnt: the ids differ, the record does not."""
    chosen: Counter[str] = Counter()
    for turn in range(turns):
        story.state.campaign = f"campaign {turn}"
        choice = choose(story.state, mix, policy, ALL)
        chosen[choice.agent] += 1
    return chosen


def test_fixed_shares_are_kept_to_within_one_experiment_and_a_restart_repeats_them() -> None:
    story, mix = begun(), {"tuner": 0.7, "claude": 0.3}
    chosen = []
    for _ in range(10):
        choice = choose(story.state, mix, Policy.SHARES, ALL)
        assert choice == choose(story.folded(), mix, Policy.SHARES, ALL)
        story.discard("x", 1.5, agent=choice.agent)
        chosen.append(choice.agent)
    assert (chosen.count("tuner"), chosen.count("claude")) == (7, 3)


def test_the_reason_for_a_share_has_its_numbers() -> None:
    story = begun()
    story.discard("x", 1.5, agent="claude")
    choice = choose(story.state, BOTH, Policy.SHARES, ALL)
    assert choice == Choice(agent="tuner", why="shares: tuner has had 0 of 1, its share is 50%")


@pytest.mark.parametrize("policy", Policy)
def test_a_single_agent_needs_no_reason(policy: Policy) -> None:
    assert choose(begun().state, {"tuner": 1.0}, policy, ALL) == Choice(agent="tuner")


@pytest.mark.parametrize("policy", Policy)
def test_whoever_may_not_be_asked_is_not(policy: Policy) -> None:
    story = small()
    choice = choose(story.state, BOTH, policy, frozenset({"tuner"}))
    assert choice == Choice(agent="tuner")
    with pytest.raises(LookupError, match="claude, tuner"):
        choose(story.state, BOTH, policy, frozenset())


@pytest.mark.parametrize("policy", Policy)
def test_a_share_of_nothing_is_never_asked(policy: Policy) -> None:
    story = begun()
    story.keep("x", 0.5, agent="claude")
    assert set(shares(story, policy, {"claude": 0.0, "tuner": 1.0, "other": 1.0})) <= {"tuner", "other"}


def test_before_any_gain_the_shares_decide() -> None:
    story = begun()
    story.discard("x", 1.5, agent="claude")
    choice = choose(story.state, BOTH, Policy.BANDIT, ALL)
    assert choice.agent == "tuner"
    assert choice.why.startswith("bandit: no gain to go by yet; shares: tuner has had 0 of 1")


def test_an_agent_that_gains_is_asked_more_often() -> None:
    story = begun()
    for n in range(8):
        story.keep("x", 0.99 - 0.01 * n, agent="claude")
        story.discard("y", 1.5, agent="tuner")
    chosen = shares(story, Policy.BANDIT, BOTH)
    assert chosen["claude"] > 0.85 * chosen.total()
    assert chosen["tuner"] > 0, "the other is still explored"


def test_an_agent_that_is_cheaper_for_the_same_gain_is_asked_more_often() -> None:
    story = begun()
    for n in range(8):
        slow = story.propose("slow", agent="claude", seconds=3000.0)
        story.run(slow, 0.99 - 0.02 * n)
        story.judge(slow, Verdict.KEEP, "better")
        quick = story.propose("quick", agent="tuner", seconds=1.0)
        story.run(quick, 0.98 - 0.02 * n)
        story.judge(quick, Verdict.KEEP, "better")
    chosen = shares(story, Policy.BANDIT, BOTH)
    assert chosen["tuner"] > 0.8 * chosen.total()


def test_repeats_and_runs_of_the_incumbent_for_its_sake_are_what_an_experiment_costs() -> None:
    cheap, dear = begun(), begun()
    for story, remeasured in ((cheap, []), (dear, [1.0] * 8)):
        story.keep("x", 0.9, agent="claude", remeasured=remeasured)
        story.keep("y", 0.8, agent="tuner")
    whys = [choose(story.state, BOTH, Policy.BANDIT, ALL) for story in (cheap, dear)]
    first, second = (float(why.why.partition("claude ")[2].split()[0]) for why in whys)
    assert second < 0.7 * first, "eight runs of the baseline count against the experiment they were for"


def test_old_gains_count_for_less_than_new_ones() -> None:
    story = begun()
    for n in range(10):
        story.keep("early", 0.99 - 0.01 * n, agent="claude")
        story.discard("early", 1.5, agent="tuner")
    early = shares(story, Policy.BANDIT, BOTH)
    for n in range(120):
        story.discard("late", 1.5, agent="claude")
        if n % 4 == 0:
            story.keep("late", 0.85 - 0.001 * n, agent="tuner")
    late = shares(story, Policy.BANDIT, BOTH)
    assert early["claude"] > early["tuner"]
    assert late["tuner"] > 0.9 * late.total()


def test_more_is_better_where_the_metric_is_to_be_maximised() -> None:
    story = begun(Direction.MAX)
    for n in range(6):
        story.keep("x", 1.1 + 0.1 * n, agent="claude")
        story.discard("y", 0.5, agent="tuner")
    assert shares(story, Policy.BANDIT, BOTH)["claude"] > 250


def test_void_experiments_say_nothing_and_invalid_ones_cost_their_time() -> None:
    story = begun()
    story.keep("x", 0.9, agent="claude")
    before = choose(story.state, BOTH, Policy.BANDIT, ALL)
    story.void("the machine's fault")
    after = choose(story.state, BOTH, Policy.BANDIT, ALL)
    assert "claude" in before.why
    assert "(1 tried)" in after.why
    story.invalid()
    spoilt = choose(story.state, BOTH, Policy.BANDIT, ALL)
    assert "(2 tried)" in spoilt.why


def test_shares_are_the_prior_of_agents_that_have_not_been_tried() -> None:
    story = begun()
    for n in range(4):
        story.keep("x", 0.9 - 0.01 * n, agent="other")
    chosen = shares(story, Policy.BANDIT, {"claude": 0.9, "tuner": 0.1, "other": 0.5})
    assert chosen["claude"] > 4 * chosen["tuner"]


def test_the_same_ledger_gives_the_same_choice_and_another_experiment_another_draw() -> None:
    story = begun()
    for n in range(4):
        story.keep("x", 0.9 - 0.01 * n, agent="claude")
        story.keep("y", 0.895 - 0.01 * n, agent="tuner")
    choice = choose(story.state, BOTH, Policy.BANDIT, ALL)
    assert all(choose(story.folded(), BOTH, Policy.BANDIT, ALL) == choice for _ in range(3))
    assert len(shares(story, Policy.BANDIT, BOTH, turns=60)) == 2


def test_agents_that_a_run_hid_cost_nothing_of_the_lane() -> None:
    """Two equal gains; the seconds of thinking are charged only where the lane waited for them."""
    waited, hidden = begun(), begun()
    for story in (waited, hidden):
        id_ = story.propose("x", agent="claude", seconds=5000.0)
        story.run(id_, 0.9)
        story.judge(id_, Verdict.KEEP, "better")
    hidden.state.hidden_s = hidden.state.agent_s
    rates = [choose(s.state, BOTH, Policy.BANDIT, ALL) for s in (waited, hidden)]
    slow, fast = (float(c.why.partition("claude ")[2].split()[0]) for c in rates)
    assert fast > 5 * slow


def test_only_the_last_four_hundred_experiments_are_looked_at() -> None:
    story = begun()
    for _ in range(450):
        story.discard("x", 1.5, agent="tuner")
    story.keep("y", 0.9, agent="claude")
    choice = choose(story.state, BOTH, Policy.BANDIT, ALL)
    assert "tuner" in choice.why
    assert "(399 tried)" in choice.why


def test_a_crash_of_the_agent_itself_still_costs_its_seconds() -> None:
    story = begun()
    story.keep("x", 0.9, agent="tuner")
    id_ = story.brief("claude")
    story.tell(AgentEnded(id=id_, attempt=1, outcome=AgentOutcome.DEADLINE, reason="late", seconds=900.0), after_s=900)
    story.judge(id_, Verdict.INVALID, "late")
    id_ = story.propose("z", agent="claude")
    story.begin_run(id_)
    story.tell(RunEnded(id=id_, run=1, outcome=Outcome.CRASH, seconds=40.0), after_s=40)
    story.judge(id_, Verdict.CRASH, "crash")
    assert shares(story, Policy.BANDIT, BOTH)["tuner"] > 150


@pytest.mark.slow
def test_the_benchmark_finds_the_good_arm_and_says_so_in_json(tmp_path: Path) -> None:
    out = tmp_path / "mix.json"
    command = [sys.executable, "-m", "benchmarks.mix", "--seeds", "3", "--scenario", "llm", "--json", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=100)
    tables = json.loads(out.read_text())["tables"]
    assert [table["experiments"] for table in tables] == [60, 200]
    share = next(row["share"] for row in tables[1]["rows"] if row["strategy"] == "bandit")
    assert share["llm"] > share["tuner"]
    assert share["llm"] > share["bad"]
