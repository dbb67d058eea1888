"""Reading files that an agent or a run wrote, in a folder that it could change.

Covers: symbolic links, the file's own or on the way to it; FIFOs and devices, which could hang a reader; folders; files
of any size, of which no more than a bound is read; files that cannot be read. Does not cover: what the bytes say, and
hard links, which show nothing that their maker could not read.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ralph.errors import RalphError


class UntrustedFileError(RalphError):
    """It is not what it should be; the message says what it is, and reads on after the file's name."""


def read_untrusted(root: Path, name: str, most_bytes: int) -> bytes:
    """All bytes of the regular file `name`, a relative path, below `root`, which itself is trusted.

    Raises:
        FileNotFoundError: there is none.
        UntrustedFileError: it is no regular file, behind a link, longer than `most_bytes`, or cannot be read.
    """
    with _opened(root, name) as fd:
        data = _read(fd, most_bytes + 1)
        if len(data) > most_bytes:
            size = os.fstat(fd).st_size
            raise UntrustedFileError(f"is {size:,} bytes long; at most {most_bytes:,} are read")
        return data


def read_untrusted_tail(root: Path, name: str, most_bytes: int) -> bytes:
    """The last `most_bytes` of such a file; errors as in `read_untrusted`, but for its length."""
    with _opened(root, name) as fd:
        size = os.fstat(fd).st_size
        os.lseek(fd, max(0, size - most_bytes), os.SEEK_SET)
        return _read(fd, most_bytes)


def read_untrusted_blocks(root: Path, name: str, most_blocks: int, block_bytes: int) -> list[bytes]:
    """Such a file in blocks: all of it, or if it is longer, so many blocks spread evenly over it, the last at its end.

    Errors as in `read_untrusted`, but for its length.
    """
    with _opened(root, name) as fd:
        size = os.fstat(fd).st_size
        if size <= most_blocks * block_bytes:
            return [_read(fd, size)]
        blocks = []
        for number in range(most_blocks):
            os.lseek(fd, (size - block_bytes) * number // (most_blocks - 1), os.SEEK_SET)
            blocks.append(_read(fd, block_bytes))
        return blocks


@contextlib.contextmanager
def _opened(root: Path, name: str) -> Iterator[int]:
    """Open `name` step by step, so that no link on the way leads elsewhere."""
    *folders, last = Path(name).parts
    with contextlib.ExitStack() as stack:
        try:
            at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, at)
            for folder in folders:
                at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                stack.callback(os.close, at)
            # Without O_NONBLOCK the opening of a FIFO waits for a writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(last, flags, dir_fd=at)
            stack.callback(os.close, fd)
        except FileNotFoundError:
            raise
        except NotADirectoryError:
            raise UntrustedFileError("is behind a symbolic link") from None
        except OSError as error:
            link = error.errno == errno.ELOOP
            raise UntrustedFileError("is a symbolic link" if link else f"cannot be read: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UntrustedFileError("is not a regular file")
        yield fd


def _read(fd: int, most_bytes: int) -> bytes:
    """Up to so many bytes; one call may bring fewer."""
    parts = []
    try:
        while most_bytes > 0 and (part := os.read(fd, most_bytes)):
            parts.append(part)
            most_bytes -= len(part)
    except OSError as error:
        raise UntrustedFileError(f"cannot be read: {error.strerror}") from None
    return b"".join(parts)
