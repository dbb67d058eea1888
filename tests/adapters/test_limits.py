"""What a payload may use of the machine, whoever in its tree uses it, and how its end is told."""

import os
import resource
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ralph.adapters import ending, limits, meter
from ralph.adapters.limits import LimitKind, Limits, limits_of, machine_memory
from ralph.adapters.process import Exit, ExitReason, become_subreaper, recorded_exit, spawn
from ralph.adapters.sandbox import Policy, SandboxLevel, reached, wrap
from ralph.config import LimitsTable
from tests.adapters.keeping import command, end_of, nothing_survives

MB = 1_000_000
GREEDY = Path(__file__).with_name("greedy.py")
DEADLINE_S = 30.0  # a limit that does not work ends a test by this
STARTER = """\
import select, sys
from pathlib import Path
sys.path += sys.argv[4:]
from ralph.adapters.limits import Limits
from ralph.adapters.process import Command, become_subreaper, spawn
become_subreaper()
folder = Path(sys.argv[3])
program = folder / "program.py"
program.write_text(Path(sys.argv[1]).read_text())
child = spawn(Command(argv=(sys.executable, "-I", "-S", str(program), *sys.argv[2:4]), cwd=folder, env={},
                      folder=folder, log=folder / "log.txt", limits=Limits(tasks=300), deadline_s=60.0))
while (result := child.poll()) is None:
    select.select([child], [], [], 1.0)
print(result.limit)
"""
needs_bubblewrap = pytest.mark.skipif(
    reached(SandboxLevel.BWRAP).level is not SandboxLevel.BWRAP, reason=reached(SandboxLevel.BWRAP).reason or "bwrap"
)
ORDERS = Limits().orders()


@pytest.fixture(autouse=True)
def _subreaper() -> None:
    become_subreaper()


@pytest.fixture
def folder(hostile: Path) -> Path:
    return hostile / "domain"


def run(folder: Path, kind: str, *, level: SandboxLevel = SandboxLevel.NONE, **given: int) -> Exit:
    """The end of a greedy payload under these limits; nothing of it is left."""
    return run_argv(folder, (sys.executable, "-I", "-S", str(GREEDY), kind, str(folder)), level=level, **given)


def run_argv(folder: Path, argv: tuple[str, ...], *, level: SandboxLevel = SandboxLevel.NONE, **given: int) -> Exit:
    folder.mkdir()
    (folder / "open").mkdir()
    policy = Policy(writable=(folder / "open",), read_only=(GREEDY.parent,))
    order = command(
        folder,
        wrap(level, policy, argv),
        limits=Limits(**given),
        folders=(folder / "open",),
        deadline_s=DEADLINE_S,
    )
    with nothing_survives(folder):
        return end_of(spawn(order))


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()


def test_memory_is_counted_over_the_whole_tree(folder: Path) -> None:
    result = run(folder, "memory", memory_bytes=120 * MB)
    assert (result.reason, result.limit) == (ExitReason.LIMIT, LimitKind.MEMORY)
    assert result.detail.endswith("of memory; the limit is 120.0 MB")
    assert recorded_exit(folder) == result


def test_memory_that_processes_share_counts_once(folder: Path) -> None:
    assert run(folder, "sharing", memory_bytes=150 * MB).ok


@needs_bubblewrap
def test_files_in_memory_disks_of_its_own_are_memory(folder: Path) -> None:
    result = run(folder, "memory_disk", level=SandboxLevel.BWRAP, memory_bytes=100 * MB)
    assert result.limit is LimitKind.MEMORY


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs namespaces of its own",
)
def test_a_memory_disk_that_is_mounted_late_is_seen(folder: Path) -> None:
    """As a sandbox's are, which is looked at while it is still under construction."""
    script = 'sleep 0.3; mount -t tmpfs none "$1"; head -c 200000000 /dev/zero > "$1/hoard"; sleep 600'
    result = run_argv(folder, ("unshare", "-rm", "sh", "-c", script, "sh", str(folder / "open")), memory_bytes=100 * MB)
    assert result.limit is LimitKind.MEMORY


@pytest.mark.parametrize("kind", ["bomb", "many_threads"])
def test_processes_and_threads_are_counted_over_the_whole_tree(kind: str, folder: Path) -> None:
    result = run(folder, kind, tasks=200)
    assert (result.reason, result.limit) == (ExitReason.LIMIT, LimitKind.PROCESSES)


