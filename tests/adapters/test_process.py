"""Payloads as the supervisor sees them: how they are started, what they are given, how their end is told."""

import os
import py_compile
import select
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest

from ralph.adapters import process, shims
from ralph.adapters.process import ExitReason, recorded_exit, spawn
from ralph.adapters.shims import is_fresh
from tests.adapters.keeping import as_supervisor, command, end_of, is_ready, nothing_survives, payload, run, until

pytestmark = pytest.mark.usefixtures("subreaper")


def shell(folder: Path, script: str, **options: object) -> tuple[process.Exit, str]:
    result = end_of(spawn(command(folder, ("sh", "-c", script), **options)))
    return result, (folder / "log.txt").read_text()


def test_an_end_tells_status_time_and_log(folder: Path) -> None:
    result, log = shell(folder, "echo out; echo err >&2; exit 3")
    assert (result.reason, result.status, result.signal, result.ok) == (ExitReason.ENDED, 3, None, False)
    assert 0 < result.seconds < 60
    assert sorted(log.split()) == ["err", "out"]
    assert shell(folder.with_name("other"), "true")[0].ok


def test_a_signal_that_ends_the_leader_is_told(folder: Path) -> None:
    result, _ = shell(folder, "kill -SEGV $$")
    assert (result.reason, result.status, result.signal) == (ExitReason.ENDED, None, signal.SIGSEGV)


def test_the_record_says_the_same_as_the_answer(folder: Path) -> None:
    result, _ = shell(folder, "exit 4")
    assert recorded_exit(folder) == result


def test_a_folder_without_a_whole_record_has_no_recorded_exit(folder: Path) -> None:
    folder.mkdir()
    assert recorded_exit(folder) is None
    for text in ("", "{", "[]", "{}", '{"schema": 1, "reason": "bored"}', '{"schema": 1, "reason": "ended", "x": 1}'):
        (folder / "exit.json").write_text(text)
        assert recorded_exit(folder) is None


def test_the_descriptor_is_readable_only_when_the_record_is_there(folder: Path) -> None:
    child = spawn(command(folder, ("sh", "-c", "read line"), stdin=None))
    select.select([child], [], [], 60)
    assert recorded_exit(folder) is not None
    assert end_of(child).status == 1


def test_the_record_is_never_seen_torn(folder: Path) -> None:
    folder.mkdir()
    for number in range(10):
        domain = folder / str(number)
        child = spawn(command(domain, ("true",)))
        while child.poll() is None:
            if (domain / "exit.json").exists():
                assert recorded_exit(domain)
        child.close()
        assert recorded_exit(domain)


def test_peak_memory_is_that_of_the_largest_process(folder: Path) -> None:
    script = "import os; os.fork() or bytearray(80_000_000).hex; os._exit(0)"
    program = (
        f"{script.split(';', maxsplit=1)[0]}\nif os.fork() == 0:\n    x = b'x' * 80_000_000\n    os._exit(0)\nos.wait()"
    )
    result = end_of(spawn(command(folder, (sys.executable, "-I", "-S", "-c", program))))
    assert result.ok
    assert 80_000_000 < result.peak_bytes < 160_000_000


def test_what_cannot_be_started_has_status_127_and_says_why(folder: Path) -> None:
    missing = end_of(spawn(command(folder, ("no-such-program",))))
    assert (missing.reason, missing.status) == (ExitReason.ENDED, 127)
    assert "no-such-program" in missing.detail
    nowhere = command(folder.with_name("other"), ("true",))
    object.__setattr__(nowhere, "cwd", folder / "nowhere")
    assert "nowhere" in end_of(spawn(nowhere)).detail


def test_the_environment_is_what_was_given_and_the_domain(folder: Path) -> None:
    given = {"PATH": os.environ["PATH"], "FOO": "a b $c"}
    assert end_of(spawn(command(folder, ("env",), env=given))).ok
    log = (folder / "log.txt").read_text()
    assert dict(line.split("=", 1) for line in log.splitlines()) == given | {"RALPH_DOMAIN": str(folder)}


