"""A run whose process is started before its device is free: it imports and waits; adopted, dropped, dead, dishonest.

Without the starting gun it waits where its command would begin.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from ralph.adapters.compiled import CompileCache
from ralph.adapters.device.watched import Care, DeviceRunner
from ralph.adapters.domains import Domains
from ralph.adapters.git import GitRepo
from ralph.adapters.leftovers import holders
from ralph.adapters.runner import LocalRunner
from ralph.adapters.sandbox import SandboxLevel
from ralph.adapters.scripted.device import QUIET, ScriptedDevice
from ralph.config import RunTable
from ralph.events import RunEnded
from ralph.layout import Layout
from ralph.model import CrashKind, Outcome
from ralph.ports import Job, RunOrder
from tests.conftest import git

WITHIN_S = 30.0
TRAIN = """\
import json, os, pathlib, select, socket, sys, time

out = pathlib.Path(os.environ["RALPH_RUN_DIR"])
if MODE == "plain":
    (out / "imported").write_text(repr((os.environ["RALPH_SEED"], sys.stdin.read())))
    print(f"val_bpb: {time.time()}")
    sys.exit()
gun = socket.socket(fileno=int(os.environ["RALPH_GUN_FD"]))

def say(packet):
    gun.send(json.dumps(packet).encode())
    return json.loads(socket.recv_fds(gun, 65536, 4)[0] or "{}")

(out / "imported").write_text(os.environ["RALPH_SEED"])
if MODE == "dies":
    sys.exit("ImportError: it died while it waited")
if MODE != "hasty":
    (out / "device").write_text(say({"device": {}})["device"])
if MODE == "hangs":
    select.select([], [], [])
say({"ready": {}})
if MODE == "trains":
    while not (out.parents[2] / "enough").exists():
        select.select([], [], [], 0.01)
gun.send(json.dumps({"stopped": {"steps": 1}}).encode())
pathlib.Path(os.environ["RALPH_ARTIFACT"]).write_text("artifact")
"""
MODES = ("waits", "dies", "hasty", "hangs", "trains", "plain")
RUN = RunTable(command="python train.py", gate=True, early=True, budget_s=60, setup_s=30, export_s=10, grace_s=1)
UNGATED = RUN.model_copy(update={"gate": False, "early": False})


class Bench:
    """A repository with one commit for each way to behave, and runners on it."""

    def __init__(self, root: Path, train: str = TRAIN, modes: Sequence[str] = MODES) -> None:
        self.train, self.modes, self.level = train, modes, SandboxLevel.NONE
        self.layout = Layout(root=root, arena=root)
        self.commits: dict[str, str] = {}
        self.runners: list[LocalRunner] = []
        self.repo = GitRepo(root, self.layout.trees, ("train.py",)) if (root / ".git").exists() else self._made(root)

    def _made(self, root: Path) -> GitRepo:
        git(root, "init", "-q", "-b", "main")
        for mode in self.modes:
            (root / "train.py").write_text(f"MODE = {mode!r}\n{self.train}")
            git(root, "add", "train.py")
            git(root, "commit", "-q", "-m", mode)
            self.commits[mode] = git(root, "rev-parse", "HEAD")
        return GitRepo(root, self.layout.trees, ("train.py",))

    def runner(
        self,
        run: RunTable = RUN,
        device: str = "cuda:0",
        compiled: CompileCache | None = None,
    ) -> LocalRunner:
        domains = Domains(self.level, visible=(self.layout.root,), hidden=(self.layout.state,))
        self.runners.append(
            LocalRunner(
                layout=self.layout,
                repo=self.repo,
                run=run,
                device=device,
                data=None,
                domains=domains,
                compiled=compiled,
            )
        )
        return self.runners[-1]

    def order(self, id_: int, mode: str, seed: int | None = None, run: int = 1) -> RunOrder:
        tree = f"{id_}-{run}-{mode}"
        self.repo.checkout(tree, self.commits[mode])
        return RunOrder(id=id_, run=run, seed=seed or 1000 * id_ + run, commit=self.commits[mode], tree=tree)

    def out(self, order: RunOrder) -> Path:
        return self.layout.run(order.id, order.run) / "out"

    def imported(self, order: RunOrder) -> str:
        """Wait until its process has imported; the seed that it was told."""
        said = self.out(order) / "imported"
        wait_until(lambda: said.exists() and said.read_text() != "")
        return said.read_text()

    def lives(self, order: RunOrder) -> bool:
        return bool(holders(self.layout.run(order.id, order.run)))


@pytest.fixture
def bench(hostile: Path, subreaper: None) -> Iterator[Bench]:
    made = Bench(hostile)
    yield made
    for runner in made.runners:
        runner.drop()
    assert not [path for path in made.layout.experiments.rglob("run-*") if holders(path)]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


def finish(job: Job[RunEnded]) -> RunEnded:
    """Poll it as the loop does: whenever its descriptor says so."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if (ended := job.poll()) is not None:
            return ended
        if (fd := job.fileno()) is not None:
            select.select([fd], [], [], 1.0)
    raise AssertionError("the job does not end")


