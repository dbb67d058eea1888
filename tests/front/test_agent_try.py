"""`ralph agent try`: one brief, one proposal, no run, and nothing left of it."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ralph.adapters.ledger import FileLedger
from ralph.adapters.lock import holder
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.events import AgentEnded, Briefed
from ralph.model import AgentOutcome
from tests.arenas import TOML, ToyArena, edit, toy_arena
from tests.conftest import git

Left = Callable[[], list[int]]
SLEEP_S = f"{1000 + os.getpid()}.25"  # tells our sleeper from everybody else's
WITH_SLEEPER = TOML + f'\n[agents.mine]\nkind = "command"\ncommand = "sleep {SLEEP_S}"\n'


def everything(arena: ToyArena) -> dict[str, bytes]:
    """Every file of the folder and of its repository, objects apart: those of a proposal that nobody refers to stay."""
    kept = (p for p in arena.root.rglob("*") if p.is_file() and "objects" not in p.relative_to(arena.root).parts)
    return {p.relative_to(arena.root).as_posix(): p.read_bytes() for p in kept}


def sleepers() -> list[int]:
    """Agents at work: their environment has no mark of the test's."""
    wanted, found = f"sleep\0{SLEEP_S}\0".encode(), []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and Path("/proc", name, "cmdline").read_bytes() == wanted:
                found.append(int(name))
    return found


def poll(condition: Callable[[], object], within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)


def test_in_an_empty_folder_it_shows_brief_cost_proposal_and_diff_and_leaves_nothing(
    hostile: Path, marked: Left
) -> None:
    arena = toy_arena(hostile, [edit("WIDTH", 16)])
    before = everything(arena)
    done = arena.ralph("agent", "try", "script")
    assert done.status == 0, done
    assert "WIDTH = 16, because it is the 1th idea" in done.out
    assert "+WIDTH = 16" in done.out
    assert "the loop would run this" in done.out
    assert "calls" in done.out
    assert "tokens" in done.out
    assert everything(arena) == before
    assert git(arena.root, "worktree", "list").count("\n") == 0
    assert git(arena.root, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
    assert marked() == []


@pytest.mark.slow
def test_the_brief_is_the_next_experiments_and_can_be_printed_whole(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16), edit("WIDTH", 32)])
    assert arena.loop(1).status == 0
    ledger = (arena.root / "state" / "ledger.jsonl").read_bytes()
    done = arena.ralph("agent", "try", "script", "--brief")
    assert done.status == 0, done
    assert "# Brief for experiment 2 of" in done.out
    assert "tried WIDTH = 16 in experiment 1" in done.out
    assert "+WIDTH = 32" in done.out
    assert (arena.root / "state" / "ledger.jsonl").read_bytes() == ledger
    assert arena.loop(2).status == 0
    stored = (arena.root / "state" / "experiments" / "000002" / "brief-1.md").read_text()
    same = [line for line in stored.splitlines() if line.strip()]
    assert [line for line in same if line.rstrip() not in done.out] == []


@pytest.mark.slow
def test_the_tuner_can_be_tried_with_and_without_a_history(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)])
    first = json.loads(arena.ralph("agent", "try", "tuner", "--json").out)
    assert (first["accepted"], first["agent"], first["experiment"]) == (True, "tuner", 1)
    assert first["diff"].startswith("diff --git")
    assert first["proposal"]["hypothesis"]
    assert first["brief_tokens"] > 100
    assert arena.loop(1).status == 0
    second = json.loads(arena.ralph("agent", "try", "tuner", "--json").out)
    assert (second["accepted"], second["experiment"]) == (True, 2)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        ({"proposal": {"hypothesis": "nothing"}}, "nothing was changed"),
        ({"constants": {"train.py:WIDTH": 9}, "proposal_none": True}, "wrote no"),
        ({"write": {"train.py": "def\n"}}, "does not parse"),
    ],
)
def test_what_the_loop_would_refuse_ends_with_status_1_and_the_reason(
    step: dict[str, object], reason: str, tmp_path: Path
) -> None:
    arena = toy_arena(tmp_path / "arena", [step])
    done = arena.ralph("agent", "try", "script")
    assert done.status == 1, done
    assert reason in done.out
    assert reason in done.err
    assert not list((arena.root / "state").glob("try/*"))


@pytest.mark.slow
def test_a_proposal_that_was_tried_already_would_be_refused(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)])
    assert arena.loop(1).status == 0
    done = arena.ralph("agent", "try", "script")
    assert done.status == 1, done


@pytest.mark.slow
def test_with_keep_brief_and_log_stay_and_the_worktree_does_not(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)])
    kept = json.loads(arena.ralph("agent", "try", "script", "--keep", "--json").out)
    folder = Path(kept["folder"])
    assert (folder / "brief-1.md").read_text() == kept["brief"]
    assert (folder / "agent-1" / "log.txt").exists()
    assert git(arena.root, "worktree", "list").count("\n") == 0
    assert arena.ralph("agent", "try", "script").status == 0
    assert folder.exists(), "a later try does not take it for litter"


