"""The scripted agent does exactly what its script says, the forbidden included, as a real process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ralph.adapters.agents.contract import ContractError
from ralph.adapters.agents.script import Script, Step, read_script

TRAIN = "LR = 0.02  # per step\nDEPTH = 4\n"


class Agent:
    """Starts the scripted agent in a worktree of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = folder / "tree with 'quotes' and ü"
        self.tree.mkdir()
        (self.tree / "train.py").write_text(TRAIN)

    def command(self, *lines: object, id: int = 1, attempt: int = 1) -> tuple[list[str], dict[str, str]]:  # noqa: A002
        script = self.folder / "script.jsonl"
        script.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
        facts = self.folder / "facts.json"
        facts.write_text(json.dumps({"id": id, "attempt": attempt, "editable": ["train.py"]}))
        given = {"RALPH_FACTS": str(facts), "RALPH_PROPOSAL": ".ralph/proposal.json"}
        return [sys.executable, "-m", "ralph.adapters.agents.scripted", str(script)], {**os.environ, **given}

    def run(self, *lines: object, id: int = 1, attempt: int = 1) -> subprocess.CompletedProcess[str]:  # noqa: A002
        command, env = self.command(*lines, id=id, attempt=attempt)
        return subprocess.run(command, cwd=self.tree, env=env, capture_output=True, text=True, timeout=60, check=False)

    @property
    def train(self) -> str:
        return (self.tree / "train.py").read_text()

    @property
    def proposal(self) -> Any:
        return json.loads((self.tree / ".ralph" / "proposal.json").read_text())


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


