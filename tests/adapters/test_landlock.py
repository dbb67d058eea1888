"""Level landlock: each line of the launcher's docstring, tried from inside."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ralph.adapters import landlock
from ralph.adapters.process import ExitReason, become_subreaper, spawn
from ralph.adapters.sandbox import Policy, Probe, SandboxError, SandboxLevel, reached, wrap
from tests.adapters.keeping import command, end_of, is_ready, nothing_survives, payload, until

PROBE = reached(SandboxLevel.LANDLOCK)
pytestmark = pytest.mark.skipif(PROBE.level is not SandboxLevel.LANDLOCK, reason=PROBE.reason or "landlock")
needs_scopes = pytest.mark.skipif(landlock.abi() < landlock.ABI_SCOPES, reason="needs Landlock ABI 6 (Linux 6.12)")
needs_tcp = pytest.mark.skipif(landlock.abi() < landlock.ABI_TCP, reason="needs Landlock ABI 4 (Linux 6.7)")
TESTS = Path(__file__).parent
SHELL_FAILED = re.compile(r"denied|not permitted", re.IGNORECASE)


@pytest.fixture(autouse=True)
def _subreaper() -> None:
    become_subreaper()


@pytest.fixture
def folder(hostile: Path) -> Iterator[Path]:
    """Outside /tmp, which this level hides as a whole."""
    place = Path(f"/var/tmp/ralph-test-{os.getpid()}") / hostile.name
    for name in ("", "domain", "domain/open", "domain/secret", "domain/shown", "domain/own"):
        (place / name).mkdir(parents=True)
    (place / "domain" / "secret" / "key").write_text("sesame")
    (place / "domain" / "shown" / "file").write_text("shown")
    yield place / "domain"
    shutil.rmtree(place.parent)


def policy(folder: Path, **given: object) -> Policy:
    """What the tests below hide and show: a domain's folder is visible, `secret` in it hidden, `open` writable."""
    kept: dict[str, object] = {
        "read_only": (folder, TESTS),
        "hidden": (folder / "secret",),
        "writable": (folder / "open",),
    }
    return Policy(**{**kept, **given})  # type: ignore[arg-type]


def inside(folder: Path, *argv: str, rules: Policy | None = None, **options: object) -> tuple[int | None, str]:
    domain = folder / "own" if not (folder / "own" / "exit.json").exists() else folder / f"own{len(os.listdir(folder))}"
    domain.mkdir(exist_ok=True)
    order = command(domain, wrap(SandboxLevel.LANDLOCK, rules or policy(folder), argv), **options)
    object.__setattr__(order, "cwd", folder)
    result = end_of(spawn(order))
    return result.status, (domain / "log.txt").read_text()


def shell(folder: Path, script: str, **given: object) -> str:
    return inside(folder, "sh", "-c", script, rules=policy(folder, **given))[1]


def python(folder: Path, program: str, *arguments: str, **given: object) -> str:
    """What a program says; the last line of its traceback if it failed."""
    log = inside(folder, sys.executable, "-c", program, *arguments, rules=policy(folder, **given))[1]
    return log.strip().splitlines()[-1] if log.strip() else ""


def test_what_is_hidden_cannot_be_read_listed_or_run(folder: Path) -> None:
    log = shell(folder, "cat secret/key; ls secret; cat shown/file; cat secret/../shown/file")
    assert "sesame" not in log
    assert "key\n" not in log.replace("secret/key", "")
    assert log.count("shown") == 2
    shutil.copy("/bin/true", folder / "secret" / "program")
    assert len(SHELL_FAILED.findall(shell(folder, "secret/program"))) == 1


def test_what_is_named_below_a_hidden_folder_is_there(folder: Path) -> None:
    for name in ("own", "given"):
        (folder / "secret" / name).mkdir()
    (folder / "secret" / "given" / "file").write_text("given")
    shown = policy(folder, read_only=(folder, folder / "secret" / "given"), writable=(folder / "secret" / "own",))
    log = inside(folder, "sh", "-c", "cat secret/given/file; echo x > secret/own/new; cat secret/key", rules=shown)[1]
    assert log.startswith("given")
    assert "sesame" not in log
    assert (folder / "secret" / "own" / "new").read_text() == "x\n"


