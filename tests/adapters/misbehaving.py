"""Payloads that do not want to die, as one program: ``python -I -S misbehaving.py KIND FOLDER [stays]``.

With ``stays`` they do so below a first process that does not end, for its end is the beginning of theirs. Each prints
``ready`` when its processes are in place. Standard library only, and as little of it as will do.
"""

import contextlib
import os
import resource
import signal
import sys
import time

FOREVER_S = 600.0
MOST_PROCESSES = 2000


def ready() -> None:
    os.write(1, b"ready\n")


def fork(then: str = "sleep") -> int:
    """Start a child that sleeps on; returns its pid."""
    pid = os.fork()
    if pid == 0:
        if then == "setsid":
            os.setsid()
        time.sleep(FOREVER_S)
        os._exit(0)
    return pid


def sleep_on() -> None:
    ready()
    time.sleep(FOREVER_S)


def ignore_term() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    fork()
    sleep_on()


def double_fork() -> None:
    """A daemon in the classical way: grandchild in a session of its own, its parents gone."""
    there, here = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ready()
            os.close(here)
            time.sleep(FOREVER_S)
        os._exit(0)
    wait_for_the_last(there, here)


def wait_for_the_last(there: int, here: int) -> None:
    """Return when nobody else has the pipe open: the grandchild is in place, and may be killed with the leader."""
    os.close(here)
    os.read(there, 1)
    os.wait()


def clear_all() -> None:
    """As `double_fork`, with no environment, no descriptors (the lock's among them), another folder and name."""
    there, here = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ready()
            os.closerange(0, 256)
            os.chdir("/")
            # The folder in its name is all that the tests have to find it by; nobody else looks at that.
            os.execve("/bin/sh", ["sh", "-c", f"sleep {FOREVER_S:g}; :", sys.argv[2]], {})
        os._exit(0)
    wait_for_the_last(there, here)


def rage() -> None:
    """Start another in a session of its own and end, as fast as it goes; after 20 s it is over, whatever happens.

    An ordinary user's storm leaves processes for the tests beside it; where it may have no more, it tries again.
    """
    resource.setrlimit(resource.RLIMIT_NPROC, (MOST_PROCESSES, MOST_PROCESSES))
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        with contextlib.suppress(BlockingIOError):
            if os.fork():
                os._exit(0)
            os.setsid()


def storm() -> None:
    ready()
    rage()


def wide_storm() -> None:
    """Sixteen of those at once, under a leader that stays."""
    for _ in range(16):
        if os.fork() == 0:
            rage()
    sleep_on()


def stopped() -> None:
    for _ in range(3):
        os.kill(fork("setsid"), signal.SIGSTOP)
    ready()
    os.kill(os.getpid(), signal.SIGSTOP)


def hold_pipes() -> None:
    """The leader ends at once, a grandchild keeps its standard output and error open."""
    fork("setsid")
    ready()


def kill_shim() -> None:
    """Kill the process above, after starting some that would outlive it; half of them close the lock."""
    fork("setsid")
    if os.fork() == 0:
        os.setsid()
        os.closerange(3, 256)
        time.sleep(FOREVER_S)
    ready()
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER_S)


def kill_shim_cleared() -> None:
    """As `kill_shim`; what would outlive it has neither lock nor environment nor folder."""
    if os.fork() == 0:
        clear_all()
        os._exit(0)
    os.wait()
    ready()
    os.kill(os.getppid(), signal.SIGKILL)


def stop_shim() -> None:
    os.kill(os.getppid(), signal.SIGSTOP)
    sleep_on()


def forge_exit() -> None:
    """Write the record of a happy end, then kill the one who would write the true one."""
    record = '{"schema": 1, "reason": "ended", "detail": "", "status": 0, "signal": null, "seconds": 1.0,'
    record += ' "peak_bytes": 1, "stragglers": 0, "kill_ms": 0.0}'
    with open(sys.argv[2] + "/exit.json", "w") as file:  # noqa: PTH123 - as few imports as possible
        file.write(record)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER_S)


def close_lock() -> None:
    os.closerange(3, 256)
    fork("setsid")
    sleep_on()


def threads() -> None:
    import threading

    for _ in range(50):
        threading.Thread(target=time.sleep, args=(FOREVER_S,), daemon=True).start()
    threading.Thread(target=fork).start()  # the child of another thread than the first
    sleep_on()


def headless() -> None:
    """End the first thread alone: the process looks like a zombie and goes on."""
    import ctypes
    import threading

    threading.Thread(target=time.sleep, args=(FOREVER_S,)).start()
    os.write(1, f"ready {os.getpid()}\n".encode())
    ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)


def flood() -> None:
    """Write without end."""
    ready()
    while True:
        os.write(1, b"x" * 65535 + b"\n")
        time.sleep(0.001)


def obey_term() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    sleep_on()


def everything() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    fork()
    fork("setsid")
    for payload in (double_fork, clear_all):
        if os.fork() == 0:
            payload()
            os._exit(0)
    os.kill(fork("setsid"), signal.SIGSTOP)
    sleep_on()


if __name__ == "__main__":
    if sys.argv[3:] == ["stays"] and os.fork():
        time.sleep(FOREVER_S)
    globals()[sys.argv[1]]()
