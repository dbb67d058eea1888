"""Writing files so that no reader ever sees half of one, whenever we are killed.

Whole files: a temporary file in the same folder, fsync, rename. Rows: one append each, made durable before it
returns; a row torn by a crash has no newline, and is cut before the next one is added. Each path has one writer.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

TAIL_BYTES = 1 << 16


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace the file at `path`, making its folder if need be; a link keeps pointing where it did.

    `durable=False` leaves out the fsync: still never half a file after a kill, but maybe an old one after a power cut.

    Raises:
        OSError: with the old file untouched, for instance when the disk is full.
    """
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _beside(target, content, durable=durable) as whole:
        with contextlib.suppress(FileNotFoundError):  # a new file gets the default mode
            whole.chmod(stat.S_IMODE(target.stat().st_mode))
        whole.replace(target)
    if durable:
        sync_folder(target.parent)


def create(path: Path, content: str | bytes) -> bool:
    """Make the file at `path` with all of its content at once; False, and nothing changed, if there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path, content, durable=True) as whole:
        try:
            os.link(whole, path)  # unlike rename, this never replaces
        except FileExistsError:
            return False
    sync_folder(path.parent)
    return True


@contextlib.contextmanager
def _beside(target: Path, content: str | bytes, *, durable: bool) -> Iterator[Path]:
    """A complete temporary copy next to `target`; one fixed name, so a crash leaves at most one, and never for long."""
    temporary = target.with_name(f".{target.name}.tmp")
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte: on a disk that is almost full `write` comes up short without an error."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Make names that were added to or replaced in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def append_line(path: Path, line: str) -> None:
    """Add one row and make it durable. A torn last row of an earlier crash is cut first.

    Raises:
        ValueError: when `line` holds a newline.
        OSError: with the file as it was before, for instance when the disk is full.
    """
    if "\n" in line:
        raise ValueError(f"a row of {path} would take more than one line: {line[:80]!r}")
    append_text(path, line + "\n")


def append_text(path: Path, text: str) -> None:
    """Add `text`, which ends with a newline, as `append_line` adds a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        size = _cut_torn_row(fd)
        try:
            write_all(fd, text.encode("utf-8", "backslashreplace"))
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def _cut_torn_row(fd: int) -> int:
    """Cut the file after its last newline; its size then."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - TAIL_BYTES)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def last_lines(path: Path, most_bytes: int = TAIL_BYTES) -> list[str]:
    """The complete rows within the last `most_bytes` of a file, oldest first; none when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - most_bytes)
            file.seek(max(0, start - 1))
            data = file.read()
    except FileNotFoundError:
        return []
    if start > 0:  # the byte before the window tells whether it begins with a whole row
        data = data[data.find(b"\n") + 1 :] if b"\n" in data else b""
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace").split("\n")[:-1]


def remove_tree(path: Path) -> None:
    """Remove whatever is at `path`, also folders that were made unreadable; never follows a link, never waits.

    Of any depth: a folder below a folder is moved to the top first. Names as long as that would not be taken, and what
    calls itself for each level comes to an end. Nobody else may be at work in there.

    Raises:
        OSError: when something could not be removed, for instance because it belongs to another user.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)  # a FIFO, too: opening it would wait for a writer
        return
    path.chmod(0o700)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _empty(top)
    finally:
        os.close(top)
    path.rmdir()


def is_empty_folder(path: Path) -> bool:
    """Whether there is a folder that nothing is in, and no link to one."""
    try:
        return not path.is_symlink() and not any(path.iterdir())
    except OSError:
        return False


def _empty(top: int) -> None:
    """Remove everything below an open folder."""
    names = os.listdir(top)
    moved = 0
    while names:
        name = names.pop()
        if not _is_folder(name, top):
            os.unlink(name, dir_fd=top)
            continue
        os.chmod(name, 0o700, dir_fd=top)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            for below in os.listdir(fd):  # noqa: PTH208 - no path is long enough for where this is
                if not _is_folder(below, fd):
                    os.unlink(below, dir_fd=fd)
                    continue
                moved += 1
                while (place := f".removing-{moved}") in names:
                    moved += 1
                os.chmod(below, 0o700, dir_fd=fd)  # a folder that cannot be written cannot be moved
                os.rename(below, place, src_dir_fd=fd, dst_dir_fd=top)
                names.append(place)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _is_folder(name: str, fd: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
