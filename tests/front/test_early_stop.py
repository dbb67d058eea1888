"""A hopeless run of real processes is ended before its time; kill -9 in the middle of that changes nothing."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.events import Judged, RunEnded
from ralph.model import Outcome, Verdict
from tests.adapters.keeping import until
from tests.arenas import ToyArena, edit, story, toy_arena
from tests.conftest import git
from tests.front.test_crash import gone
from tests.front.test_gated import PREPARE, SCORE, TOML

Left = Callable[[], list[int]]
BUDGET_S = 2.0
TRAIN = """\
import json, os, pathlib, socket, time

WIDTH = 8  # channels
BUDGET_S = 2.0

out, seed = pathlib.Path(os.environ["RALPH_RUN_DIR"]), int(os.environ["RALPH_SEED"])
(out / "nonce").write_bytes(os.urandom(8))
gun = socket.socket(fileno=int(os.environ["RALPH_GUN_FD"]))
gun.send(json.dumps({"ready": {}}).encode())
message, fds, _, _ = socket.recv_fds(gun, 65536, 4)
text, began = os.read(fds[0], 100).decode(), time.monotonic()
while (seconds := time.monotonic() - began) < 0.9 * BUDGET_S:
    loss = abs(WIDTH - 20) + 0.01 * (seed % 7) + 1 - seconds / BUDGET_S
    with (out / "progress.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1, "loss": loss, "seconds": seconds}) + "\\n")
    time.sleep(0.02)
gun.send(json.dumps({"stopped": {"steps": 1}}).encode())
pathlib.Path(os.environ["RALPH_ARTIFACT"]).write_text(json.dumps({"width": WIDTH, "text": text}))
"""
GOOD, HOPELESS = (9, 10, 11), 2
STEPS = [edit("WIDTH", width) for width in (*GOOD, HOPELESS, 12)]


def pruned(root: Path, table: str = "false_stop_rate = 0.3\nspot_checks = 0.000001") -> ToyArena:
    """An arena in which three scored experiments are enough to stop the fourth."""
    toml = TOML.replace("budget_s = 0.4", f"budget_s = {BUDGET_S}").replace("grace_s = 1", "grace_s = 10")
    arena = toy_arena(root, STEPS, train=TRAIN, toml=f"{toml}\n[prune]\n{table}\n")
    (root / "prepare.py").write_text(PREPARE)
    (root / "score.py").write_text(SCORE)
    git(root, "add", ".")
    git(root, "commit", "-qm", "gated")
    return arena


def ends(arena: ToyArena) -> dict[int, RunEnded]:
    """The last run of each experiment."""
    return {e.id: e for e in arena.events() if isinstance(e, RunEnded)}


def judged(arena: ToyArena) -> dict[int, Judged]:
    return {e.id: e for e in arena.events() if isinstance(e, Judged)}


@pytest.mark.slow
def test_a_hopeless_run_is_ended_early_with_its_whole_tree_and_the_loop_goes_on(hostile: Path, marked: Left) -> None:
    arena = pruned(hostile)
    done = arena.loop(5)
    assert done.status == 0, done
    hopeless, verdict = ends(arena)[4], judged(arena)[4]
    assert hopeless.outcome is Outcome.STOPPED
    assert hopeless.early is not None
    assert hopeless.train_s == pytest.approx(hopeless.early.share * BUDGET_S)
    assert hopeless.tail == ""
    assert (verdict.verdict, verdict.crash) == (Verdict.DISCARD, None)
    assert "of its budget" in verdict.reason
    assert all(ends(arena)[n].outcome is Outcome.OK for n in (1, 2, 3, 5))
    assert judged(arena)[5].verdict is Verdict.KEEP
    assert sum(loss is not None for loss in ends(arena)[1].curve) >= 15
    assert arena.json("log")[4]["scores"] == []
    history = [json.loads(line) for line in (arena.root / "state/history.jsonl").read_text().splitlines()]
    assert history[4]["early"]["share"] == hopeless.early.share
    assert marked() == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ["early-marked", pytest.param("early-stopped", marks=pytest.mark.slow)])
def test_killed_between_the_decision_and_its_record_the_story_is_the_same(
    point: str, tmp_path: Path, marked: Left
) -> None:
    arena = pruned(tmp_path / "arena")
    assert arena.loop(4, RALPH_CRASH_AT=point).status == -signal.SIGKILL
    assert gone(marked)
    exit_json = arena.root / "state/experiments/000004/run-1/exit.json"
    until(exit_json.exists, "what the shim has to say, which has no environment to be known by")
    ended = exit_json.read_bytes()
    done = arena.loop(4)
    assert done.status == 0, done
    undisturbed = pruned(tmp_path / "undisturbed")
    assert undisturbed.loop(4).status == 0
    assert [line["kind"] for line in story(arena.events())] == [line["kind"] for line in story(undisturbed.events())]
    for each in (arena, undisturbed):
        assert ends(each)[4].outcome is Outcome.STOPPED
        assert judged(each)[4].verdict is Verdict.DISCARD
    assert exit_json.read_bytes() == ended, "it was not run again"
    assert marked() == []


@pytest.mark.slow
def test_switched_off_every_run_goes_on_to_its_end(tmp_path: Path) -> None:
    arena = pruned(tmp_path / "arena", "false_stop_rate = 0")
    assert arena.loop(4).status == 0
    assert ends(arena)[4].outcome is Outcome.OK
    assert ends(arena)[4].early is None