def test_an_unknown_agent_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    done = toy_arena(tmp_path / "arena", []).ralph("agent", "try", "claude")
    assert done.status == 2
    assert "known: script, tuner" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_ends_the_agent_and_leaves_nothing(number: signal.Signals, hostile: Path, marked: Left) -> None:
    arena = toy_arena(hostile, [], toml=WITH_SLEEPER)
    before = everything(arena)
    process = subprocess.Popen(arena.argv("agent", "try", "mine"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        poll(sleepers)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert b"interrupted" in err
    assert marked() == []
    assert sleepers() == []
    assert everything(arena) == before
    assert git(arena.root, "worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_after_a_kill_the_next_try_takes_the_litter_away(tmp_path: Path, marked: Left) -> None:
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)], toml=WITH_SLEEPER)
    process = subprocess.Popen(arena.argv("agent", "try", "mine"), stdout=subprocess.DEVNULL)
    poll(sleepers)
    process.kill()
    process.wait()
    poll(lambda: not marked() and not sleepers())
    assert list((arena.root / "state").glob("try/*"))
    assert arena.ralph("agent", "try", "script").status == 0
    assert not list((arena.root / "state").glob("try/*"))
    assert git(arena.root, "worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_it_works_beside_a_supervisor_and_disturbs_nothing(tmp_path: Path, marked: Left) -> None:
    """The supervisor's own agent is at work in the worktree of the very experiment that the try is for."""
    slow = {**edit("WIDTH", 16), "sleep_s": 15}
    arena = toy_arena(
        tmp_path / "arena",
        [slow, edit("WIDTH", 4)],
        toml=TOML.replace("repairs = 0", "repairs = 0\nbrief_tokens = 4000"),
    )
    loop = subprocess.Popen(
        arena.argv("loop", "--max-experiments", "1"), env={**os.environ, **arena.environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        poll(lambda: (arena.root / "state" / "experiments" / "000001" / "agent-1" / "lock").exists(), within_s=60)
        assert holder(arena.root / "state" / "supervisor.lock") == loop.pid
        tried = json.loads(arena.ralph("agent", "try", "script", "--json").out)
        assert tried["accepted"] is True
        assert tried["experiment"] == 2
        assert loop.poll() is None, "the loop is still at work"
        out, err = loop.communicate(timeout=60)
    finally:
        loop.kill()
        loop.wait()
    assert loop.returncode == 0, (out, err)
    assert arena.json("log")[1]["verdict"] in ("keep", "discard")
    assert marked() == []


@pytest.mark.slow
def test_a_budget_that_is_spent_allows_no_try(tmp_path: Path) -> None:
    toml = TOML + '\n[agents.paid]\nkind = "openai"\nmodel = "m"\nmax_usd = 0.000001\n'
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)], toml=toml)
    assert arena.loop(1).status == 0
    ledger = FileLedger(arena.root / "state" / "ledger.jsonl", lambda: datetime.now(UTC))
    base = git(arena.root, "rev-parse", "HEAD")
    ledger.append(Briefed(id=2, base=base, agent="paid"))
    ledger.append(AgentEnded(id=2, attempt=1, outcome=AgentOutcome.NOTHING, reason="x", seconds=1.0, usd=1.0, tokens=9))
    ledger.close()
    done = arena.ralph("agent", "try", "paid", env={"OPENAI_API_KEY": "a key of nobody"})
    assert done.status == 2
    assert "are spent" in done.err


def test_a_try_without_the_providers_key_says_which_variable_is_missing(tmp_path: Path) -> None:
    toml = TOML + '\n[agents.paid]\nkind = "openai"\nmodel = "m"\nkey = "A_VARIABLE_THAT_IS_NOT_SET"\n'
    done = toy_arena(tmp_path / "arena", [], toml=toml).ralph("agent", "try", "paid")
    assert done.status == 2
    assert "A_VARIABLE_THAT_IS_NOT_SET" in done.err


@pytest.mark.slow
def test_the_agent_of_a_try_can_ask_what_was_tried(tmp_path: Path) -> None:
    asking = '\n[agents.asking]\nkind = "command"\ncommand = "python -m ralph recall WIDTH"\n'
    arena = toy_arena(tmp_path / "arena", [edit("WIDTH", 16)], toml=TOML + asking)
    assert arena.loop(1).status == 0
    done = arena.ralph("agent", "try", "asking", "--keep", "--json")
    assert done.status == 1
    log = Path(json.loads(done.out)["folder"]) / "agent-1" / "log.txt"
    assert "WIDTH = 16, because it is the 1th idea" in log.read_text()


def test_a_login_in_the_users_home_is_out_of_sight_in_a_try(tmp_path: Path) -> None:
    if reached(SandboxLevel.BWRAP).level is not SandboxLevel.BWRAP:
        pytest.skip("without bubblewrap nothing is out of sight")
    home = tmp_path / "arena" / "home"  # within what agents may read
    login = home / ".claude" / ".credentials.json"
    login.parent.mkdir(parents=True)
    login.write_text("a login")
    looking = f'\n[agents.looking]\nkind = "command"\ncommand = "cat {login} {home}/other {home}/more/file"\n'
    looking += '[sandbox]\nvisible = ["home/more"]\n'
    (home / "more").mkdir()
    (home / "more" / "file").write_text("can be read")
    (home / "other").write_text("a diary")
    arena = toy_arena(tmp_path / "arena", [], toml=TOML + looking)
    done = arena.ralph("agent", "try", "looking", "--keep", "--json", env={"HOME": str(home)})
    log = (Path(json.loads(done.out)["folder"]) / "agent-1" / "log.txt").read_text()
    assert "can be read" in log, "what the arena shows of it"
    assert "a diary" not in log
    assert "a login" not in log


def test_what_should_be_shown_of_the_home_has_to_exist(tmp_path: Path) -> None:
    arena = toy_arena(tmp_path / "arena", [], toml=TOML + '\n[sandbox]\nvisible = ["~/nowhere"]\n')
    done = arena.ralph("agent", "try", "script", env={"HOME": str(tmp_path)})
    assert done.status == 2
    assert f"sandbox.visible names {tmp_path}/nowhere, which does not exist" in done.err
