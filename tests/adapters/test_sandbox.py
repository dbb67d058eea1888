"""What a payload in the sandbox cannot do, and what must go on working."""

import itertools
import os
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest

from ralph.adapters import landlock, sandbox
from ralph.adapters.process import ExitReason, recorded_exit, spawn
from ralph.adapters.sandbox import Policy, Probe, SandboxError, SandboxLevel, accelerators, reached, wrap
from tests.adapters.keeping import (
    as_supervisor,
    command,
    die,
    end_of,
    is_ready,
    nothing_survives,
    payload,
    until,
)

TESTS = Path(__file__).parent
needs_bubblewrap = pytest.mark.skipif(
    reached(SandboxLevel.BWRAP).level is not SandboxLevel.BWRAP, reason=reached(SandboxLevel.BWRAP).reason or "bwrap"
)


pytestmark = pytest.mark.usefixtures("subreaper")


def inside(folder: Path, policy: Policy, *argv: str, **options: object) -> tuple[int | None, str]:
    """Status and output of a program in the sandbox, run as a payload is."""
    folder.mkdir(exist_ok=True)
    result = end_of(spawn(command(folder, wrap(SandboxLevel.BWRAP, policy, argv), **options)))
    return result.status, (folder / "log.txt").read_text()


def shell(folder: Path, policy: Policy, script: str) -> str:
    return inside(folder, policy, "sh", "-c", script)[1]


@needs_bubblewrap
def test_only_writable_folders_can_be_written(folder: Path) -> None:
    (folder / "open").mkdir(parents=True)
    script = "for file in open/file file ~/ralph-test-file /etc/ralph-test-file; do echo x > $file || echo no; done"
    environment = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
    policy = Policy(writable=(folder / "open",))
    _, log = inside(folder, policy, "sh", "-c", script, env=environment)
    assert log.count("no\n") == 2
    assert not (folder / "file").exists()  # below /tmp, so it went into the private one
    assert not (Path.home() / "ralph-test-file").exists()


@needs_bubblewrap
def test_a_hidden_folder_is_empty_and_stays_so_but_what_is_named_below_it_is_there(folder: Path) -> None:
    secret = folder / "secret"
    for name in ("work", "shown", "keys"):
        (secret / name).mkdir(parents=True)
        (secret / name / "file").write_text(name)
    policy = Policy(hidden=(secret,), writable=(secret / "work",), read_only=(secret / "shown",))
    script = "ls; cat */file; echo new > work/file; echo x > shown/file; echo x > here; cat work/file"
    log = shell(folder, policy, f"cd secret; {script}")
    assert log.splitlines()[:2] == ["shown", "work"]
    assert "shownwork" in log
    assert "keys" not in log
    assert log.endswith("new\n")
    assert (secret / "shown" / "file").read_text() == "shown"
    assert sorted(path.name for path in secret.iterdir()) == ["keys", "shown", "work"]


@pytest.mark.parametrize("level", [SandboxLevel.BWRAP, SandboxLevel.LANDLOCK])
def test_our_package_is_found_where_the_repository_around_it_is_hidden(level: SandboxLevel, folder: Path) -> None:
    """As in a user's home: an interpreter that would have to list the repository to find it would not."""
    if (probe := reached(level)).level is not level:
        pytest.skip(probe.reason)
    folder.mkdir()
    argv = wrap(level, Policy(hidden=(TESTS.parent.parent,)), (sys.executable, "-P", "-c", "import ralph; print(1)"))
    assert end_of(spawn(command(folder, argv))).status == 0, (folder / "log.txt").read_text()


