"""Room on the disk: measured before anything begins, with a small reserve for the last words.

The reserve is a ballast file in state/, written at the start and deleted when a write of ours meets a full disk, so
that a result that just came, the reason and progress.md can still be written.

Covers: file systems that fill up slowly or at once, whoever fills them. Does not cover: quotas that `statvfs` does not
show (the write that meets one is still retried with the ballast's blocks), and a writer that takes the ballast's blocks
in the same instant; then only the message of the loop's end says why.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

BALLAST_BYTES = 256 * 1024
FULL_BYTES = 4 * BALLAST_BYTES  # below this no iteration gets anywhere, whatever the arena says
GB = 10**9


class FolderDisk:
    """The port `Disk` for the file systems that hold `folders`; `ballast` is the path of the reserve.

    `settle` is called before room is called short: it waits for what is being removed.
    """

    def __init__(
        self, folders: Sequence[Path], ballast: Path, spare_bytes: int, settle: Callable[[], None] = lambda: None
    ) -> None:
        self._folders, self._ballast, self._settle = folders, ballast, settle
        self._bound = max(spare_bytes, FULL_BYTES)
        self._relieved = False

    def lay_ballast(self) -> None:
        """Write the reserve. Without room for it there is none, and `shortage` says why nothing begins."""
        try:
            self._ballast.parent.mkdir(parents=True, exist_ok=True)
            # bytes that no file system can store in less
            self._ballast.write_bytes(os.urandom(BALLAST_BYTES))
        except OSError:
            with contextlib.suppress(OSError):
                self._ballast.unlink(missing_ok=True)

    def shortage(self) -> str:
        """Why nothing may begin, in words; empty while there is room."""
        folder = min(self._folders, key=_free)
        free = _free(folder)
        if free < self._bound:
            self._settle()
            free = _free(folder)
        if free < self._bound:
            return (
                f"the disk is nearly full: {_size(free)} free where {folder} is, and {_size(self._bound)} are wanted "
                "(limits.spare_disk_gb). Make room"
            )
        if self._relieved:
            return f"the disk was full for a moment: {_size(free)} are free where {folder} is. See what fills it"
        return ""

    def relieve(self) -> bool:
        """Give the reserve up; whether there was one. Nothing begins any more in this loop."""
        self._relieved = True
        try:
            self._ballast.unlink()
        except OSError:
            return False
        return True


def _free(folder: Path) -> int:
    """Bytes free for us where `folder` is, or will be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _size(count: int) -> str:
    """Bytes for people.

    >>> _size(3 * 10**9 // 2), _size(300 * 10**6), _size(40_000)
    ('1.5 GB', '300.0 MB', '0.0 MB')
    """
    return f"{count / GB:.1f} GB" if count >= GB else f"{count / 1e6:.1f} MB"