def test_a_hidden_folder_below_a_writable_one_is_hidden_and_a_visible_one_stays_as_it_is(folder: Path) -> None:
    for name in ("answers", "sealed", "free"):
        (folder / "open" / name).mkdir()
        (folder / "open" / name / "file").write_text(name)
    rules = policy(folder, hidden=(folder / "open" / "answers",), read_only=(folder, folder / "open" / "sealed"))
    script = "cat open/answers/file; cat open/sealed/file; echo x > open/sealed/file; echo changed > open/free/file"
    log = inside(folder, "sh", "-c", script, rules=rules)[1]
    assert "answers\n" not in log
    assert log.count("sealed") >= 1
    assert (folder / "open" / "sealed" / "file").read_text() == "sealed"
    assert (folder / "open" / "free" / "file").read_text() == "changed\n"


@pytest.mark.parametrize(
    "script",
    [
        "echo x > shown/file",
        "true > shown/file",
        "echo x > shown/new",
        "mkdir shown/new",
        "rm shown/file",
        "mv shown/file open/file",
        "mv open/mine shown/mine",
        "ln shown/file open/file",
        "ln -s x shown/new",
        "mkfifo shown/new",
        "cp secret/key open/key",
        "ln secret/key open/key",
        "echo x > /etc/ralph-test-file",
        "echo x > /tmp/ralph-test-file",
        "echo x > $HOME/ralph-test-file",
        "echo 1 > /proc/sys/kernel/core_uses_pid",
        "mknod open/disk b 8 0",
        "mount -t tmpfs none open",
    ],
)
def test_nothing_changes_outside_the_writable_folders(script: str, folder: Path) -> None:
    (folder / "open" / "mine").write_text("mine")
    before = sorted((str(path), path.read_bytes()) for path in folder.glob("s*/*"))
    log = shell(folder, f"export HOME={Path.home()}; {script} || echo no")
    assert log.endswith("no\n")
    assert sorted((str(path), path.read_bytes()) for path in folder.glob("s*/*")) == before
    assert [path.name for path in (folder / "open").iterdir()] == ["mine"]


def test_in_a_writable_folder_everything_goes(folder: Path) -> None:
    script = "cd open && mkdir -p a/b && echo x > a/file && mv a/file a/b/file && ln a/b/file link && mkfifo fifo"
    script += " && ln -s link soft && rm -r a && cat soft && chmod 600 link && echo all"
    assert shell(folder, script) == "x\nall\n"


def test_devices_are_the_harmless_ones(folder: Path) -> None:
    script = "head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo said; ls /dev; for d in /dev/[sv]da /dev/mem"
    log = shell(folder, f"{script} /dev/kmsg /dev/pts/0 /dev/ptmx; do head -c 1 $d && echo read $d; done")
    assert log.startswith("3\nsaid\n")
    assert "read /dev" not in log


def test_the_memory_descriptors_and_environment_of_processes_outside_are_out_of_reach(folder: Path) -> None:
    """The supervisor's environment has the keys."""
    pid = str(os.getpid())
    for name in ("environ", "mem", "maps", "fd/0", "root/etc/passwd", "cwd/x"):
        program = "import sys; open(sys.argv[1], 'rb').read(1); print('read')"
        assert "Permission" in python(folder, program, f"/proc/{pid}/{name}"), name
    ptrace = "import ctypes, sys; print(ctypes.CDLL(None).ptrace(16, int(sys.argv[1]), 0, 0))"
    assert python(folder, ptrace, pid) == "-1"
    assert python(folder, "print(open('/proc/self/environ').read() != '')") == "True"


@needs_scopes
def test_processes_outside_cannot_be_signalled_and_those_inside_can(folder: Path) -> None:
    program = "import os, sys; os.kill(int(sys.argv[1]), 0); print('signalled')"
    assert "not permitted" in python(folder, program, str(os.getpid()))
    assert "not permitted" in python(folder, "import os; os.kill(os.getppid(), 9)")
    inner = "import os, time; p = os.fork() or time.sleep(60); os.kill(p, 9); print(os.waitpid(p, 0)[1])"
    assert python(folder, inner) == "9"


@needs_scopes
def test_abstract_sockets_outside_cannot_be_reached(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0ralph-test-{os.getpid()}")
        server.listen()
        program = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0ralph-test-{os.getpid()}'); print('in')"
        assert "not permitted" in python(folder, program)


def test_there_are_no_capabilities_and_none_come_back(folder: Path) -> None:
    log = shell(folder, "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status")
    values = [line.split()[1] for line in log.splitlines()]
    assert len(values) == 6
    bounding = [] if os.geteuid() == 0 else [values[3]]  # an ordinary user may not shrink it, and has no use of it
    assert {int(value, 16) for value in values[:5] if value not in bounding} == {0}
    assert values[5] == "1"


ENDS = {
    "tcp": "s = socket.socket(); s.connect(('127.0.0.1', int(sys.argv[1])))",
    "tcp6": "socket.socket(socket.AF_INET6)",
    "listening": "s = socket.socket(); s.bind(('127.0.0.1', 0))",
    "udp": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', int(sys.argv[1])))",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "packet": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "vsock": "socket.socket(socket.AF_VSOCK)",
    "multipath": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).connect(('127.0.0.1', int(sys.argv[1])))",
}