def test_it_imports_while_another_trains_and_waits_for_its_device(bench: Bench) -> None:
    runner = bench.runner()
    first, second = bench.order(1, "trains"), bench.order(2, "waits")
    job = runner.start(first)
    wait_until(lambda: job.poll() is None and (news := job.news()) is not None and news.stage == "training")
    runner.prepare(second)
    assert runner.prepared(second)
    assert bench.imported(second) == "2001"
    assert not (bench.out(second) / "device").exists()
    (bench.layout.experiments / "enough").write_text("")
    assert finish(job).outcome is Outcome.OK
    assert bench.lives(second)
    assert not (bench.out(second) / "device").exists(), "nobody gave it the device yet"
    ended = finish(runner.start(second))
    assert (ended.outcome, ended.reason) == (Outcome.OK, "")
    assert (bench.out(second) / "device").read_text() == "cuda:0"


def test_an_adopted_run_is_the_very_process_that_waited_and_its_clocks_begin_with_its_run(bench: Bench) -> None:
    runner, order = bench.runner(), bench.order(1, "waits")
    runner.prepare(order)
    bench.imported(order)
    pid = runner.waiting()[order]
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.5)
    job = runner.start(order)
    assert job.pid == pid
    assert not runner.prepared(order)
    ended = finish(job)
    early_s = ended.record["early_s"]
    assert isinstance(early_s, float)
    assert early_s >= 0.5
    assert ended.setup_s < early_s + 10
    assert ended.seconds == pytest.approx(ended.setup_s + ended.train_s + ended.export_s, abs=0.01)


def test_preparing_once_more_changes_nothing(bench: Bench) -> None:
    runner, order = bench.runner(), bench.order(1, "waits")
    runner.prepare(order)
    pid = runner.waiting()[order]
    runner.prepare(order)
    assert runner.waiting() == {order: pid}


def test_another_seed_or_commit_is_another_run_and_the_prepared_process_is_gone_before_it(bench: Bench) -> None:
    runner, order = bench.runner(), bench.order(1, "waits")
    for other in (bench.order(1, "waits", seed=77), bench.order(1, "hasty")):
        runner.prepare(order)
        bench.imported(order)
        pid = runner.waiting()[order]
        job = runner.start(other)
        assert job.pid != pid
        assert not Path(f"/proc/{pid}").exists()
        assert bench.imported(other) == str(other.seed)
        finish(job)
        assert runner.waiting() == {}


def test_another_order_of_the_same_run_takes_the_place_of_the_prepared_one(bench: Bench) -> None:
    runner, order, other = bench.runner(), bench.order(1, "waits"), bench.order(1, "waits", seed=77)
    runner.prepare(order)
    runner.prepare(other)
    assert (runner.prepared(order), runner.prepared(other)) == (False, True)
    assert bench.imported(other) == "77"


def test_what_is_dropped_is_gone_with_its_folder_and_others_stay(bench: Bench) -> None:
    runner, order, other = bench.runner(), bench.order(1, "waits"), bench.order(2, "waits")
    for each in (order, other):
        runner.prepare(each)
        bench.imported(each)
    pid = runner.waiting()[order]
    runner.drop(order)
    assert not Path(f"/proc/{pid}").exists()
    assert not bench.layout.run(1, 1).exists()
    assert runner.prepared(other)
    runner.drop()
    assert not bench.layout.run(2, 1).exists()
    runner.drop()