@needs_bubblewrap
def test_in_the_sandbox_a_storm_in_sessions_of_its_own_ends_at_once(folder: Path) -> None:
    """The kernel ends the whole namespace with its first process."""
    result = run(folder, "scattered_bomb", level=SandboxLevel.BWRAP, tasks=200)
    assert result.limit is LimitKind.PROCESSES
    assert result.kill_ms < 5000


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to become another")
@pytest.mark.parametrize("kind", ["bomb", "scattered_bomb"])
def test_an_ordinary_users_storm_is_held_by_the_kernel_as_well(kind: str) -> None:
    """Where the keeper has no right to go before the others."""
    place = Path(f"/var/tmp/ralph-test-{os.getpid()}")
    try:
        place.mkdir()
        os.chown(place, 65534, 65534)
        program = place / "start.py"
        program.write_text(STARTER)
        program.chmod(0o755)
        done = subprocess.run(
            [*_as_nobody(place), str(program), str(GREEDY), kind, str(place), *sys.path],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
        assert done.stdout == "processes\n", done
    finally:
        shutil.rmtree(place)


def _as_nobody(place: Path) -> list[str]:
    """How an ordinary user starts an interpreter that he can read and that takes our packages."""
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for interpreter in (sys.executable, shutil.which(f"python{ours}", path="/usr/bin:/usr/local/bin")):
        # Twice: the first keeps the right to read any file until it is started.
        argv = [*prefix, "sh", "-c", 'exec "$0" -c "import sys, encodings"', str(interpreter)]
        if interpreter and subprocess.run(argv, cwd=place, capture_output=True, check=False).returncode == 0:
            return [*prefix, interpreter]
    pytest.skip("an ordinary user cannot read this interpreter")


def test_a_keeper_that_goes_before_the_others_does_not_take_its_payload_along(folder: Path) -> None:
    program = "import os; print(os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0))"
    assert end_of(spawn(command(folder, (sys.executable, "-I", "-S", "-c", program)))).ok
    assert log(folder) == f"{os.SCHED_OTHER} {os.getpriority(os.PRIO_PROCESS, 0)}\n"


def test_the_folders_may_grow_so_far(folder: Path) -> None:
    result = run(folder, "fill", disk_bytes=10 * MB)
    assert (result.reason, result.limit) == (ExitReason.LIMIT, LimitKind.DISK)
    assert "10.0 MB" in result.detail


def test_files_without_a_byte_take_room(folder: Path) -> None:
    assert run(folder, "fill_empty", disk_bytes=10 * MB).limit is LimitKind.DISK


def test_what_lay_in_the_folders_before_does_not_count(folder: Path) -> None:
    before = meter.Meter({**ORDERS, "disk_bytes": 10 * MB}, [str(folder.parent)])
    (folder.parent / "data").write_bytes(bytes(20 * MB))
    assert before.look([]) is None
    (folder.parent / "more").write_bytes(bytes(11 * MB))
    before.walk_at = 0.0
    assert before.look([]) == ("disk", "its folders grew by 11.0 MB; the limit is 10.0 MB")


@pytest.mark.parametrize("kind", ["large_file", "large_file_written"])
def test_no_file_is_larger_than_the_limit_holes_included(kind: str, folder: Path) -> None:
    result = run(folder, kind, disk_bytes=10 * MB)
    assert not result.ok
    assert max(path.stat().st_size for path in (folder / "open").iterdir()) <= 10 * MB


def test_open_files_are_limited(folder: Path) -> None:
    assert run(folder, "many_files", open_files=64).ok
    count, _, words = log(folder).partition(" ")
    assert 50 < int(count) < 64
    assert words == "Too many open files\n"


def test_no_core_is_dumped(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        assert run(folder, "dump_core").signal == signal.SIGABRT
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert sorted(path.name for path in folder.iterdir()) == ["exit.json", "lock", "log.txt", "open"]


def test_a_log_flood_is_ended_and_its_first_and_last_words_are_kept(folder: Path) -> None:
    result = run(folder, "flood", log_bytes=2 * MB)
    assert (result.reason, result.limit, result.detail) == (ExitReason.LIMIT, LimitKind.OUTPUT, "log over 2.0 MB")
    text = log(folder)
    assert len(text) < 2 * MB
    assert text.startswith("the first words\n")
    assert "bytes were cut here" in text
    assert "\nline " in text[-70_000:]


def test_a_log_within_its_limit_stays_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "log.txt"
    place.write_text("all there is")
    fd = os.open(place, os.O_WRONLY | os.O_APPEND)
    try:
        ending.cut_log(fd, 12)
        ending.cut_log(fd, None)
        assert place.read_text() == "all there is"
        ending.cut_log(fd, 8)
    finally:
        os.close(fd)
    assert place.read_text() == "al\n… 6 bytes were cut here …\ne is"


def low_machine(folder: Path, size_mb: int) -> Exit:
    """The end of a payload that has so much memory, on a machine that wants more to be free than there is."""
    total = psutil.virtual_memory().total
    program = f"import time; x = bytearray(b'x') * {size_mb * MB}; time.sleep(600)"
    order = command(
        folder,
        (sys.executable, "-I", "-S", "-c", program),
        limits=Limits(spare_memory_bytes=2 * total),
        deadline_s=DEADLINE_S,
    )
    with nothing_survives(folder):
        return end_of(spawn(order))


def test_on_a_machine_that_runs_low_a_small_payload_is_ended_by_no_fault_of_its_own(folder: Path) -> None:
    result = low_machine(folder, 1)
    assert (result.reason, result.limit) == (ExitReason.LIMIT, LimitKind.MACHINE)
    assert "the machine has" in result.detail
    assert result.seconds >= meter.FAULTLESS_S


def test_on_a_machine_that_runs_low_the_payload_that_has_most_of_it_is_to_blame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With numbers of a machine that is full, since this one must not be."""
    monkeypatch.setattr(meter, "machine_memory", lambda: (1 * MB, 200 * MB))
    monkeypatch.setattr(meter, "usage", lambda _pids: (1, 150 * MB, 0))
    found = meter.Meter({**ORDERS, "spare_memory_bytes": 10 * MB}, []).look([1])
    assert found == ("largest", "the machine has 1.0 MB of memory left, and this has 150.0 MB")


def test_on_a_disk_that_runs_full_it_matters_who_filled_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = {**ORDERS, "spare_disk_bytes": 10 * MB}
    free = [100 * MB]
    monkeypatch.setattr(meter, "free_bytes", lambda _folder: free[0])
    mine, other = meter.Meter(orders, [str(tmp_path)]), meter.Meter(orders, [str(tmp_path / "nowhere")])
    for each in (mine, other):
        each.walk(free[0])
        assert each.look([]) is None
    (tmp_path / "large").write_bytes(bytes(96 * MB))
    free[0] = 4 * MB
    found = mine.look([])
    assert found is not None
    assert found[0] == "disk"
    assert other.look([]) is None, "it has a second to be helped"
    other.low_since = -10.0
    assert other.look([]) == ("machine", "the disk has 4.0 MB left, and this took 0.0 MB of it")


def test_numbers_that_the_arena_leaves_open_come_from_the_machine(tmp_path: Path) -> None:
    found = limits_of(LimitsTable(), tmp_path)
    memory = machine_memory()
    assert found.memory_bytes == int(memory * limits.MEMORY_SHARE)
    assert found.spare_memory_bytes is not None
    assert limits.SPARE_MEMORY[0] <= found.spare_memory_bytes <= limits.SPARE_MEMORY[1]
    assert found.tasks is not None
    assert found.tasks >= 1000
    assert found.disk_bytes is not None
    assert 0 < found.disk_bytes < psutil.disk_usage(str(tmp_path)).free
    given = LimitsTable(memory_gb=1.5, processes=7, open_files=99, log_mb=2, disk_gb=0.25, spare_memory_gb=1)
    assert limits_of(given, tmp_path) == Limits(
        memory_bytes=1_500_000_000,
        tasks=7,
        open_files=99,
        log_bytes=2_000_000,
        disk_bytes=250_000_000,
        spare_memory_bytes=1_000_000_000,
        spare_disk_bytes=1_000_000_000,
    )


def test_a_container_may_have_less_memory_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "some").write_text("1000000\n")
    monkeypatch.setattr(limits, "CGROUP_LIMITS", (str(tmp_path / "max"), str(tmp_path / "none")))
    assert machine_memory() == psutil.virtual_memory().total
    monkeypatch.setattr(limits, "CGROUP_LIMITS", (str(tmp_path / "some"),))
    assert machine_memory() == 1_000_000


def test_looking_costs_next_to_nothing() -> None:
    """The time between two looks grows with what one costs, which leaves a hundredth to looking."""
    this = meter.Meter({**ORDERS, "memory_bytes": 1 << 50, "tasks": 1 << 30, "spare_memory_bytes": 1}, [])
    this.look([os.getpid()] * 2000)
    slow_s = this.wait_s
    quick_s = min((this.look([os.getpid()]), this.wait_s)[1] for _ in range(50))
    assert (quick_s, slow_s) == (meter.SHORTEST_S, meter.LONGEST_S)


def test_a_payload_that_ends_within_its_limits_is_not_disturbed(folder: Path) -> None:
    order = command(
        folder,
        ("sh", "-c", "sleep 0.3; exit 3"),
        limits=limits_of(LimitsTable(), folder.parent),
        folders=(folder.parent,),
    )
    child = spawn(order)
    select.select([child], [], [], DEADLINE_S)
    result = end_of(child)
    assert (result.reason, result.limit, result.status) == (ExitReason.ENDED, None, 3)
