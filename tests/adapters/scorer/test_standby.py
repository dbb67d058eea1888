"""A scorer that is started while its run exports: it imports and waits; adopted, dropped, dead, attacked."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.adapters.data import PreparedData
from ralph.adapters.domains import Domains, Start, log_of
from ralph.adapters.leftovers import holders
from ralph.adapters.run_at_work import OUT
from ralph.adapters.runner import ARTIFACT
from ralph.adapters.sandbox import SandboxLevel, reached
from ralph.adapters.scoring import SCORER, ArenaScorer
from ralph.adapters.seal import Seal
from ralph.config import parse
from ralph.events import Scored
from ralph.front.campaign import scorer_source
from ralph.layout import Layout
from ralph.model import CrashKind, Outcome
from ralph.ports import Job, ScoreOrder
from tests.adapters.scorer.graphs import answer, make_bench, save_honest

LEVEL = reached(SandboxLevel.BWRAP).level
WITHIN_S = 100.0
ORDER = ScoreOrder(id=3, run=1, seed=7, commit="c3")
# A sealed program that says what it found: whether torch was there already, what it was told, what it can still read.
PROGRAM = b"""\
import json, pathlib, sys
imported = "torch" in sys.modules
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
score = float(pathlib.Path(told["--artifact"]).read_text())
metrics = {"imported": imported, "seed": int(told["--seed"]), "data": pathlib.Path(told["--data"]).read_text()}
metrics |= {"split": told["--split"], "stdin": sys.stdin.read(), "name": sys.argv[0], "main": __name__}
pathlib.Path(told["--out"]).write_text(json.dumps({"ok": True, "score": score, "metrics": metrics}))
"""

walled = pytest.mark.skipif(LEVEL is SandboxLevel.NONE, reason="without a sandbox no scorer is started early")
pytestmark = pytest.mark.usefixtures("subreaper")


class Scoring:
    """The folders of a campaign with one run, and scorers of it."""

    def __init__(self, root: Path, level: SandboxLevel, program: bytes = PROGRAM) -> None:
        self.layout = Layout(root=root, arena=root)
        self.domains = Domains(level, visible=(), hidden=(self.layout.state,))
        self.out = self.layout.run(ORDER.id, ORDER.run) / OUT
        self.folder = self.layout.score(ORDER.id, ORDER.run)
        self.out.mkdir(parents=True, exist_ok=True)
        self.data = root / "data" / "data.json"
        self.data.parent.mkdir(exist_ok=True)
        self.seal = Seal(self.layout.sealed("0" * 64))
        self.seal.make({SCORER: program})
        self.scorers: list[ArenaScorer] = []

    def scorer(self, *, mode: str = "sealed", timeout_s: float = WITHIN_S) -> ArenaScorer:
        score = {"mode": mode, "timeout_s": timeout_s} | ({"command": "python score.py"} if mode == "command" else {})
        data = PreparedData(name="toy", sha256="", descriptor=self.data, audit=True)
        self.scorers.append(
            ArenaScorer(
                layout=self.layout,
                config=parse({"score": score, "data": {"command": "python prepare.py"}}),
                device="cpu",
                data=data,
                seal=self.seal,
                domains=self.domains,
            )
        )
        return self.scorers[-1]

    def run_ends(self, artifact: str = "1.5") -> None:
        """What there is to score is there only now."""
        (self.out / ARTIFACT).write_text(artifact)
        self.data.write_text("prepared")

    def waiting(self, folder: Path | None = None) -> int:
        """The process that waits, or imports in order to; 0 while it is not there."""
        for pid, _ in holders(folder or self.folder):
            with contextlib.suppress(OSError):  # it has ended
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[1:4] == [b"-P", b"-m", b"ralph.adapters.scorer.standby"]:
                    return pid
        return 0

    def imported(self) -> int:
        """Wait until it has torch; the process."""
        wait_until(lambda: self.waiting() != 0)
        pid = self.waiting()
        wait_until(lambda: "libtorch_python" in Path(f"/proc/{pid}/maps").read_text())
        return pid


@pytest.fixture
def scoring(hostile: Path) -> Iterator[Scoring]:
    made = Scoring(hostile, LEVEL)
    yield made
    for scorer in made.scorers:
        scorer.drop()
    assert not [path for path in made.layout.experiments.rglob("score-*") if holders(path)]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not true():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)


def finish(job: Job[Scored]) -> Scored:
    """Poll it as the loop does: whenever its descriptor says so."""
    deadline = time.monotonic() + WITHIN_S
    while time.monotonic() < deadline:
        if (scored := job.poll()) is not None:
            return scored
        if (fd := job.fileno()) is not None:
            select.select([fd], [], [], 1.0)
    raise AssertionError("the job does not end")


def start_when_imported(scoring: Scoring, scorer: ArenaScorer) -> Scored:
    scorer.prepare(ORDER)
    scoring.imported()
    scoring.run_ends()
    return finish(scorer.start(ORDER))


@walled
def test_it_imports_while_there_is_no_program_artifact_or_data_yet_and_reads_them_when_it_is_released(
    scoring: Scoring,
) -> None:
    scorer = scoring.scorer()
    (scoring.seal.folder / SCORER).unlink()
    scored = start_when_imported(scoring, scorer)
    assert (scored.outcome, scored.reason, scored.score) == (Outcome.OK, "", 1.5)
    told = {"imported": True, "seed": 7, "data": "prepared", "split": "val", "stdin": "", "main": "__main__"}
    assert scored.metrics == {**told, "name": str(scoring.seal.folder / SCORER)}


@pytest.mark.slow
@walled
def test_a_program_that_was_changed_while_it_waited_is_put_right_before_it_is_read(scoring: Scoring) -> None:
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    (scoring.seal.folder / SCORER).write_bytes(PROGRAM.replace(b"float(", b"-float("))
    scoring.run_ends()
    assert finish(scorer.start(ORDER)).score == 1.5


@pytest.mark.slow
@walled
def test_waiting_does_not_count_in_its_seconds_nor_after_a_restart(scoring: Scoring) -> None:
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    scoring.imported()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 1.0)
    scoring.run_ends()
    released = time.monotonic()
    scored = finish(scorer.start(ORDER))
    assert 0 < scored.seconds < time.monotonic() - released + 0.1
    assert json.loads((scoring.folder / "exit.json").read_text())["seconds"] >= scored.seconds + 1.0
    assert scoring.scorer().remains(ORDER) == scored


@walled
def test_its_deadline_counts_from_its_release(scoring: Scoring) -> None:
    scoring.seal.make({SCORER: b"import time\ntime.sleep(60)\n"})
    scorer = scoring.scorer(timeout_s=0.3)
    scorer.prepare(ORDER)
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 0.6 and scoring.waiting() != 0)
    scoring.run_ends()
    scored = finish(scorer.start(ORDER))
    assert (scored.outcome, scored.reason) == (Outcome.VOID, "the scorer did not end within 0.3 s")


@walled
def test_the_real_scorer_gives_the_score_that_it_gives_without_having_waited(hostile: Path) -> None:
    data = hostile / "data"
    data.mkdir()
    bench = make_bench(data)
    save_honest(bench)
    scoring = Scoring(hostile, LEVEL, scorer_source())
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    (scoring.out / ARTIFACT).write_bytes(bench.artifact.read_bytes())
    scored = finish(scorer.start(ORDER))
    assert (scored.outcome, scored.reason) == (Outcome.OK, "")
    assert scored.score == pytest.approx(answer(bench, ORDER.seed)["score"], rel=1e-6)
    assert f'"score": {scored.score}' in log_of(scoring.folder).read_text(), "nothing that it said is lost"


@pytest.mark.slow
@walled
@pytest.mark.parametrize(
    ("ending", "reason"), [("raise SystemExit(3)", "status 3"), ("raise LookupError('a bug')", "LookupError: a bug")]
)
def test_one_that_fails_after_its_release_has_failed(scoring: Scoring, ending: str, reason: str) -> None:
    scoring.seal.make({SCORER: ending.encode()})
    scored = start_when_imported(scoring, scoring.scorer())
    assert scored.outcome is Outcome.VOID
    assert reason in scored.reason


@walled
def test_preparing_once_more_changes_nothing(scoring: Scoring) -> None:
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    wait_until(lambda: scoring.waiting() != 0)
    pid = scoring.waiting()
    scorer.prepare(ORDER)
    assert scoring.waiting() == pid


@walled
def test_another_order_on_the_same_artifact_takes_its_place_early_or_not(scoring: Scoring) -> None:
    scorer, other, third = scoring.scorer(), replace(ORDER, seed=8), replace(ORDER, seed=9)
    scorer.prepare(ORDER)
    wait_until(lambda: scoring.waiting() != 0)
    pid = scoring.waiting()
    scorer.prepare(other)
    assert not Path(f"/proc/{pid}").exists()
    wait_until(lambda: scoring.waiting() not in (0, pid))
    pid = scoring.waiting()
    scoring.run_ends()
    job = scorer.start(third)
    assert not Path(f"/proc/{pid}").exists()
    scored = finish(job)
    assert (scored.metrics["seed"], scored.metrics["imported"]) == (9, False)


@walled
def test_what_is_dropped_is_gone_with_its_folder_and_others_stay(scoring: Scoring) -> None:
    scorer, audit = scoring.scorer(), replace(ORDER, audit=1)
    place = scoring.layout.audit(ORDER.id, ORDER.run, 1)
    for order, folder in ((ORDER, scoring.folder), (audit, place)):
        scorer.prepare(order)
        wait_until(lambda folder=folder: scoring.waiting(folder) != 0)  # type: ignore[misc]
    pid = scoring.waiting()
    scorer.drop(ORDER)
    assert not Path(f"/proc/{pid}").exists()
    assert not scoring.folder.exists()
    assert scoring.waiting(place) != 0
    scorer.drop()
    assert not place.exists()
    scorer.drop()


@walled
def test_dropping_touches_nothing_of_a_scoring_that_began(scoring: Scoring) -> None:
    scorer = scoring.scorer()
    scoring.run_ends()
    scored = finish(scorer.start(ORDER))
    scorer.drop(ORDER)
    assert scorer.remains(ORDER) == scored


@walled
def test_one_that_died_while_it_waited_is_found_out_at_the_start_and_another_does_its_work(scoring: Scoring) -> None:
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    wait_until(lambda: scoring.waiting() != 0)
    os.kill(scoring.waiting(), signal.SIGKILL)
    wait_until(lambda: (scoring.folder / "exit.json").exists() and not holders(scoring.folder))
    scoring.run_ends()
    assert scorer.remains(ORDER) is None, "it was never released"
    scored = finish(scorer.start(ORDER))
    assert (scored.outcome, scored.score, scored.metrics["imported"]) == (Outcome.OK, 1.5, False)


@walled
def test_after_kill_minus_nine_it_is_gone_and_a_restart_begins_anew(scoring: Scoring) -> None:
    command = [sys.executable, "-m", "tests.adapters.scorer.standing_by", str(scoring.layout.root)]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "prepared\n"
        wait_until(lambda: scoring.waiting() != 0)
        os.kill(supervisor.pid, signal.SIGKILL)
    wait_until(lambda: not holders(scoring.folder))
    scoring.run_ends()
    scorer = scoring.scorer()
    assert scorer.remains(ORDER) is None
    assert finish(scorer.start(ORDER)).score == 1.5


@walled
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd")], ids=["fifo", "link"])
def test_an_odd_artifact_is_found_by_a_look_when_the_run_is_gone(
    scoring: Scoring, make: Callable[[Path], None]
) -> None:
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    assert scorer.remains(ORDER) is None
    make(scoring.out / ARTIFACT)
    found = scorer.remains(ORDER)
    assert found is not None
    assert (found.outcome, found.crash) == (Outcome.CRASH, CrashKind.NO_ARTIFACT)


@pytest.mark.parametrize(
    ("mode", "level"),
    [("command", LEVEL), ("reported", LEVEL), pytest.param("sealed", SandboxLevel.NONE, id="without walls")],
)
def test_in_other_modes_and_without_walls_nothing_is_started_early(
    hostile: Path, mode: str, level: SandboxLevel
) -> None:
    scoring = Scoring(hostile, level)
    scorer = scoring.scorer(mode=mode)
    scorer.prepare(ORDER)
    assert not scoring.folder.exists()
    scorer.drop()


HOSTILE_RUN = """\
import ctypes, os, pathlib, signal, sys
pid, folder, sealed = int(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
gained = []
def attempt(name, act):
    try:
        if act() != -1:
            gained.append(name)
    except OSError:
        pass
for number in (signal.SIGSTOP, signal.SIGKILL):
    attempt(number.name, lambda: os.kill(pid, number))
attempt("ptrace", lambda: ctypes.CDLL(None).ptrace(16, pid, 0, 0))
for name in ("mem", "fd/0", "fd/1"):
    attempt(name, lambda: os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_NONBLOCK))
