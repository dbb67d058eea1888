"""A text file that a human edits, with any editor and at any moment, while we read it and append to it.

Why appending in place keeps every byte of the human's, and what can still happen to ours:
docs/decisions/0002-learnings-append.md.
"""

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ralph.adapters.files import create

QUIET_S = 0.03  # a file written to this recently may be in the middle of a save
PATIENCE_S = 0.5  # a save is over by then; what is there is what is meant
_LOOK_AGAIN_S = 0.005
_CHUNK = 1 << 20


def read_steady(path: Path, patience_s: float = PATIENCE_S) -> str | None:
    """The text of a file, not caught in the middle of a save; None if there is none even after waiting.

    Editors truncate and write, or move the old file away and a new one in: for a moment the file is empty, short
    or missing. Waits at most `patience_s` for it to be whole and still. Bytes that are not UTF-8 come as U+FFFD.
    """
    deadline = time.monotonic() + patience_s
    while True:
        data: bytes | None = None
        with contextlib.suppress(FileNotFoundError):
            before = path.stat()
            data = path.read_bytes()
            if same_version(before, path.stat()) and not _mid_save(before, patience_s):
                return _decode(data)
        if time.monotonic() >= deadline:
            return None if data is None else _decode(data)
        time.sleep(_LOOK_AGAIN_S)


def append_shared(
    path: Path,
    compose: Callable[[str], str],
    new_page: str,
    patience_s: float = PATIENCE_S,
    known: Callable[[os.stat_result], str | None] = lambda _: None,
) -> os.stat_result | None:
    """Append what `compose` answers to the file's present text, in one write at its end; no other byte changes.

    `compose` may be asked several times, each time about a newer text; an empty answer appends nothing. A missing
    file is made from `new_page` first. Before the text is read, `known` may answer in the place of `compose` for a file
    in this state, which it knows already. Returns the state in which we left the file, if nobody can have been at it.

    Raises:
        OSError: when the file cannot be written, for instance because the disk is full.
    """
    deadline = time.monotonic() + patience_s
    while True:
        over = time.monotonic() >= deadline
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            if over and not create(path, new_page):
                raise
        else:
            left: list[os.stat_result] = []
            try:
                done = _append_once(fd, compose, known, deadline, left) and _still_at(path, fd)
            finally:
                os.close(fd)
            if done or over:
                return left[0] if done and left else None
        time.sleep(_LOOK_AGAIN_S)


def _append_once(
    fd: int,
    compose: Callable[[str], str],
    known: Callable[[os.stat_result], str | None],
    deadline: float,
    left: list[os.stat_result],
) -> bool:
    """One attempt on one open file; False to come back when a save is over. `left` gets its state if we were alone."""
    # who waits for the lock closes the file meanwhile, since the holder's lease needs it to be nobody else's;
    # one that holds on for ever is not waited for: appends are whole even so
    if not _locked(fd) and time.monotonic() < deadline:
        return False
    with _alone(fd, deadline) as alone:
        status = os.fstat(fd)
        empty = status.st_size == 0
        doubtful = (empty or not alone) and _mid_save(status, PATIENCE_S)
        if doubtful and time.monotonic() < deadline:
            return False
        answer = known(status) if alone else None
        chunk = (compose(_decode(_read(fd))) if answer is None else answer).encode("utf-8", "backslashreplace")
        if not chunk:
            return True
        written = os.write(fd, chunk)  # O_APPEND: lands at the end of that instant, whoever else writes
        if written < len(chunk):
            if alone:  # nobody can have added anything behind it
                os.ftruncate(fd, status.st_size)
            raise OSError(errno.ENOSPC, f"the disk took {written} of {len(chunk)} bytes of learnings; free some space")
        if alone:
            left.append(os.fstat(fd))
    os.fsync(fd)
    return True


def _locked(fd: int) -> bool:
    """Take the lock that supervisors sharing a page respect, if it is free."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _alone(fd: int, deadline: float) -> Iterator[bool]:
    """Keep everybody else from opening the file for these few microseconds, where the system can do that.

    Linux grants a write lease only while nobody else has the file open, and then holds up every `open` until the
    lease is returned: editors know nothing of flock, but cannot get around this. It is not granted while a reader
    such as `tail -f` stays, nor on other systems, network file systems or files of another user.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        yield False
        return
    # whoever waits for the lease raises a signal in us; SIGURG is ignored by default, the default SIGIO would kill
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
    granted = False
    while not granted:
        try:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            granted = True
        except OSError as error:
            if error.errno != errno.EAGAIN or time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_AGAIN_S)
    try:
        yield granted
    finally:
        if granted:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _mid_save(status: os.stat_result, empty_s: float) -> bool:
    """Whether the file was touched so recently that its save may not be over; an empty one is given longer."""
    age_s = time.time() - status.st_mtime  # both are wall clock; a file from the future is not waited for
    return 0 <= age_s < (QUIET_S if status.st_size else empty_s)


def same_version(a: os.stat_result, b: os.stat_result) -> bool:
    """Whether nobody wrote to a file, or put another in its place, between two looks at it."""
    return (a.st_dev, a.st_ino, a.st_size, a.st_mtime_ns) == (b.st_dev, b.st_ino, b.st_size, b.st_mtime_ns)


def _still_at(path: Path, fd: int) -> bool:
    """False when somebody moved another file to this name meanwhile, so that ours went with the old one."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _read(fd: int) -> bytes:
    parts: list[bytes] = []
    at = 0
    while part := os.pread(fd, _CHUNK, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace").removeprefix("\ufeff")