def test_the_program_is_looked_up_in_the_payloads_path(folder: Path) -> None:
    tools = folder.with_name("tools")
    tools.mkdir()
    (tools / "mytool").write_text("#!/bin/sh\necho mine\n")
    (tools / "mytool").chmod(0o755)
    result = end_of(spawn(command(folder, ("mytool",), env={"PATH": f"/nowhere:{tools}"})))
    assert result.ok
    assert (folder / "log.txt").read_text() == "mine\n"


def test_standard_input_is_the_file_or_nothing(folder: Path) -> None:
    brief = folder.with_name("brief.md")
    brief.write_text("what to do\n")
    assert shell(folder, "cat", stdin=brief)[1] == "what to do\n"
    assert shell(folder.with_name("other"), "cat")[1] == ""


def test_a_payload_starts_with_default_signals_and_no_new_privileges(folder: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        child = spawn(command(folder, ("grep", "-E", "SigBlk|SigIgn|NoNewPrivs", "/proc/self/status")))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert end_of(child).ok
    lines = (folder / "log.txt").read_text().splitlines()
    values = [int(line.split()[1], 16) & (1 << 31) - 1 for line in lines]  # 32 and 33 are the C library's own
    assert sorted(values) == [0, 0, 1]


def test_a_payload_inherits_nothing_but_its_three_streams_and_the_lock(folder: Path) -> None:
    _, log = shell(folder, "readlink /proc/$$/fd/*")
    assert sorted(set(log.splitlines())) == sorted({"/dev/null", str(folder / "log.txt"), str(folder / "lock")})


def test_a_promised_descriptor_arrives_under_its_number_and_its_end_is_seen(folder: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = (
        "import os, socket; gun = socket.socket(fileno=int(os.environ['RALPH_GUN_FD']));"
        "gun.send(b'ready'); print(gun.recv(99)); gun.close(); import time; time.sleep(600)"
    )
    environment = {"PATH": os.environ["PATH"], "RALPH_GUN_FD": str(theirs.fileno())}
    child = spawn(command(folder, (sys.executable, "-I", "-c", program), env=environment, pass_fds=(theirs.fileno(),)))
    theirs.close()
    ours.settimeout(60)
    assert ours.recv(99) == b"ready"
    ours.send(b"go")
    assert ours.recv(99) == b"", "the shim keeps no copy"
    ours.close()
    assert child.poll() is None
    child.kill("enough")
    end_of(child)


def test_a_used_folder_is_refused(folder: Path) -> None:
    shell(folder, "true")
    with pytest.raises(FileExistsError, match="fresh folder"):
        spawn(command(folder, ("true",)))


def test_a_folder_in_which_something_lives_is_refused(folder: Path) -> None:
    child = spawn(command(folder, ("sleep", "600")))
    with pytest.raises(FileExistsError, match="still lives"):
        spawn(command(folder, ("true",)))
    child.kill("enough")
    end_of(child)


def test_nothing_is_left_open_when_a_start_fails(folder: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        spawn(command(folder, ("true",), stdin=folder / "missing"))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_only_the_main_thread_may_start_a_payload(folder: Path) -> None:
    errors: list[Exception] = []

    def attempt() -> None:
        try:
            spawn(command(folder, ("true",)))
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_a_request_ends_it_and_gives_the_reason(folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, "sleep_on", kill="the user\nstopped it")
    assert (result.reason, result.detail, result.signal) == (ExitReason.KILLED, "the user stopped it", signal.SIGKILL)


def test_a_request_before_the_payload_has_started_ends_it_too(folder: Path) -> None:
    with nothing_survives(folder):
        child = spawn(command(folder, payload("sleep_on", folder)))
        child.kill("at once")
        assert end_of(child).detail == "at once"


def test_a_request_after_the_end_changes_nothing(folder: Path) -> None:
    child = spawn(command(folder, ("true",)))
    select.select([child], [], [], 60)
    child.kill("too late")
    assert end_of(child).ok
    child.kill("much too late")


def test_a_deadline_ends_it(folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, "ignore_term", deadline_s=0.5)
    assert (result.reason, result.detail) == (ExitReason.DEADLINE, "deadline of 0.5 s")
    assert result.seconds >= 0.5


def test_a_deadline_does_not_depend_on_output(folder: Path) -> None:
    with nothing_survives(folder):
        assert run(folder, "flood", deadline_s=0.5).reason is ExitReason.DEADLINE


def test_a_payload_that_obeys_ends_by_itself_within_its_grace(folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, "obey_term", kill="please", grace_s=60.0)
    assert (result.reason, result.detail, result.status) == (ExitReason.KILLED, "please", 7)
    assert result.kill_ms < 30_000


def test_a_payload_that_does_not_obey_is_killed_after_its_grace(folder: Path) -> None:
    with nothing_survives(folder):
        result = run(folder, "ignore_term", deadline_s=0.5, grace_s=0.3)
    assert (result.reason, result.signal) == (ExitReason.DEADLINE, signal.SIGKILL)
    assert result.kill_ms >= 300


def test_a_second_request_cuts_the_grace_short(folder: Path) -> None:
    child = spawn(command(folder, payload("ignore_term", folder), grace_s=600.0))
    until(lambda: is_ready(folder), "ready")
    child.kill("please")
    child.kill("now")
    result = end_of(child)
    assert (result.detail, result.signal) == ("please", signal.SIGKILL)


def test_ctrl_c_in_the_terminal_does_not_touch_a_payload(folder: Path) -> None:
    def supervisor() -> None:
        os.setsid()  # the foreground group of a terminal, as it were
        for number in shims.SHIELDED:
            signal.signal(number, signal.SIG_IGN)
        child = spawn(command(folder, payload("sleep_on", folder)))
        for _ in range(100):
            for number in shims.SHIELDED:
                os.killpg(0, number)
            select.select([], [], [], 0.002)
        until(lambda: is_ready(folder), "ready")
        child.kill("second Ctrl-C")
        assert end_of(child).detail == "second Ctrl-C"

    with nothing_survives(folder):
        assert os.waitstatus_to_exitcode(os.waitpid(as_supervisor(supervisor), 0)[1]) == 0


def test_a_shim_takes_no_notice_of_the_signals_of_a_service_manager(folder: Path) -> None:
    child = spawn(command(folder, payload("sleep_on", folder)))
    until(lambda: is_ready(folder), "ready")
    for number in shims.SHIELDED:
        os.kill(child.pid, number)
    assert not select.select([child], [], [], 0.1)[0]
    child.kill("enough")
    assert end_of(child).detail == "enough"


def test_closing_a_child_that_lives_ends_it(folder: Path) -> None:
    with nothing_survives(folder, within_s=30):
        child = spawn(command(folder, payload("everything", folder)))
        until(lambda: is_ready(folder), "ready")
        child.close()
        until(lambda: recorded_exit(folder), "the record")
        until(lambda: child.poll() is not None, "the end")
    result = recorded_exit(folder)
    assert result is not None
    assert result.reason is ExitReason.ORPHANED


def test_a_deadline_can_be_set_later_and_again(folder: Path) -> None:
    with nothing_survives(folder):
        child = spawn(command(folder, payload("sleep_on", folder), deadline_s=600.0))
        child.set_deadline(300.0)
        child.set_deadline(0.2)
        assert end_of(child).reason is ExitReason.DEADLINE


def test_a_deadline_can_be_put_off(folder: Path) -> None:
    with nothing_survives(folder):
        child = spawn(command(folder, ("sh", "-c", "sleep 1; exit 5"), deadline_s=0.5))
        child.set_deadline(60.0)
        assert end_of(child).status == 5


def test_bytecode_is_run_only_if_it_was_made_from_this_very_source(tmp_path: Path) -> None:
    source = tmp_path / "shim.py"
    source.write_text("x = 1\n")
    compiled = Path(py_compile.compile(str(source), doraise=True) or "")
    assert is_fresh(compiled, source)
    source.write_text("x = 1  # a newer one\n")
    assert not is_fresh(compiled, source)
    compiled.unlink()
    assert not is_fresh(compiled, source)
