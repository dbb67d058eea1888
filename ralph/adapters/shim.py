"""The keeper of one kill domain: stands between the supervisor and one payload, and leaves nothing of it alive.

Run by file path (``python -I -S shim.py CONTROL_FD FOLDER``; its other parts are in the folder) and importing next to
nothing, since an agent, run or scorer may wait for it to start, and it takes no processor from one that works. Control
is one end of a socket pair. The first message through it brings descriptors:

- spec: a marshalled dict (the same interpreter is on both sides), made by `ralph.adapters.process.spawn`;
- the payload's standard input, and its log for output and error; what else the spec says that the payload inherits;
- lock: an exclusive flock on the domain's lock file. The payload and what it starts inherit it: while it is held,
  something lives.

After that a line ``kill WHY`` ends the payload, ``deadline SECONDS`` moves its deadline, and end of file means that the
supervisor is dead. The bytes of ``exit.json`` go back through control as well, out of the payload's reach.

Covered: all that the payload leaves behind, however it was started (double fork, setsid, cleared environment, closed
descriptors, ignored or stopping signals, fork storms), after a normal end, a deadline, a request or the supervisor's
death; and its limits (`meter`). Not covered: a payload of the same user, outside a sandbox, that kills this process.
The supervisor, a subreaper too, sweeps up then. Nor, outside bubblewrap, a storm of root's that forks faster than one
processor can stop it, in sessions of its own.
"""
# Neither pathlib nor contextlib: they would cost more start-up time than all that is imported here.
# ruff: noqa: PTH110, PTH112, PTH118, PTH123, PTH208, SIM105

import _signal as signal  # type: ignore[import-not-found]  # the public ones build enums, for 7 ms
import _socket
import ctypes
import fcntl
import marshal
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Identity = tuple[int, int]  # process id and start time

