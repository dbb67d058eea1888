"""Secrets in the supervisor's environment, and in files that agents and runs leave: logs and small reports.

Files are redacted once their kill domain is over, a window at a time, so that a log of any size takes little memory.
Covered: regular files of text. Not covered: files with a zero byte near their beginning, which are data and must stay
as they are; what a program wrote in a compressed or encoded form; of a folder, what is beyond 64 MiB, smallest first.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ralph.adapters.environment import SECRET
from ralph.adapters.files import write_all
from ralph.config import Config
from ralph.core.secrets import LONGEST, Redactor, secret_values, spans_to
from ralph.errors import RefusedError

WINDOW_BYTES = 1 << 20
MOST_BYTES = 64 << 20  # of one folder
_HEAD_BYTES = 8_192


def redactor_of(environ: Mapping[str, str], config: Config) -> Redactor:
    """A redactor that knows the secrets of this environment: variables of a telling name, and those named as keys.

    A variable that holds the path of something that exists, such as SSH_AUTH_SOCK, holds no secret.
    """
    keys = {entry.key for entry in config.agents.values() if entry.key}
    found = secret_values(environ, lambda name: bool(SECRET.search(name)) or name in keys)
    return Redactor({name: value for name, value in found.items() if not _is_path(value)})


def refuse_secret(redact: Redactor, file: str, before: str, after: str) -> None:
    """Hold one changed file of a candidate against the rule that no commit carries a secret that was not there before.

    Raises:
        RefusedError: naming the file, the line and what it is, never the value.
    """
    if redact.find(file):
        raise RefusedError("the name of a file holds a secret, which a commit would keep for ever")
    if (found := redact.added(before, after)) is not None:
        line, what = found
        raise RefusedError(
            f"{file} line {line} adds a secret ({what}), which a commit would keep for ever; leave it out"
        )


def redact_file(path: Path, redact: Redactor) -> bool:
    """Replace the secrets in a file of text; whether there were any. No link is followed, no special file opened.

    Raises:
        OSError: when it cannot be replaced, for instance because the disk is full; the file is as it was.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False  # not there, a link, or not ours to read
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or b"\0" in os.pread(fd, _HEAD_BYTES, 0):
            return False
        if not any(changed for _, changed in _windows(fd, redact)):
            return False
        _rewrite(path, fd, stat.S_IMODE(info.st_mode), redact)
        return True
    finally:
        os.close(fd)


def redact_folder(folder: Path, redact: Redactor) -> None:
    """Redact every file of text below `folder`, the smallest first, up to `MOST_BYTES`."""
    left = MOST_BYTES
    paths = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    for size, path in sorted((path.lstat().st_size, path) for path in paths):
        left -= size
        if left < 0:
            return
        redact_file(path, redact)


def _rewrite(path: Path, fd: int, mode: int, redact: Redactor) -> None:
    temporary = path.with_name(f".{path.name}.redacted")
    out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            for text, _ in _windows(fd, redact):
                write_all(out, text.encode("utf-8", "surrogateescape"))
            os.fchmod(out, mode)
        finally:
            os.close(out)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _windows(fd: int, redact: Redactor) -> Iterator[tuple[str, bool]]:
    """The redacted text piece by piece, and whether a piece was changed. No secret and no line lies across a cut."""
    at, carry = 0, b""
    while True:
        data = os.pread(fd, WINDOW_BYTES, at)
        at += len(data)
        text = (carry + data).decode("utf-8", "surrogateescape")
        found = redact.find(text)
        cut = spans_to(text, found, max(0, len(text) - LONGEST)) if data else len(text)
        ours = [each for each in found if each.end <= cut]
        yield redact.marked(text[:cut], ours), bool(ours)
        if not data:
            return
        carry = text[cut:].encode("utf-8", "surrogateescape")


def _is_path(value: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return value.startswith("/") and Path(value).exists()
    return False