def test_a_candidate_that_dies_while_it_waits_crashes_when_its_run_begins(bench: Bench) -> None:
    runner, order = bench.runner(), bench.order(1, "dies")
    runner.prepare(order)
    bench.imported(order)
    wait_until(lambda: (bench.layout.run(1, 1) / "exit.json").exists())
    assert runner.prepared(order)
    ended = finish(runner.start(order))
    assert (ended.outcome, ended.crash) == (Outcome.CRASH, CrashKind.EXCEPTION)
    assert "it died while it waited" in ended.tail
    assert ended.seconds == 0.0, "it had no device"


@pytest.mark.parametrize("early", [True, False])
def test_one_that_is_ready_without_having_asked_for_its_device_crashes_with_that_reason(
    bench: Bench, early: bool
) -> None:
    """Whether it was prepared or not: else the verdict would depend on what else went on."""
    runner, order = bench.runner(), bench.order(1, "hasty")
    if early:
        runner.prepare(order)
        bench.imported(order)
    ended = finish(runner.start(order))
    assert (ended.outcome, ended.crash) == (Outcome.CRASH, CrashKind.EXCEPTION)
    assert "without having asked for its device" in ended.reason
    assert ended.train_s == 0


def test_where_early_is_false_no_command_begins_before_its_run_and_nobody_has_to_ask(bench: Bench) -> None:
    plain = RUN.model_copy(update={"early": False})
    runners = (bench.runner(plain), bench.runner(RUN, device="cpu"), bench.runner(RUN, device="none"))
    for id_, runner in enumerate(runners, 1):
        order = bench.order(id_, "hasty")
        runner.prepare(order)
        wait_until(lambda order=order: shell_of(bench, order) != 0)  # type: ignore[misc]
        assert list(bench.out(order).iterdir()) == []
        ended = finish(runner.start(order))
        assert ended.outcome is Outcome.OK
        assert ended.setup_s < 10


def test_a_run_that_asks_where_it_need_not_is_answered_at_once(bench: Bench) -> None:
    runner, order = bench.runner(RUN.model_copy(update={"early": False})), bench.order(1, "waits")
    assert finish(runner.start(order)).outcome is Outcome.OK
    assert (bench.out(order) / "device").read_text() == "cuda:0"


def test_waiting_costs_no_set_up_time_but_hanging_afterwards_does(bench: Bench) -> None:
    runner, order = bench.runner(RUN.model_copy(update={"setup_s": 0.5})), bench.order(1, "hangs")
    runner.prepare(order)
    bench.imported(order)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 1.0)
    assert bench.lives(order), "no clock of its set-up runs yet"
    ended = finish(runner.start(order))
    assert (ended.outcome, ended.crash) == (Outcome.CRASH, CrashKind.DEADLINE)
    assert ended.reason == "not ready within setup_s = 0.5 s"


def test_one_that_was_at_work_on_the_device_before_its_turn_is_invalid_and_not_prepared_again(bench: Bench) -> None:
    first, second = bench.order(1, "trains"), bench.order(2, "waits")
    device = ScriptedDevice(samples=[replace(QUIET, early=(1,))], sample_s=0.05)
    local = bench.runner()
    runner = DeviceRunner(local, device, Care())
    job = runner.start(first)
    runner.prepare(second)
    assert local.waiting()
    wait_until(lambda: job.poll() is None and not local.waiting() and not bench.lives(second))
    runner.prepare(second)
    assert local.waiting() == {}, "it is not started a second time, to disturb once more"
    (bench.layout.experiments / "enough").write_text("")
    assert finish(job).outcome is Outcome.OK
    ended = finish(runner.start(second))
    assert (ended.outcome, ended.crash) == (Outcome.INVALID, None)
    assert ended.reason == "it was at work on cuda:0 before it was given it; see docs/runs.md"