for place in (folder, folder / "home", folder / "tmp", folder / "answer", sealed):
    attempt(place.name, lambda: (place / "usercustomize.py").write_text("x"))
print("gained", gained)
"""


@pytest.mark.parametrize("level", [SandboxLevel.BWRAP, pytest.param(SandboxLevel.LANDLOCK, marks=pytest.mark.slow)])
def test_the_run_that_still_exports_reaches_nothing_of_the_scorer_that_waits(
    hostile: Path, level: SandboxLevel
) -> None:
    if reached(level).level is not level:
        pytest.skip(reached(level).reason)
    scoring = Scoring(hostile, level)
    scorer = scoring.scorer()
    scorer.prepare(ORDER)
    pid = scoring.imported()
    run = scoring.out.parent
    words = (sys.executable, "-c", HOSTILE_RUN, str(pid), str(scoring.folder), str(scoring.seal.folder))
    child = scoring.domains.start(Start(folder=run, argv=words, cwd=scoring.out, writable=(scoring.out,)))
    wait_until(lambda: child.poll() is not None)
    child.close()
    assert log_of(run).read_text() == "gained []\n"
    scoring.run_ends()
    scored = finish(scorer.start(ORDER))
    assert (scored.outcome, scored.score, scored.metrics["imported"]) == (Outcome.OK, 1.5, True)
