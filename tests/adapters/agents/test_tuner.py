"""The tuner proposes small, new, explained changes of constants, and the same ones for the same history."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ralph.adapters.agents.contract import ContractError, Facts
from ralph.adapters.agents.proposing import propose
from ralph.core.constants import constants_of, parse_constants
from ralph.model import Direction, JsonValue, Proposal

SOURCE = """import torch
SEED = 42
CUDA_DEPTH = 12
CPU_DEPTH = 4  # layers
MATRIX_LR = 0.02\t# per step, ±
BATCH = 2**13
BETAS = (0.8, 0.95)
NORM = True
ACT = "gelu"  # one of: gelu, relu2
DONE = 3  # fixed
"""
SIGMA = 0.003


def facts(**changes: Any) -> Facts:
    base = Facts(
        id=1, attempt=1, campaign="c", metric="val_bpb", direction=Direction.MIN, device="cpu", editable=("train.py",),
        sigma=SIGMA, incumbent_id=0, incumbent_score=1.6, incumbent_runs=3, refusals=(),
    )  # fmt: skip
    return replace(base, **changes)


def verdict(number: int, constants: Mapping[str, JsonValue], score: float | None, **more: Any) -> str:
    kind = "keep" if number == 0 else "crash" if score is None else "discard"
    scores = [] if score is None else [score] * 3
    named = {f"train.py:{k}": v for k, v in constants.items()}
    return json.dumps({"id": number, "verdict": kind, "scores": scores, "crash": None, "constants": named} | more)


def baseline(source: str = SOURCE, score: float = 1.6) -> str:
    return verdict(0, {c.name: c.value for c in parse_constants(source)}, score)


def changed(edited: Mapping[str, str], source: str = SOURCE) -> dict[str, JsonValue]:
    before, after = constants_of({"train.py": source}), constants_of(edited)
    return {k.removeprefix("train.py:"): v for k, v in after.items() if v != before[k]}


class Campaign:
    """Plays the supervisor: every proposal is scored by `loss` and kept when it is better by more than sigma."""

    def __init__(self, source: str = SOURCE, sign: float = 1.0, seed: int = 0, sigma: float = SIGMA) -> None:
        self.text = source
        self.sign = sign
        self.seed = seed
        self.sigma = sigma
        self.origin = constants_of({"train.py": source})
        self.best = 0.0
        self.best_id = 0
        self.history: list[str] = []
        self.proposals: list[Proposal] = []
        self.assigned: list[dict[str, JsonValue]] = []

    def turn(self, loss: Any) -> dict[str, JsonValue]:
        if not self.history:
            self.best = loss(self.origin)
            self._write(0, "keep", self.origin, self.best)
        number = len(self.history)
        known = facts(
            id=number, incumbent_id=self.best_id, incumbent_score=self.sign * self.best, sigma=self.sigma,
            direction=Direction.MIN if self.sign > 0 else Direction.MAX,
        )  # fmt: skip
        proposal, edited = propose(known, {"train.py": self.text}, self.history, self.seed + number)
        values = constants_of(edited)
        self.proposals.append(proposal)
        self.assigned.append(values)
        score = loss(values)
        keep = score is not None and score < self.best - self.sigma
        diff = {k: v for k, v in values.items() if v != self.origin[k]}
        self._write(number, "crash" if score is None else "keep" if keep else "discard", diff, score)
        if keep:
            self.best, self.best_id, self.text = score, number, edited["train.py"]
        return values

    def _write(self, number: int, kind: str, constants: Mapping[str, JsonValue], score: float | None) -> None:
        scores = [] if score is None else [self.sign * score]
        crash = "deadline" if score is None else None
        line = {"id": number, "verdict": kind, "crash": crash, "scores": scores, "constants": dict(constants)}
        self.history.append(json.dumps(line))


def bowl(values: Mapping[str, Any]) -> float:
    """Best at MATRIX_LR 0.05 and BETAS[1] 0.98; the rest does nothing."""
    rate, beta = float(values["train.py:MATRIX_LR"]), float(values["train.py:BETAS[1]"])
    return 1.5 + 0.03 * abs(rate / 0.05 - 1) + 0.4 * abs(beta - 0.98)


def test_the_same_history_files_and_seed_give_the_same_proposal_in_another_process(tmp_path: Path) -> None:
    campaign = Campaign()
    for _ in range(12):
        campaign.turn(bowl)
    answers = set()
    for hash_seed in ("1", "2"):
        tree = tmp_path / hash_seed
        done = start(tree, campaign.text, campaign.history, hash_seed=hash_seed)
        assert (done.returncode, done.stderr) == (0, "")
        answers.add((tree / "train.py").read_text() + (tree / ".ralph/proposal.json").read_text())
    assert len(answers) == 1


def test_only_the_text_of_one_to_three_constants_changes() -> None:
    campaign = Campaign(SOURCE.replace("\n", "\r\n"))
    for _ in range(20):
        before = campaign.text
        values = campaign.turn(lambda _: 1.6)
        moved = {k for k, v in values.items() if v != campaign.origin[k]}
        assert 1 <= len(moved) <= 3
        assert campaign.text == before
        assert not moved & {f"train.py:{name}" for name in ("SEED", "CUDA_DEPTH", "DONE")}


def test_the_edited_text_is_the_old_one_but_for_the_literals() -> None:
    _, edited = propose(facts(), {"train.py": SOURCE}, [baseline()], 7)
    new = changed(edited)
    assert new
    text = SOURCE
    for constant in reversed(parse_constants(SOURCE)):
        if constant.name in new:
            after = next(c for c in parse_constants(edited["train.py"]) if c.name == constant.name)
            text = text[: constant.start] + edited["train.py"][after.start : after.end] + text[constant.end :]
    assert edited == {"train.py": text}


@pytest.mark.slow
def test_it_finds_a_plain_optimum() -> None:
    campaign = Campaign()
    for _ in range(30):
        campaign.turn(bowl)
    start_loss = bowl(campaign.origin)
    assert campaign.best < 1.5 + 0.4 * (start_loss - 1.5)


@pytest.mark.slow
def test_noise_does_not_lead_it_away() -> None:
    rng = random.Random(3)
    campaign = Campaign()
    for _ in range(24):
        campaign.turn(lambda values: bowl(values) + rng.gauss(0, SIGMA))
    assert bowl(constants_of({"train.py": campaign.text})) < bowl(campaign.origin) - 4 * SIGMA


def test_a_maximised_metric_is_searched_as_its_mirror() -> None:
    down, up = Campaign(), Campaign(sign=-1.0)
    for _ in range(10):
        assert down.turn(bowl) == up.turn(bowl)


def test_every_constant_is_moved_early_and_none_twice_the_same_way() -> None:
    campaign = Campaign()
    for _ in range(24):
        campaign.turn(lambda _: 1.6)
    signatures = [json.dumps(a, sort_keys=True) for a in campaign.assigned]
    assert len(set(signatures)) == len(signatures)
    assert json.dumps(campaign.origin, sort_keys=True) not in signatures
    tunable = {"CPU_DEPTH", "MATRIX_LR", "BATCH", "BETAS[0]", "BETAS[1]", "NORM", "ACT"}
    early = {
        k.removeprefix("train.py:") for a in campaign.assigned[:12] for k, v in a.items() if v != campaign.origin[k]
    }
    assert early == tunable


def test_first_moves_change_one_constant_by_a_moderate_step() -> None:
    campaign = Campaign()
    values = campaign.turn(bowl)
    assert values["train.py:MATRIX_LR"] in (0.01, 0.04)


def test_when_the_neighbourhood_is_exhausted_it_widens_and_at_last_says_so() -> None:
    campaign = Campaign("HEADS = 1\n")
    for _ in range(6):
        campaign.turn(lambda _: 1.6)
    assert max(int(str(a["train.py:HEADS"])) for a in campaign.assigned) > 4
    campaign = Campaign("NORM = True\n")
    campaign.turn(lambda _: 1.6)
    with pytest.raises(ContractError, match="was tried"):
        campaign.turn(lambda _: 1.6)


@pytest.mark.slow
def test_what_lies_beyond_a_deadline_is_not_tried_again() -> None:
    campaign = Campaign()

    def slow(values: Mapping[str, Any]) -> float | None:
        return None if values["train.py:CPU_DEPTH"] > 5 else bowl(values)

    edges: list[int] = []
    for _ in range(24):
        depth = int(str(campaign.turn(slow)["train.py:CPU_DEPTH"]))
        assert all(depth < edge for edge in edges)
        if depth > 5:
            edges.append(depth)
    assert edges


def test_broken_lines_of_the_history_are_skipped() -> None:
    good = [baseline(), verdict(1, {"MATRIX_LR": 0.04}, 1.61)]
    broken = [good[0], "{", "[]", '{"id": "x", "verdict": "keep"}', '{"id": 5, "verdict": "won"}', "\n", good[1]]
    assert propose(facts(), {"train.py": SOURCE}, good, 1) == propose(facts(), {"train.py": SOURCE}, broken, 1)


def test_a_refused_proposal_is_followed_by_another_one() -> None:
    given = ({"train.py": SOURCE}, [baseline()], 5)
    seen = {json.dumps(changed(propose(facts(refusals=("no",) * n), *given)[1])) for n in range(3)}
    assert len(seen) == 3


def test_changes_of_code_by_other_agents_do_not_confuse_it() -> None:
    lines = [
        baseline(),
        verdict(1, {}, 1.3, verdict="keep"),
        verdict(2, {"MATRIX_LR": 0.04}, 1.2),
        verdict(3, {"GONE": None, "NEW": 3}, 1.4, scores=[1.4, None, "x"]),
    ]
    known = facts(incumbent_id=1, incumbent_score=1.3)
    proposal, edited = propose(known, {"train.py": SOURCE + "NEW = 3\n"}, lines, 1)
    assert changed(edited, SOURCE + "NEW = 3\n")
    assert proposal.hypothesis


def test_the_hypothesis_names_change_reason_and_expectation() -> None:
    first, _ = propose(facts(), {"train.py": SOURCE}, [baseline()], 1)
    assert "MATRIX_LR 0.02 → 0.0" in first.hypothesis
    assert "because it was never moved; expect −0.0" in first.hypothesis
    assert first.expected.startswith(("+0.0", "−0.0", "0 ±"))
    source = "MATRIX_LR = 0.02\n"
    lines = [baseline(source), verdict(1, {"MATRIX_LR": 0.01}, 1.63)]
    second, _ = propose(facts(), {"train.py": source}, lines, 1)
    assert second.hypothesis.startswith("raise MATRIX_LR 0.02 → ")
    assert "because #1 (0.01) was worse by 0.0300 and nothing above was tried; expect " in second.hypothesis
    assert second.expected.startswith("−")


def learnt(lines: list[str], brief: str = "") -> dict[str, tuple[int, ...]]:
    proposal, _ = propose(facts(), {"train.py": SOURCE}, lines, 1, brief)
    return {item.text: item.evidence for item in proposal.learnings}


def test_it_learns_a_direction_from_two_experiments_beyond_noise() -> None:
    lines = [baseline(), verdict(1, {"MATRIX_LR": 0.01}, 1.606), verdict(2, {"MATRIX_LR": 0.005}, 1.612)]
    text = "lowering MATRIX_LR below 0.02 hurts: #1 0.01 +0.0060, #2 0.005 +0.0120"
    assert learnt(lines) == {text: (1, 2)}
    assert learnt(lines[:2]) == {}


def test_it_says_a_learning_once() -> None:
    lines = [baseline(), verdict(1, {"MATRIX_LR": 0.01}, 1.606), verdict(2, {"MATRIX_LR": 0.005}, 1.612)]
    assert learnt(lines, brief="- lowering MATRIX_LR below 0.02 hurts (#1, #2)") == {}
    later = [*lines, *(verdict(n, {"NORM": False, "BATCH": 2**n}, 1.6) for n in (3, 4, 5))]
    assert learnt(later) == {}


def test_it_learns_where_runs_fail() -> None:
    lines = [baseline(), verdict(1, {"CPU_DEPTH": 8}, None, crash="deadline")]
    assert learnt(lines) == {"CPU_DEPTH ≥ 8 hits the deadline": (1,)}
    lines.append(verdict(2, {"CPU_DEPTH": 6}, None, crash="out of memory"))
    assert learnt(lines) == {"CPU_DEPTH ≥ 6 runs out of memory": (1, 2)}
    assert learnt([baseline(), verdict(1, {"CPU_DEPTH": 8}, None, crash="exception")]) == {}


def test_it_learns_what_does_not_matter() -> None:
    lines = [baseline(), verdict(1, {"BATCH": 2**12}, 1.601), verdict(2, {"BATCH": 2**14}, 1.599)]
    text = "BATCH between 4096 and 16384 changes nothing beyond noise: #1 4096 +0.0010, #2 16384 −0.0010"
    assert learnt(lines) == {text: (1, 2)}


def start(tree: Path, text: str, lines: list[str], hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    tree.mkdir(exist_ok=True)
    (tree / "train.py").write_bytes(text.encode())
    given = {"id": len(lines), "attempt": 1, "editable": ["*.py"], "sigma": SIGMA, "device": "cpu"}
    (tree / "facts.json").write_text(json.dumps(given | {"incumbent": {"id": 0, "score": 1.6, "runs": 3}}))
    (tree / "history.jsonl").write_text("".join(f"{line}\n" for line in lines))
    env = {
        **os.environ, "RALPH_FACTS": "facts.json", "RALPH_HISTORY": "history.jsonl", "RALPH_SEED": "11",
        "RALPH_PROPOSAL": ".ralph/proposal.json", "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    command = [sys.executable, "-m", "ralph.adapters.agents.tuner"]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=90, check=False)


@pytest.mark.parametrize(
    ("text", "told"),
    [("x = 1\nSEED = 3\n", "no tunable constant in *.py"), ("LR = = 1\n", "train.py does not parse: invalid syntax")],
)
def test_without_anything_to_tune_it_ends_with_the_reason(tmp_path: Path, text: str, told: str) -> None:
    done = start(tmp_path, text, [])
    assert done.returncode == 1
    assert told in done.stderr
    assert (tmp_path / "train.py").read_text() == text
    assert not (tmp_path / ".ralph").exists()


def test_outside_of_a_loop_it_says_how_it_is_started() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RALPH_")}
    command = [sys.executable, "-m", "ralph.adapters.agents.tuner"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1
    assert "started by ralph" in done.stderr


def test_what_others_have_under_way_is_not_proposed_again_nor_the_next_best_thing_to_it() -> None:
    """Agents that think ahead know the same history; told of each other, they spread."""
    campaign = Campaign()
    for _ in range(14):
        campaign.turn(bowl)
    number, under_way, seen = len(campaign.history), list[dict[str, JsonValue]](), set[str]()
    for _ in range(6):
        known = facts(
            id=number, incumbent_id=campaign.best_id, incumbent_score=campaign.best, in_flight=tuple(under_way)
        )
        _, edited = propose(known, {"train.py": campaign.text}, campaign.history, campaign.seed + number)
        moved = changed(edited, campaign.text)
        assert json.dumps(moved, sort_keys=True) not in seen
        seen.add(json.dumps(moved, sort_keys=True))
        under_way.append({f"train.py:{key}": value for key, value in moved.items()})
    assert len({key for moved in under_way for key in moved}) >= 3


def test_what_others_have_under_way_may_be_anything() -> None:
    odd: tuple[dict[str, JsonValue], ...] = (
        {"train.py:GONE": 3},
        {"train.py:MATRIX_LR": "text"},
        {},
        {"train.py:CPU_DEPTH": 10**9},
    )
    proposal, edited = propose(facts(in_flight=odd), {"train.py": SOURCE}, [baseline()], 7)
    assert changed(edited)
    assert proposal.hypothesis