@pytest.fixture
def reap() -> Iterator[list[int]]:
    """Processes that a test let loose; they are gone after it, whatever happened."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)


def until(ready: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_step_edits_files_and_writes_a_proposal(agent: Agent) -> None:
    done = agent.run(
        {
            "replace": [{"file": "train.py", "old": "DEPTH = 4", "new": "DEPTH = {id}{attempt}"}],
            "constants": {"train.py:LR": 0.03},
            "write": {"notes/a.txt": "by {id}"},
            "links": {"link": "train.py"},
            "proposal": {"hypothesis": "{id} because, expect", "learnings": []},
        },
        id=1,
        attempt=2,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert agent.train == "LR = 0.03  # per step\nDEPTH = 12\n"
    assert (agent.tree / "notes/a.txt").read_text() == "by 1"
    assert (agent.tree / "link").readlink() == Path("train.py")
    assert agent.proposal == {"hypothesis": "1 because, expect", "learnings": []}


def test_without_a_word_about_it_the_proposal_is_a_plain_one(agent: Agent) -> None:
    assert agent.run({"delete": ["train.py"]}).returncode == 0
    assert not (agent.tree / "train.py").exists()
    assert agent.proposal["hypothesis"].startswith("step 1 of the script")


def test_a_proposal_may_be_missing_or_malformed(agent: Agent) -> None:
    assert agent.run({"proposal_none": True}).returncode == 0
    assert not (agent.tree / ".ralph").exists()
    assert agent.run({"proposal_text": "{not json"}).returncode == 0
    assert (agent.tree / ".ralph/proposal.json").read_text() == "{not json"
    assert agent.run({"proposal": ["a", 1]}).returncode == 0
    assert agent.proposal == ["a", 1]


def test_the_step_follows_from_experiment_and_attempt_alone() -> None:
    steps = tuple(tuple(Step(exit=10 * n + a) for a in (1, 2)) for n in (1, 2))

    def exits(script: Script, *wanted: tuple[int, int]) -> list[int | None]:
        found = [script.step(number, attempt) for number, attempt in wanted]
        return [None if s is None else s.exit for s in found]

    asked = ((1, 1), (1, 2), (1, 9), (2, 1), (3, 1), (4, 2))
    assert exits(Script(steps=steps), *asked) == [11, 12, 12, 21, 21, 22]
    assert exits(Script(steps=steps, after="cycle"), *asked) == [11, 12, 12, 21, 11, 22]
    assert exits(Script(steps=steps, after="fail"), *asked) == [11, 12, 12, 21, None, None]


def test_a_file_may_have_a_header_comments_and_attempts(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('# a comment\n{"after": "cycle"}\n\n[{"exit": 1}, {"exit": 2}]\n{}\n')
    script = read_script(path)
    assert script.after == "cycle"
    assert [[s.exit for s in attempts] for attempts in script.steps] == [[1, 2], [0]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"exits": 1}', "s.jsonl:1: exits: Extra inputs are not permitted. Known keys: ignore_term"),
        ('{}\n{"sleep_s": -1}', "s.jsonl:2: sleep_s"),
        ('{}\n{"after": "cycle"}', "s.jsonl:2: after: Extra"),
        ('{"after": "never"}', "s.jsonl:1: after"),
        ('{"proposal_none": true, "proposal_text": "x"}', "exclude each other"),
        ("{", "s.jsonl:1: not JSON"),
        ("[]", "at least one step"),
        ("3", "s.jsonl:1"),
        ("# nothing", "has no step"),
    ],
)
def test_a_wrong_script_is_refused_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text)
    with pytest.raises(ContractError, match=told.replace(".", r"\.")):
        read_script(path)


def test_each_failure_has_its_status(agent: Agent) -> None:
    assert agent.run({"unknown": 1}).returncode == 2
    assert agent.run({"replace": [{"file": "train.py", "old": "= ", "new": "x"}]}).returncode == 3
    assert agent.run({"delete": ["nothing here"]}).returncode == 3
    assert agent.run({"constants": {"train.py:WIDTH": 3}}).returncode == 3
    assert agent.run({"after": "fail"}, {}, id=2).returncode == 4
    assert agent.run({"exit": 7}).returncode == 7
    crashed = agent.run({"crash": True})
    assert crashed.returncode == 1
    assert "RuntimeError" in crashed.stderr
    assert agent.run({"signal": int(signal.SIGSEGV)}).returncode == -signal.SIGSEGV
    assert agent.run({"signal": int(signal.SIGKILL)}).returncode == -signal.SIGKILL
    assert agent.train == TRAIN


def test_it_can_commit_by_itself(agent: Agent) -> None:
    subprocess.run(["git", "init", "-q"], cwd=agent.tree, check=True)
    assert agent.run({"constants": {"train.py:LR": 0.5}, "commit": "mine"}).returncode == 0
    log = subprocess.run(["git", "log", "--format=%s"], cwd=agent.tree, check=True, capture_output=True, text=True)
    assert log.stdout == "mine\n"


def test_it_can_flood_its_output(agent: Agent) -> None:
    done = agent.run({"output": {"bytes": 3_000_001, "to": "stderr"}})
    assert (len(done.stderr), len(done.stdout), done.returncode) == (3_000_001, 0, 0)


def test_it_can_ignore_term_while_it_sleeps(agent: Agent) -> None:
    command, env = agent.command({"ignore_term": True, "sleep_s": 60})
    with subprocess.Popen(command, cwd=agent.tree, env=env) as process:
        assert until((agent.tree / ".ralph/proposal.json").exists)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.kill()
        assert process.wait(timeout=10) == -signal.SIGKILL


def test_a_daemon_outlives_it_in_a_session_of_its_own(agent: Agent, reap: list[int]) -> None:
    command, env = agent.command({"daemons": [{"seconds": 60, "ignore_term": True}]})
    env["RALPH_TEST_MARK"] = mark = f"{os.getpid()}-{time.monotonic_ns()}"
    with subprocess.Popen(command, cwd=agent.tree, env=env, stdout=subprocess.DEVNULL) as process:
        assert process.wait(timeout=30) == 0
    reap += [p.pid for p in psutil.process_iter() if _mark(p) == mark]
    assert len(reap) == 1
    assert os.getsid(reap[0]) not in (os.getsid(0), reap[0])
    assert until(lambda: _ignores(reap[0], signal.SIGTERM))


def _mark(process: psutil.Process) -> str:
    try:
        return process.environ().get("RALPH_TEST_MARK", "")
    except psutil.Error:
        return ""


def _ignores(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
    return bool(mask >> (number - 1) & 1)
