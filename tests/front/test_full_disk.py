"""A disk that fills up at every moment: the loop parks with the reason, and nothing is lost or repeated afterwards.

A small tmpfs in a mount namespace of its own takes the arena with its repository, or state/ alone. The loop stops
itself at a named point, the drill takes every byte that is left, and the loop goes on.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ralph.events import AgentEnded, Event, Judged, RunEnded, Scored
from ralph.model import AgentOutcome, Outcome
from tests.arenas import TOML, ToyArena, edit, toy_arena

Left = Callable[[], list[int]]
STEPS = [[edit("LEARNING_RATE", 0.3)] * 3, [edit("WIDTH", 4)] * 3]
N = len(STEPS)
TOLERANT = TOML + "[limits]\nspare_disk_gb = 0\n"
TAKE_ALL = 'dd if=/dev/zero of="$1" bs=64k status=none; dd if=/dev/zero of="$1.rest" bs=1 status=none; true'

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nsenter") is None, reason="needs root to mount a file system of its own"
)


@dataclass(frozen=True, kw_only=True)
class SmallDisk:
    """A namespace in which `place` is a file system of its own; seen from outside through its first process."""

    pid: int
    place: Path

    @property
    def outside(self) -> Path:
        """The same folder as seen from here."""
        return Path(f"/proc/{self.pid}/root{self.place}")

    def inside(self, *argv: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--", *argv]

    def fill(self) -> None:
        subprocess.run(self.inside("sh", "-c", TAKE_ALL, "sh", str(self.place / "filler")), stderr=subprocess.DEVNULL)
        assert shutil.disk_usage(self.outside).free == 0

    def free(self) -> None:
        for name in ("filler", "filler.rest"):
            (self.outside / name).unlink(missing_ok=True)


SCRIPT = """
mkdir "$1.disk" && mount -t tmpfs -o size=8m small "$1.disk" && cp -a "$1/." "$1.disk/" &&
mount --move "$1.disk" "$1" && echo ready && exec sleep 600
"""


@contextlib.contextmanager
def small_disk(place: Path, script: str = SCRIPT) -> Iterator[SmallDisk]:
    """Move what is at `place` to a small file system that only the processes of its namespace see there."""
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(place)], stdout=subprocess.PIPE, text=True
    ) as keeper:
        try:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "ready\n"
            yield SmallDisk(pid=keeper.pid, place=place)
        finally:
            keeper.kill()


@dataclass(kw_only=True)
class DiskArena:
    """A toy arena on a small disk: started inside, looked at from outside."""

    disk: SmallDisk
    root: Path

    @property
    def seen(self) -> ToyArena:
        return ToyArena(root=Path(f"/proc/{self.disk.pid}/root{self.root}"))

    def start(self, experiments: int, at: str = "") -> "subprocess.Popen[str]":
        argv = ToyArena(root=self.root).argv("loop", "--max-experiments", str(experiments))
        env = {**os.environ, "RALPH_NO_PICTURE": "1", "RALPH_CRASH_AT": at}
        return subprocess.Popen(
            self.disk.inside(*argv), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def first_line(self) -> str:
        return (self.seen.root / "progress.md").read_text().splitlines()[0]

    def verdicts(self) -> list[tuple[int, str]]:
        return [(e.id, str(e.verdict)) for e in self.seen.events() if isinstance(e, Judged)]


@pytest.fixture(params=[pytest.param("all", marks=pytest.mark.slow), "state"])
def arena(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DiskArena]:
    """The arena and its repository on the small disk, or its state/ alone."""
    made = toy_arena(tmp_path / "arena", STEPS, toml=TOLERANT)
    with small_disk(made.root if request.param == "all" else made.root / "state") as disk:
        yield DiskArena(disk=disk, root=made.root)


@pytest.fixture
def arena_on_state(tmp_path: Path) -> Iterator[DiskArena]:
    made = toy_arena(tmp_path / "arena", STEPS, toml=TOLERANT)
    with small_disk(made.root / "state") as disk:
        yield DiskArena(disk=disk, root=made.root)


def wait_stopped(pid: int) -> None:
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "it never came to that point"
        time.sleep(0.01)


def good_runs(arena: DiskArena) -> dict[str, bytes]:
    """The nonces of runs whose good end is in the ledger."""
    good = {
        f"{e.id:06d}/run-{e.run}" for e in arena.seen.events() if isinstance(e, RunEnded) and e.outcome is Outcome.OK
    }
    return {name: nonce for name, nonce in arena.seen.nonces().items() if name in good}


def count(arena: DiskArena, kind: type[Event]) -> int:
    return sum(isinstance(e, kind) for e in arena.seen.events())


POINTS = [
    "briefed:1", "agent_started:1", "agent_ended-unrecorded:1", "agent_ended:1", "committed-unrecorded:1",
    "committed:1", "run_started:1", "run_started:4", "run_ended-unrecorded:1", "run_ended-unrecorded:4", "run_ended:4",
    "scored-unrecorded:4", "scored:4", "judged:1", "judged:2", "advanced:1", "noted:2", "learned:1", "reported:2",
    "settled-unrecorded:2", "settled:1", "settled:2",
]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str]]:
    arena = toy_arena(tmp_path_factory.mktemp("undisturbed") / "arena", STEPS, toml=TOLERANT)
    assert arena.loop(N).status == 0
    return [(e.id, str(e.verdict)) for e in arena.events() if isinstance(e, Judged)]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_disk_that_fills_up_at_any_point_parks_the_loop_and_costs_nothing_that_was_done(
    arena: DiskArena, point: str, undisturbed: list[tuple[int, str]], marked: Left
) -> None:
    loop = arena.start(N, f"{point}:STOP")
    wait_stopped(loop.pid)
    arena.disk.fill()
    loop.send_signal(signal.SIGCONT)
    said, _ = loop.communicate(timeout=90)
    assert loop.returncode == 3, said
    assert "disk" in said
    assert marked() == []
    runs, judged, ended = good_runs(arena), arena.verdicts(), count(arena, RunEnded)
    assert arena.first_line().startswith("**parked**"), arena.first_line()
    assert "disk" in arena.first_line()
    assert undisturbed[: len(judged)] == judged
    arena.disk.free()
    again = arena.start(N)
    said, _ = again.communicate(timeout=90)
    assert again.returncode == 0, said
    assert arena.verdicts() == undisturbed
    assert {n: arena.seen.nonces().get(n, nonce) for n, nonce in runs.items()} == runs, "no finished run was repeated"
    assert ended <= count(arena, RunEnded)
    names = [(e.id, e.run) for e in arena.seen.events() if isinstance(e, RunEnded)]
    assert len(names) == len(set(names))
    proposed = [e.id for e in arena.seen.events() if isinstance(e, AgentEnded) and e.outcome is AgentOutcome.PROPOSED]
    assert proposed == [1, 2], "no proposal that was paid for was thrown away"
    assert count(arena, Scored) >= len(undisturbed)


@pytest.mark.slow
def test_a_disk_below_the_bound_parks_before_anything_begins(arena_on_state: DiskArena) -> None:
    arena = arena_on_state
    (arena.root / "arena.toml").write_text(TOML + "[limits]\nspare_disk_gb = 0.003\n")  # of 8 MiB
    first = arena.start(1)
    assert first.communicate(timeout=90)
    assert first.returncode == 0
    begun = len(arena.seen.events())
    (arena.disk.outside / "filler").write_bytes(os.urandom(6 * 2**20))
    second = arena.start(2)
    said, _ = second.communicate(timeout=90)
    assert (second.returncode, "MB are wanted (limits.spare_disk_gb)" in said) == (3, True), said
    assert "3.0 MB are wanted" in arena.first_line()
    assert {type(e).__name__ for e in arena.seen.events()[begun:]} == {"SupervisorStarted", "SupervisorStopped"}
    arena.disk.free()
    third = arena.start(2)
    assert third.communicate(timeout=90)
    assert third.returncode == 0


@pytest.mark.slow
def test_a_start_on_a_full_disk_parks_as_well(arena_on_state: DiskArena) -> None:
    arena = arena_on_state
    arena.disk.fill()
    for _ in range(2):
        loop = arena.start(1)
        said, _ = loop.communicate(timeout=90)
        assert loop.returncode == 3, said
        assert "disk" in arena.first_line()
    arena.disk.free()
    again = arena.start(1)
    assert again.communicate(timeout=90)
    assert again.returncode == 0


# --- a disk that fails

THIN = """
mkdir "$1.thin" && mount -t tmpfs -o size=24m thin "$1.thin" && truncate -s 64M "$1.thin/image" &&
mkfs.ext4 -q "$1.thin/image" && mkdir "$1.disk" && mount -o loop "$1.thin/image" "$1.disk" && cp -a "$1/." "$1.disk/" &&
mount --move "$1.disk" "$1" && echo ready && exec sleep 600
"""
MEND = """
umount "$1" && e2fsck -fy "$1.thin/image" > "$1.thin/fsck" 2>&1; mount -o loop "$1.thin/image" "$1"
"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("mkfs.ext4") is None or not Path("/dev/loop-control").exists(), reason="needs ext4 on a loop device"
)
@pytest.mark.parametrize("point", ["briefed:1", "run_started:4", "judged:2", "noted:2"])
def test_a_disk_whose_writes_fail_late_parks_the_loop_and_what_it_had_taken_stands(
    tmp_path: Path, point: str, undisturbed: list[tuple[int, str]], marked: Left
) -> None:
    """A file system on a thin image promises room that is not there: writes succeed, and their fsync fails.

    Then its journal is aborted, and everything fails. Not covered: what an agent or a run wrote a moment before and the
    disk had not taken yet is lost with it, and what is left is judged.
    """
    made = toy_arena(tmp_path / "arena", STEPS, toml=TOLERANT)
    thin = made.root / "state.thin"
    with small_disk(made.root / "state", THIN) as disk:
        arena = DiskArena(disk=disk, root=made.root)
        loop = arena.start(N, f"{point}:STOP")
        wait_stopped(loop.pid)
        subprocess.run(disk.inside("sh", "-c", TAKE_ALL, "sh", str(thin / "filler")), stderr=subprocess.DEVNULL)
        before = (disk.outside / "ledger.jsonl").read_bytes()
        loop.send_signal(signal.SIGCONT)
        said, _ = loop.communicate(timeout=90)
        assert loop.returncode == 3, said
        assert any(words in said for words in ("Input/output error", "Read-only", "No space left")), said
        assert "**parked**" in arena.first_line()
        assert marked() == [disk.pid], "nothing but what keeps the disk"
        for name in ("filler", "filler.rest"):
            subprocess.run(disk.inside("rm", "-f", str(thin / name)), check=True)
        subprocess.run(disk.inside("sh", "-c", MEND, "sh", str(disk.place)), check=True)
        assert (disk.outside / "ledger.jsonl").read_bytes().startswith(before), "what was acknowledged is there"
        runs, judged = good_runs(arena), arena.verdicts()
        again = arena.start(N)
        said, _ = again.communicate(timeout=90)
        assert again.returncode == 0, said
        assert arena.verdicts() == undisturbed
        assert arena.verdicts()[: len(judged)] == judged
        assert {n: arena.seen.nonces().get(n, nonce) for n, nonce in runs.items()} == runs
        subprocess.run(disk.inside("umount", str(disk.place)), check=True)  # gives the loop device back
