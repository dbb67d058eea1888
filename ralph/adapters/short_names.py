"""Short names for deep folders: a program that makes a Unix socket in its TMPDIR has 107 bytes for the name of it.

Python's multiprocessing does, and with it every data loader that has processes of its own; where the name is too long
it hangs without a word. The short names are links in one folder of ours below the system's own for temporary files;
those whose folders are gone go with the next one made.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

LONGEST = 107 - len("/pymp-12345678/listener-12345678")


def is_short(folder: Path) -> bool:
    """Can sockets be made in this folder, and one below it?"""
    return len(os.fsencode(folder)) <= LONGEST


def short_name(folder: Path) -> Path:
    """A link to `folder` with a name that is short; `folder` itself where none can be had."""
    place = Path(tempfile.gettempdir()) / f"ralph-{os.geteuid()}"
    link = place / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return folder  # somebody else was there first, and could lead us anywhere
        for old in place.iterdir():
            if not old.exists():
                old.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(folder)
        return link if is_short(link) and link.readlink() == folder else folder
    except OSError:
        return folder