@pytest.mark.parametrize("kind", ENDS)
def test_without_network_there_is_none_the_loopback_included(kind: str, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert "Permission denied" in python(folder, f"import socket, sys; {ENDS[kind]}; print('open')", port)


def test_other_doors_to_sockets_are_shut(folder: Path) -> None:
    program = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.syscall(425, 4, None), ctypes.get_errno())"
    assert python(folder, program) == "-1 38"
    if os.uname().machine == "x86_64":  # the second table of system calls, for programs with short pointers
        program = "import ctypes; print(ctypes.CDLL(None, use_errno=True).syscall(0x40000000 + 41, 2, 1, 0))"
        assert python(folder, program) == "-1"


def test_with_network_it_is_the_machines(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        for kind in ("tcp", "udp"):
            assert python(folder, f"import socket, sys; {ENDS[kind]}; print('open')", port, network=True) == "open"


@needs_tcp
def test_one_port_may_be_the_only_way_out(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port = int(server.getsockname()[1])
        program = f"import socket, sys; {ENDS['tcp']}; print('open')"
        assert python(folder, program, str(port), port=port) == "open"
        assert "Permission denied" in python(folder, program, str(other.getsockname()[1]), port=port)
        for kind in sorted(set(ENDS) - {"tcp", "tcp6"}):
            program = f"import socket, sys; {ENDS[kind]}; print('open')"
            assert "Permission denied" in python(folder, program, str(port), port=port), kind
        fast = "import socket, sys; socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', int(sys.argv[1])))"
        assert "Permission denied" in python(folder, fast, str(other.getsockname()[1]), port=port)


def test_what_is_not_covered_is_as_it_is_said(folder: Path) -> None:
    """So that the day on which the kernel covers it is noticed."""
    place = folder / "door"
    with contextlib.chdir(folder), socket.socket(socket.AF_UNIX) as server:  # the names of sockets are short
        server.bind("door")
        server.listen()
        assert python(folder, "import socket; socket.socket(socket.AF_UNIX).connect('door'); print('in')") == "in"
    place.unlink()
    assert python(folder, "import os; print(os.stat('secret/key').st_size)") == "6"
    python(folder, "import os; os.chmod('secret/key', 0o600)")
    assert (folder / "secret" / "key").stat().st_mode & 0o777 == 0o600
    assert str(os.getpid()) in shell(folder, "ls /proc")


def test_processes_semaphores_and_shared_memory_of_python_work(folder: Path) -> None:
    program = (
        "import multiprocessing as m\n"
        "from multiprocessing.shared_memory import SharedMemory\n"
        "def double(x): return 2 * x\n"
        "if __name__ == '__main__':\n"
        "    s = SharedMemory(create=True, size=64); s.close(); s.unlink()\n"
        "    with m.Pool(2) as pool: print(sum(pool.map(double, range(10))), m.Lock().acquire())\n"
    )
    (folder / "pool.py").write_text(program)
    given = {"PATH": os.environ["PATH"], "TMPDIR": str(folder / "open")}
    assert inside(folder, sys.executable, "pool.py", env=given) == (0, "90 True\n")


@pytest.mark.slow
def test_a_data_loader_with_processes_of_its_own_works(folder: Path) -> None:
    program = (
        "import torch.utils.data as d, torch\n"
        "if __name__ == '__main__':\n"
        "    loader = d.DataLoader(d.TensorDataset(torch.arange(64.)), batch_size=8, num_workers=2)\n"
        "    print(sum(batch[0].sum().item() for batch in loader))\n"
    )
    (folder / "load.py").write_text(program)
    temporary = folder.parent.parent / "tmp"  # Python makes sockets in there, whose names must be short
    temporary.mkdir()
    given = {"PATH": os.environ["PATH"], "TMPDIR": str(temporary), "HOME": str(temporary)}
    rules = policy(folder, writable=(temporary,))
    assert inside(folder, sys.executable, "load.py", env=given, rules=rules) == (0, "2016.0\n")


def test_a_package_beside_something_hidden_can_be_imported(folder: Path) -> None:
    """As ralph's own is, in a checkout that is the arena as well."""
    source = Path(landlock.__file__).parent.parent.parent
    given = {"PATH": os.environ["PATH"], "TMPDIR": str(folder / "open"), "PYTHONPATH": str(source)}
    (folder / "state").mkdir()
    rules = policy(folder, hidden=(source / "docs",), read_only=(folder, source))
    argv = (sys.executable, "-P", "-c", "import ralph.errors; print('imported')")
    assert inside(folder, *argv, rules=rules, env=given) == (0, "imported\n")


def test_a_promised_descriptor_passes(folder: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = "import os, socket; socket.socket(fileno=int(os.environ['RALPH_GUN_FD'])).send(b'ready'); print('said')"
    environment = {"PATH": os.environ["PATH"], "RALPH_GUN_FD": str(theirs.fileno())}
    done = inside(folder, sys.executable, "-c", program, env=environment, pass_fds=(theirs.fileno(),))
    theirs.close()
    assert done == (0, "said\n")
    assert ours.recv(99) == b"ready"
    ours.close()


def test_a_program_that_does_not_exist_is_told_from_a_sandbox_that_cannot_be_made(folder: Path) -> None:
    status, log = inside(folder, "no-such-program")
    assert (status, log) == (127, "landlock: could not start 'no-such-program': No such file or directory\n")
    argv = [sys.executable, "-I", "-S", landlock.__file__, "--port", "70000", "--", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:41]) == (126, "landlock: the sandbox cannot be made: the")


@pytest.mark.parametrize("kind", ["everything", "clear_all", "stopped"])
def test_nothing_survives(kind: str, folder: Path) -> None:
    argv = wrap(SandboxLevel.LANDLOCK, policy(folder), payload(kind, folder / "own"))
    with nothing_survives(folder):
        child = spawn(command(folder / "own", argv))
        until(lambda: is_ready(folder / "own"), "ready")
        child.kill("enough")
        assert end_of(child).reason in (ExitReason.KILLED, ExitReason.ENDED)


def test_it_is_the_level_where_bubblewrap_is_missing(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{hostile}:/bin")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    probe = reached.__wrapped__(SandboxLevel.BWRAP)
    assert (probe.level, "bwrap is not installed" in probe.reason) == (SandboxLevel.LANDLOCK, True)


def test_a_kernel_without_it_reaches_no_level_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    probe = reached.__wrapped__(SandboxLevel.LANDLOCK)
    assert (probe.level, "has no Landlock" in probe.reason) == (SandboxLevel.NONE, True)
    monkeypatch.undo()
    monkeypatch.setattr(landlock, "ARCHITECTURES", {})
    assert "architecture" in reached.__wrapped__(SandboxLevel.LANDLOCK).reason
    assert reached(SandboxLevel.NONE) == Probe(level=SandboxLevel.NONE)


def test_a_folder_that_should_be_shown_must_exist(folder: Path) -> None:
    with pytest.raises(SandboxError, match=r"missing.*does not exist"):
        wrap(SandboxLevel.LANDLOCK, Policy(writable=(folder / "missing",)), ("true",))


def test_older_kernels_are_asked_for_the_rights_that_they_know(folder: Path) -> None:
    """Rules for them are accepted by newer kernels too: they are really made here."""
    named = {"/": landlock.READ, str(folder / "secret"): landlock.NOTHING, str(folder / "open"): landlock.WRITE}
    for version in range(1, landlock.abi() + 1):
        os.close(landlock.ruleset(named, None, network=False, version=version))
    assert [landlock.rights_of(version).bit_length() for version in range(1, 8)] == [13, 14, 15, 15, 16, 16, 16]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to become another")
def test_an_ordinary_user_is_kept_in_as_well(folder: Path) -> None:
    interpreter = shutil.which("python3", path="/usr/bin")
    if interpreter is None:
        pytest.skip("an ordinary user needs an interpreter that he can read")
    for path in (folder.parent.parent, folder.parent, folder, folder / "secret"):
        path.chmod(0o755)
    (folder / "secret" / "key").chmod(0o644)
    os.chown(folder / "open", 65534, 65534)
    program = folder / "landlock.py"
    shutil.copy(landlock.__file__, program)
    wrapped = wrap(SandboxLevel.LANDLOCK, policy(folder), ("sh", "-c", "id -u; echo x > open/file; cat secret/key"))
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", interpreter, "-I", "-S", str(program)]
    done = subprocess.run([*argv, *wrapped[4:]], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stdout == "65534\n", done
    assert (folder / "open" / "file").stat().st_uid == 65534