@needs_bubblewrap
def test_an_interpreter_that_is_reached_by_links_in_a_hidden_folder_is_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment of a python in ~/.local/bin, say."""
    secret, python = folder / "secret", folder / "environment" / "python"
    secret.mkdir(parents=True)
    python.parent.mkdir()
    (secret / "key").write_text("key")
    (secret / "python3").symlink_to("python3.1")
    (secret / "python3.1").symlink_to(Path(sys.executable).resolve())
    python.symlink_to("../secret/python3")
    monkeypatch.setattr(sys, "executable", str(python))
    argv = (str(python), "-I", "-S", "-c", "import os; print(sorted(os.listdir('secret')))")
    log = inside(folder, Policy(hidden=(secret,), read_only=(python.parent,)), *argv)[1]
    assert log == "['python3', 'python3.1']\n"


@needs_bubblewrap
def test_a_hidden_folder_below_a_writable_one_is_hidden(folder: Path) -> None:
    (folder / "work" / "answers").mkdir(parents=True)
    (folder / "work" / "answers" / "file").write_text("42")
    policy = Policy(writable=(folder / "work",), hidden=(folder / "work" / "answers",))
    assert shell(folder, policy, "cat work/answers/file || echo no").endswith("no\n")


@needs_bubblewrap
def test_a_visible_folder_below_a_writable_one_cannot_be_written(folder: Path) -> None:
    (folder / "work" / "sealed").mkdir(parents=True)
    policy = Policy(writable=(folder / "work",), read_only=(folder / "work" / "sealed",))
    assert shell(folder, policy, "echo x > work/sealed/file || echo no").endswith("no\n")


def mounted(argv: tuple[str, ...]) -> dict[str, str]:
    """The option by which bubblewrap mounts something at each path."""
    words, found = iter(argv[: argv.index("--")]), dict[str, str]()
    for option in words:
        if option in ("--bind", "--ro-bind"):
            next(words)
        if option in ("--bind", "--ro-bind", "--tmpfs"):
            found[next(words)] = option
    return found


@needs_bubblewrap
def test_of_what_a_policy_says_on_the_way_to_a_path_the_innermost_counts(folder: Path) -> None:
    """All policies for three folders in one another; nothing is shown by a mount where it is shown anyway."""
    places = (folder, folder / "a", folder / "a" / "b")
    places[-1].mkdir(parents=True)
    for hidden, shown, written in itertools.product(itertools.product((False, True), repeat=3), repeat=3):
        policy = Policy(
            hidden=tuple(itertools.compress(places, hidden)),
            read_only=tuple(itertools.compress(places, shown)),
            writable=tuple(itertools.compress(places, written)),
        )
        mounts = mounted(wrap(SandboxLevel.BWRAP, policy, ("true",)))
        found = wanted = "--tmpfs"  # they are below the sandbox's own /tmp
        for place in places:
            if place in policy.read_only and place not in policy.hidden + policy.writable and wanted == "--ro-bind":
                assert str(place) not in mounts, policy
            wanted = "--tmpfs" if place in policy.hidden else wanted
            wanted = "--ro-bind" if place in policy.read_only else wanted
            wanted = "--bind" if place in policy.writable else wanted
            found = mounts.get(str(place), found)
            assert found == wanted, policy


@needs_bubblewrap
def test_a_hidden_file_cannot_be_read(folder: Path) -> None:
    folder.mkdir()
    (folder / "key").write_text("sesame")
    assert "sesame" not in shell(folder, Policy(hidden=(folder / "key",)), "cat key")


@needs_bubblewrap
def test_what_does_not_exist_is_no_obstacle_to_hide_but_one_to_show(folder: Path) -> None:
    folder.mkdir()
    assert inside(folder, Policy(hidden=(folder / "missing",)), "true")[0] == 0
    with pytest.raises(SandboxError, match=r"missing.*does not exist"):
        wrap(SandboxLevel.BWRAP, Policy(writable=(folder / "missing",)), ("true",))


@needs_bubblewrap
def test_tmp_is_private_and_writable(folder: Path) -> None:
    mine = folder / "tmp"
    mine.mkdir(parents=True)
    assert "file" in shell(folder, Policy(), "echo x > /tmp/file && ls /tmp")
    assert not Path("/tmp/file").exists()
    other = folder.with_name("other")
    assert inside(other, Policy(tmp=mine), "sh", "-c", "echo kept > /tmp/file")[0] == 0
    assert (mine / "file").read_text() == "kept\n"


@needs_bubblewrap
def test_sockets_in_tmp_and_run_cannot_be_reached(folder: Path) -> None:
    folder.mkdir()
    place = Path(f"/tmp/ralph-test-{os.getpid()}.sock")  # as a terminal multiplexer has it
    program = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    server = socket.socket(socket.AF_UNIX)
    try:
        server.bind(str(place))
        server.listen()
        status, log = inside(folder, Policy(network=True), sys.executable, "-c", program, str(place))
    finally:
        server.close()
        place.unlink()
    assert status == 1
    assert "FileNotFoundError" in log
    assert set(shell(folder.with_name("other"), Policy(), "ls /run").split()) <= {
        name.split("/")[0] for name in sandbox.RUN_VISIBLE
    }


@needs_bubblewrap
@pytest.mark.parametrize("network", [False, True])
def test_the_network_is_there_only_if_asked_for(network: bool, folder: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    program = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10)"
    try:
        port = str(server.getsockname()[1])
        status, _ = inside(folder, Policy(network=network), sys.executable, "-c", program, port)
    finally:
        server.close()
    assert (status == 0) is network


@needs_bubblewrap
def test_a_loopback_of_its_own_works_without_network(folder: Path) -> None:
    program = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname(), 10)"
    assert inside(folder, Policy(), sys.executable, "-c", program)[0] == 0


@needs_bubblewrap
def test_no_process_outside_is_seen(folder: Path) -> None:
    pids = shell(folder, Policy(), "ls /proc | grep -E '^[0-9]+$'").split()
    assert len(pids) <= 5
    assert str(os.getpid()) not in pids or os.getpid() <= 5


@needs_bubblewrap
def test_there_are_no_capabilities_and_no_disks(folder: Path) -> None:
    log = shell(folder, Policy(), "grep -E 'CapEff|CapPrm' /proc/self/status; ls /dev")
    lines = log.splitlines()
    assert [int(line.split()[1], 16) for line in lines[:2]] == [0, 0]
    assert not [name for name in lines[2:] if name.startswith(("sd", "vd", "nvme", "mem", "kmsg", "loop"))]


@needs_bubblewrap
def test_not_even_root_can_write_settings_of_the_kernel(folder: Path) -> None:
    """One of them is a command that the kernel runs, outside, when a program crashes."""
    script = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/core_uses_pid /proc/sysrq-trigger; do"
    log = shell(folder, Policy(), f"{script} test -e $f && true >> $f && echo wrote; done; cat /proc/sys/kernel/ostype")
    assert "wrote" not in log
    assert log.endswith("Linux\n"), "they can be read"


@needs_bubblewrap
def test_a_promised_descriptor_the_lock_and_the_streams_pass(folder: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = "import os, socket; socket.socket(fileno=int(os.environ['RALPH_GUN_FD'])).send(b'ready'); print('said')"
    environment = {"PATH": os.environ["PATH"], "RALPH_GUN_FD": str(theirs.fileno())}
    status, log = inside(folder, Policy(), sys.executable, "-c", program, env=environment, pass_fds=(theirs.fileno(),))
    theirs.close()
    assert (status, log) == (0, "said\n")
    assert ours.recv(99) == b"ready"
    ours.close()
    log = shell(folder.with_name("other"), Policy(), "readlink /proc/$$/fd/*")
    assert any(line.endswith("/lock") for line in log.splitlines())


@needs_bubblewrap
def test_a_program_that_obeys_hears_of_its_end_inside_too(folder: Path) -> None:
    folder.mkdir()
    argv = wrap(SandboxLevel.BWRAP, Policy(read_only=(TESTS,)), payload("obey_term", folder))
    child = spawn(command(folder, argv, grace_s=60.0))
    until(lambda: is_ready(folder), "ready")
    child.kill("please")
    with nothing_survives(folder):
        assert end_of(child).status == 7


@needs_bubblewrap
@pytest.mark.parametrize("kind", ["everything", "clear_all", "storm", "wide_storm", "stopped"])
def test_nothing_survives_in_the_sandbox(kind: str, folder: Path) -> None:
    folder.mkdir()
    with nothing_survives(folder):
        child = spawn(command(folder, wrap(SandboxLevel.BWRAP, Policy(read_only=(TESTS,)), payload(kind, folder))))
        until(lambda: is_ready(folder), "ready")
        child.kill("enough")
        end_of(child)


@needs_bubblewrap
@pytest.mark.parametrize("delay_ms", [0, 10, 15, 18, 20, 22, 25, 30, 40])
def test_nothing_survives_in_the_sandbox_when_the_supervisor_dies_right_after_the_start(
    delay_ms: float, folder: Path
) -> None:
    folder.mkdir()

    def supervisor() -> None:
        child = spawn(
            command(folder, wrap(SandboxLevel.BWRAP, Policy(read_only=(TESTS,)), payload("everything", folder)))
        )
        end = time.monotonic() + delay_ms / 1000
        while time.monotonic() < end:
            pass
        die(child)

    with nothing_survives(folder, within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: recorded_exit(folder), "the record")


@needs_bubblewrap
@pytest.mark.slow
def test_a_data_loader_with_processes_of_its_own_works(folder: Path) -> None:
    folder.mkdir()
    program = (
        "import torch.utils.data as d, torch\n"
        "if __name__ == '__main__':\n"
        "    loader = d.DataLoader(d.TensorDataset(torch.arange(64.)), batch_size=8, num_workers=2)\n"
        "    print(sum(batch[0].sum().item() for batch in loader))\n"
    )
    (folder / "load.py").write_text(program)
    status, log = inside(folder, Policy(read_only=(folder,)), sys.executable, "load.py")
    assert (status, log) == (0, "2016.0\n")


@needs_bubblewrap
@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to become another")
def test_an_ordinary_user_is_kept_in_as_well() -> None:
    place = Path(f"/var/tmp/ralph-test-{os.getpid()}")
    try:
        (place / "secret").mkdir(parents=True)
        (place / "secret" / "key").write_text("sesame")
        (place / "open").mkdir()
        os.chown(place / "open", 65534, 65534)
        for path in (place, place / "secret"):
            path.chmod(0o755)
        policy = Policy(writable=(place / "open",), hidden=(place / "secret",))
        script = "id -u; echo x > open/file; cat secret/key; ls secret | wc -l; sleep 600 & setsid sleep 600 &"
        wrapped = wrap(SandboxLevel.BWRAP, policy, ("sh", "-c", script))
        argv = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *wrapped)
        with nothing_survives(place):
            child = spawn(command(place, argv))
            assert end_of(child).reason is ExitReason.ENDED
        log = (place / "log.txt").read_text()
        assert "65534" in log
        assert "sesame" not in log
        assert (place / "open" / "file").stat().st_uid == 65534
    finally:
        shutil.rmtree(place)


def test_without_a_sandbox_the_command_line_is_as_it_was() -> None:
    assert wrap(SandboxLevel.NONE, Policy(), ("a", "b")) == ("a", "b")
    assert reached(SandboxLevel.NONE) == Probe(level=SandboxLevel.NONE)


@pytest.fixture
def _no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)


@pytest.mark.usefixtures("_no_landlock")
def test_a_machine_without_bubblewrap_and_landlock_reaches_no_level_and_says_why(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(hostile))
    probe = reached.__wrapped__(SandboxLevel.BWRAP)
    assert (probe.level, "install" in probe.reason) == (SandboxLevel.NONE, True)
    with pytest.raises(SandboxError, match="bwrap is not installed"):
        wrap(SandboxLevel.BWRAP, Policy(), ("true",))


@pytest.mark.usefixtures("_no_landlock")
def test_a_bubblewrap_that_fails_reaches_no_level_and_its_words_are_kept(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = hostile / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{hostile}:{os.environ['PATH']}")
    probe = reached.__wrapped__(SandboxLevel.BWRAP)
    assert probe.level is SandboxLevel.NONE
    assert "uid map: Permission denied" in probe.reason
    assert "AppArmor" in probe.reason
    program.chmod(0o4755)
    assert "set-uid" in reached.__wrapped__(SandboxLevel.BWRAP).reason


def test_device_nodes_of_accelerators_are_found(hostile: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "sda", "kfd", "null", "mem"):
        (hostile / name).touch()
    (hostile / "dri").mkdir()
    (hostile / "nvidia-caps").mkdir()
    names = [path.name for path in accelerators(hostile)]
    assert names == ["dri", "kfd", "nvidia-caps", "nvidia-uvm", "nvidia0", "nvidiactl"]