def test_after_kill_minus_nine_it_is_gone_and_a_restart_finds_no_half_used_remains(bench: Bench) -> None:
    order, died = bench.order(1, "waits"), bench.order(2, "dies")
    orders = [json.dumps(asdict(each)) for each in (order, died)]
    command = [sys.executable, "-m", "tests.adapters.preparing", str(bench.layout.root), *orders]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "prepared\n"
        for each in (order, died):
            bench.imported(each)
        wait_until(lambda: (bench.layout.run(2, 1) / "exit.json").exists())
        os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not bench.lives(order))
    runner = bench.runner()
    assert runner.remains(order) is None
    assert runner.remains(died) is None
    assert finish(runner.start(order)).outcome is Outcome.OK


def shell_of(bench: Bench, order: RunOrder) -> int:
    """The shell that waits to become the command of this run; 0 while it is not there."""
    for pid, _ in holders(bench.layout.run(order.id, order.run)):
        with contextlib.suppress(OSError):  # it has ended
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"/bin/sh\0-c\0read"):
                return pid
    return 0


def test_without_the_gun_a_command_that_is_prepared_does_not_begin_before_its_run(bench: Bench) -> None:
    runner, order = bench.runner(UNGATED, device="none"), bench.order(1, "plain")
    runner.prepare(order)
    assert runner.prepared(order)
    wait_until(lambda: shell_of(bench, order) != 0)
    pid, began = runner.waiting()[order], time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.5)
    assert bench.lives(order)
    assert list(bench.out(order).iterdir()) == []
    released = time.time()
    job = runner.start(order)
    assert job.pid == pid
    ended = finish(job)
    assert (ended.outcome, ended.reason) == (Outcome.OK, "")
    assert bench.imported(order) == repr(("1001", ""))
    said = (bench.layout.run(1, 1) / "log.txt").read_text()
    assert float(said.removeprefix("val_bpb: ")) >= released
    early_s = ended.record["early_s"]
    assert isinstance(early_s, float)
    assert early_s >= 0.5
    assert ended.seconds < time.time() - released + 0.1, "its clock began with its run"


def test_the_deadline_of_one_that_was_prepared_counts_from_its_beginning(bench: Bench) -> None:
    run = UNGATED.model_copy(
        update={"command": "sleep 60", "budget_s": 0.2, "setup_s": 0.1, "export_s": 0.1, "grace_s": 0.1}
    )
    runner, order = bench.runner(run, device="none"), bench.order(1, "plain")
    runner.prepare(order)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.8)
    assert bench.lives(order)
    ended = finish(runner.start(order))
    assert (ended.outcome, ended.crash) == (Outcome.CRASH, CrashKind.DEADLINE)
    assert 0.4 < ended.seconds < 20


def test_one_that_never_began_is_no_remains_of_a_run_and_one_that_did_and_ended_is(bench: Bench) -> None:
    """As a killed supervisor leaves them, if the shim saw the shell's end before it saw that of the supervisor."""
    runner, never, ended = bench.runner(UNGATED, device="none"), bench.order(1, "plain"), bench.order(2, "plain")
    runner.prepare(never)
    wait_until(lambda: shell_of(bench, never) != 0)
    os.kill(shell_of(bench, never), signal.SIGKILL)
    wait_until(lambda: (bench.layout.run(1, 1) / "exit.json").exists())
    assert bench.runner(UNGATED, device="none").remains(never) is None
    runner.prepare(ended)
    told = finish(runner.start(ended))
    assert bench.runner(UNGATED, device="none").remains(ended) == told


def test_after_kill_minus_nine_one_that_is_held_is_gone(bench: Bench) -> None:
    order = bench.order(1, "plain")
    command = [sys.executable, "-m", "tests.adapters.preparing", str(bench.layout.root), json.dumps(asdict(order))]
    environment = {**os.environ, "UNGATED": "1"}
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, env=environment
    ) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "prepared\n"
        wait_until(lambda: shell_of(bench, order) != 0)
        os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not bench.lives(order))
    runner = bench.runner(UNGATED, device="none")
    assert runner.remains(order) is None
    assert finish(runner.start(order)).outcome is Outcome.OK