EXIT_NAME = "exit.json"
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
WAIT_ALL = 0x40000000  # __WALL: also children cloned with another exit signal than SIGCHLD
TICK_S = 0.002  # between two looks at processes that are being killed
NEVER_S = 3600.0
MOST_FDS = 253  # of one message
INT_BYTES = ctypes.sizeof(ctypes.c_int)
TERMINAL = ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTSTP", "SIGTTIN", "SIGTTOU")
IGNORED = (*TERMINAL, "SIGTERM", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGALRM")


def process_stat(pid: int) -> tuple[str, int, int, int] | None:
    """State letter, parent, session and start time (clock ticks since boot) of a process; None once it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19])


def child_pids(parent: int) -> list[int]:
    """Process ids of the children of all threads of a process."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                found.extend(map(int, file.read().split()))
    except (FileNotFoundError, ProcessLookupError):
        if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
            return every_pid()
    return found


def every_pid() -> list[int]:
    """All processes there are: where to look for children on kernels without CONFIG_PROC_CHILDREN."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(parent: int) -> "list[Identity]":
    """Children of a process with their start times (a pid alone is no identity), zombies included."""
    stats = ((pid, process_stat(pid)) for pid in child_pids(parent))
    return [(pid, stat[3]) for pid, stat in stats if stat is not None and stat[1] == parent]


def descendants(roots: "list[Identity]", most: "int | None" = None) -> "list[Identity]":
    """`roots` and everything below them, parents first; little more than `most` of them if there are more."""
    found = list(roots)
    seen = set(roots)
    for pid, _ in found:  # grows while it is walked
        if most is not None and len(found) > most:
            break
        fresh = [child for child in children(pid) if child not in seen]
        seen.update(fresh)
        found.extend(fresh)
    return found


def has_ended(handle: int) -> bool:
    """Have all threads of the process behind this descriptor ended?"""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(0))


def send(process: "Identity", number: int) -> bool:
    """Signal a process; False if there is nothing to signal: it has ended, or a stranger has its pid.

    The descriptor is taken first and the start time read after: whatever happens in between, no stranger is hit.
    Whether it has ended is asked of the descriptor: the state would say zombie when only its first thread has.
    """
    try:
        handle = os.pidfd_open(process[0])
    except OSError:
        return False
    try:
        stat = process_stat(process[0])
        if stat is None or stat[3] != process[1] or has_ended(handle):
            return False
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def strike(roots: "Callable[[], list[Identity]]", struck: "set[Identity]") -> None:
    """Stop, then kill all that hangs below the roots of the moment; adds to `struck` whom it killed.

    Killing processes as they are found loses against a fork storm. A stopped one forks no more, so stopping comes
    first, from the top: whoever is stopped before its children are looked up has no more than those. What was on its
    way meanwhile is found by the next look, and there is one until it finds nobody new.
    """
    stopped: set[Identity] = set()
    found_new = True
    while found_new:
        found_new = False
        found = roots()
        seen = set(found)
        for process in found:  # grows while it is walked
            if process not in stopped and send(process, signal.SIGSTOP):
                stopped.add(process)
                found_new = True
            fresh = [child for child in children(process[0]) if child not in seen]
            seen.update(fresh)
            found.extend(fresh)
    for process in descendants(roots()):
        if send(process, signal.SIGKILL):
            struck.add(process)


def is_bubblewrap(pid: int) -> bool:
    """Is this bubblewrap itself (its outer half, or the first process of its PID namespace)?"""
    try:
        with open(f"/proc/{pid}/comm", "rb") as file:
            return file.read() == b"bwrap\n"
    except OSError:
        return False


def find_program(name: str, search_path: str) -> str:
    """The payload's program, looked up in the payload's PATH, not in ours; the bare name if it is nowhere."""
    if "/" not in name:
        for folder in search_path.split(os.pathsep):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
    return name


class Domain:
    """The payload and all below it, from its start to the last process reaped."""

    def __init__(self, spec: "dict[str, Any]", control: int, lock: int, wake: int) -> None:
        self.spec = spec
        self.control = control  # -1 once the supervisor is dead
        self.lock = lock
        self.wake = wake
        self.leader = 0
        self.wait_status: int | None = None
        self.struck: set[Identity] = set()
        self.heard = b""
        self.meter: Any = None
        self.limit: str | None = None  # the kind of the limit that ended it
        self.look_at = 0.0
        self.started = time.monotonic()
        self.allowed_s: float | None = spec["deadline_s"]  # counted from the start

    def start(self) -> None:
        """Start the payload in a session of its own: no terminal, default signals, the promised descriptors only."""
        import meter  # type: ignore[import-not-found]  # beside this file

        argv, environment, passed = self.spec["argv"], self.spec["env"], self.spec["pass_fds"]
        meter.confine(self.spec["limits"])
        self.meter = meter.Meter(self.spec["limits"], self.spec["folders"])
        os.chdir(self.spec["cwd"])
        os.set_inheritable(self.lock, True)
        self.leader = os.posix_spawn(
            find_program(argv[0], environment.get("PATH", os.defpath)),
            argv,
            environment,
            setsid=True,
            setsigmask=[],
            setsigdef=[getattr(signal, name) for name in (*IGNORED, "SIGCHLD", "SIGXFSZ")],
        )
        if nice := os.getpriority(os.PRIO_PROCESS, 0):  # which the end of our own scheduling has reset
            try:
                os.setpriority(os.PRIO_PROCESS, self.leader, nice)
            except OSError:
                pass  # it has ended already
        for fd in passed:
            os.close(fd)  # else whoever holds the other end of a socket would not see the payload's end

    def reap(self) -> bool:
        """Collect what has ended; False when no child is left, which for a subreaper means: nothing of the payload."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | WAIT_ALL)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.leader:
                self.wait_status = status

    def running(self) -> bool:
        """Does the leader still run?"""
        return self.reap() and self.wait_status is None

    def pause(self, timeout_s: float, *, listening: bool = True) -> None:
        """Wait until a child ends, the supervisor speaks or dies (while `listening`), or the time is over."""
        poll = select.poll()
        poll.register(self.wake, select.POLLIN)
        if listening and self.control >= 0:
            poll.register(self.control, select.POLLIN)
        poll.poll(max(0.0, timeout_s * 1000))
        try:
            os.read(self.wake, 4096)
        except BlockingIOError:
            pass

    def listen(self) -> tuple[str, str] | None:
        """Reason and detail if the supervisor wants an end or is dead, else None; one request at a time."""
        while True:
            line, whole, rest = self.heard.partition(b"\n")
            if whole:
                self.heard = rest
                if line.startswith(b"kill "):
                    return "killed", line[5:].decode(errors="replace")
                if line.startswith(b"deadline "):
                    self.allowed_s = time.monotonic() - self.started + float(line[9:])
                continue
            if self.control < 0:
                return None
            try:
                data = os.read(self.control, 4096)
            except BlockingIOError:
                return None
            except OSError:
                data = b""  # a reset: it died
            if not data:
                self.control = -1
                return "orphaned", "the supervisor is gone"
            self.heard += data

    def left_s(self) -> float:
        """Seconds to the deadline."""
        return NEVER_S if self.allowed_s is None else self.started + self.allowed_s - time.monotonic()

    def why_end(self) -> tuple[str, str] | None:
        """Reason and detail to end the payload now, None while there are none."""
        wish = self.listen()  # first: it may move the deadline
        if wish is not None:
            return wish
        if self.left_s() <= 0:
            return "deadline", f"deadline of {self.allowed_s:g} s"
        return None

    def over_limit(self) -> tuple[str, str] | None:
        """Reason and detail if the payload has more of something than it may have."""
        if time.monotonic() < self.look_at:
            return None
        most = self.spec["limits"]["tasks"]
        excess = self.meter.look([pid for pid, _ in descendants(children(os.getpid()), most)])
        self.look_at = time.monotonic() + self.meter.wait_s
        if excess is None:
            return None
        self.limit = excess[0]
        try:
            # One call for all that stayed in its group, and none of them can fork past it; we have not reaped the
            # leader, so that the number is still its group's.
            os.killpg(self.leader, signal.SIGKILL)
        except OSError:
            pass
        return "limit", excess[1]

    def watch(self) -> tuple[str, str]:
        """Wait for the leader's end or for a reason to end it; the reason and its detail."""
        while self.running():
            reason = self.why_end() or self.over_limit()
            if reason is not None:
                return reason
            self.pause(min(self.left_s(), self.look_at - time.monotonic()))
        return "ended", ""

    def ask(self) -> None:
        """Send TERM and leave the payload `grace_s` to end by itself; a second request cuts that short.

        TERM goes to the leader alone, which knows best how to end its own. Bubblewrap would die of it and take the
        payload along unwarned, so it goes to the first processes below.
        """
        end = time.monotonic() + self.spec["grace_s"]
        asked = [child for child in children(os.getpid()) if child[0] == self.leader]
        while any(is_bubblewrap(pid) for pid, _ in asked):
            asked = [child for pid, _ in asked for child in children(pid)]
        for process in asked:
            send(process, signal.SIGTERM)
            send(process, signal.SIGCONT)
        while self.running() and time.monotonic() < end and self.control >= 0 and self.listen() is None:
            self.pause(end - time.monotonic())

    def clear(self) -> None:
        """Kill until there is nothing left to wait for. A process stuck in the kernel keeps us here, the lock held."""
        while self.reap():
            strike(lambda: children(os.getpid()), self.struck)
            if self.reap():
                self.pause(TICK_S, listening=False)


def report(domain: Domain, reason: str, detail: str, ended: float) -> bytes:
    """The bytes of exit.json."""
    import ending  # type: ignore[import-not-found]  # beside this file

    now = time.monotonic()
    code = 127 if domain.wait_status is None else os.waitstatus_to_exitcode(domain.wait_status)
    started = domain.leader != 0
    ending.cut_log(1, domain.spec["limits"]["log_bytes"])
    record: bytes = ending.record(
        {
            "reason": reason,
            "detail": detail,
            "limit": domain.limit,
            "status": code if code >= 0 and (started or reason == "ended") else None,
            "signal": -code if code < 0 else None,
            "seconds": round(now - domain.started, 6),
            "stragglers": sum(pid != domain.leader for pid, _ in domain.struck),
            "kill_ms": round((now - ended) * 1000, 3),
        }
    )
    return record


def prepare() -> None:
    """Become a subreaper that no signal of a terminal or a service manager ends.

    No new privileges, since a payload could start a set-uid program, which an ordinary user has no right to kill.
    """
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option in (PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS):
        if prctl(option, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
    try:
        # Among ten thousand processes of a fork storm an ordinary one gets a ten thousandth of the processor.
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        pass  # for that one needs privileges; an ordinary user's storms are held by their number (`meter.confine`)


def wake_up() -> int:
    """A descriptor that becomes readable when a child ends; signals are heard from now on."""
    wake, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return wake


def keep(domain: Domain) -> bytes:
    """Run the payload to its end, whatever that is; the bytes of exit.json once nothing of it is left."""
    reason = domain.why_end()
    if reason is None:
        try:
            domain.start()
        except (OSError, ValueError) as error:
            reason = "ended", f"could not start {domain.spec['argv'][0]!r}: {error}"
        else:
            reason = domain.watch()
    ended = time.monotonic()
    if reason[0] in {"killed", "deadline"} and domain.leader and domain.spec["grace_s"] > 0:
        domain.ask()
    domain.clear()
    return report(domain, *reason, ended)


def orders(control: int) -> "tuple[dict[str, Any], int, int] | None":
    """Wait for them; the spec, control and lock, and everything the payload inherits under its promised number.

    None if the supervisor ends without any.
    """
    fds: list[int] = []
    channel = _socket.socket(fileno=control)
    data, ancillary, _, _ = channel.recvmsg(1, _socket.CMSG_SPACE(MOST_FDS * INT_BYTES))
    channel.detach()
    for level, kind, found in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds.extend(memoryview(found).cast("i"))
    if not data:
        return None
    with open(fds[0], "rb") as file:
        spec = marshal.load(file)
    # All go out of the way of the promised numbers first, where no payload inherits them.
    above, came = max([2, *spec["pass_fds"]]) + 1, (control, *fds[1:])
    control, lock, stdin, log, *passed = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in came)
    for fd in came:
        os.close(fd)
    for source, number in ((stdin, 0), (log, 1), (log, 2), *zip(passed, spec["pass_fds"], strict=True)):
        os.dup2(source, number, inheritable=True)
    for source in (stdin, log, *passed):
        os.close(source)
    return spec, control, lock


def main(control: int, programs: str) -> int:
    """Keep one payload. Nothing of it is left on return: status 0, or 3 if exit.json could not be written."""
    prepare()
    sys.path.append(programs)  # last: where a name is in the standard library, that is meant
    import ending
    import meter  # noqa: F401 - now, and not when somebody waits for the payload's start

    given = orders(control)
    if given is None:
        return 0
    spec, control, lock = given
    wake = wake_up()
    os.set_blocking(control, False)
    domain = Domain(spec, control, lock, wake)
    data = keep(domain)
    status = 0
    try:
        ending.write_whole(spec["folder"], EXIT_NAME, data)
    except OSError:
        status = 3
    try:
        os.write(control, data)
    except OSError:
        pass  # the supervisor is dead: exit.json is for the next one
    return status


if __name__ == "__main__":
    # Without the interpreter's own clean-up: there is nothing to clean, and somebody waits.
    os._exit(main(int(sys.argv[1]), sys.argv[2]))
