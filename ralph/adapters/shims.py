"""Starting shims, and keeping one in reserve: a Python that has started and waits for its orders, told nothing yet.

A shim takes 15 to 20 ms to start, and every agent, run and scorer begins with one. In a loop (`Reserve.kept`) the next
is started as soon as the last one has its orders, so that nobody waits for it. It is one like any other: it knows of no
domain, holds no lock and no descriptor but its end of a socket pair, serves one payload and ends. When the supervisor
dies first, it sees the end of that socket and ends, too.
"""

import contextlib
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from ralph.adapters import shim

SHIELDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

ours: set[int] = set()  # not yet reaped: any other child of ours in a foreign session is an orphan


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A shim, and our end of its control socket."""

    popen: "subprocess.Popen[bytes]"
    control: socket.socket

    def order(self, fds: Sequence[int]) -> None:
        """Send it its orders: spec, lock, standard input and output, and what its payload inherits."""
        socket.send_fds(self.control, [b"\n"], list(fds))

    def dismiss(self) -> None:
        """Have it end without having served."""
        self.control.close()
        self.popen.wait()
        ours.discard(self.popen.pid)


class Reserve:
    """Keeps at most one, between `open` and `close`; outside of that each is started when it is needed."""

    def __init__(self) -> None:
        self._waiting: Started | None = None
        self._is_open = False

    def take(self) -> Started:
        """The one in reserve, or a new one."""
        found, self._waiting = self._waiting, None
        if found is not None and found.popen.poll() is not None:  # somebody has killed it
            found.dismiss()
            found = None
        return found or _start()

    def restock(self) -> None:
        """Start the next one. Only from the main thread."""
        if self._is_open and self._waiting is None:
            self._waiting = _start()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """While this lasts, there is one in reserve."""
        self._is_open = True
        try:
            self.restock()
            yield
        finally:
            self._is_open = False
            if self._waiting is not None:
                self._waiting.dismiss()
                self._waiting = None


reserve = Reserve()


def _start() -> Started:
    here, there = socket.socketpair()
    # Blocked signals stay blocked through exec: no Ctrl-C reaches a shim that has no session and no handlers yet.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SHIELDED)
    try:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", _program(), str(there.fileno()), str(Path(shim.__file__).parent)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
            pass_fds=(there.fileno(),),
            start_new_session=True,
        )
    except BaseException:
        here.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()
    ours.add(popen.pid)
    return Started(popen=popen, control=here)


def _program() -> str:
    """The shim's bytecode if this interpreter has left it on disk, which spares 4 ms of compiling, else its source."""
    compiled = shim.__spec__.cached
    return compiled if compiled is not None and is_fresh(Path(compiled), Path(shim.__file__)) else shim.__file__


def is_fresh(compiled: Path, source: Path) -> bool:
    """Whether bytecode is of this very source: who runs a file by its name gets no such check from Python (PEP 552)."""
    try:
        with compiled.open("rb") as file:
            header = file.read(16)
        info = source.stat()
    except OSError:
        return False
    made_from = struct.pack("<4sIII", MAGIC_NUMBER, 0, int(info.st_mtime) & 0xFFFFFFFF, info.st_size & 0xFFFFFFFF)
    return header == made_from
