"""Contents of git's objects: of new ones from their own files, of all others by one git for all of them."""

import tempfile
import zlib
from collections.abc import Callable, Sequence
from hashlib import sha1, sha256
from pathlib import Path

from gitdb.db.loose import LooseObjectDB
from gitdb.exc import ODBError

from ralph.adapters.git_output import read_objects

SHA1_DIGITS = 40


class Objects:
    """The objects of the repository with the folder `common`; `git` runs a command there and returns what it prints."""

    def __init__(self, common: Path, git: Callable[..., bytes]) -> None:
        self._loose, self._git = LooseObjectDB(str(common / "objects")), git

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Contents in this order. Raises GitError when one cannot be read."""
        fresh = {name: data for name in names if (data := self._fresh(name)) is not None}
        others = [name for name in names if name not in fresh]
        found = fresh | dict(zip(others, self._asked(others), strict=True))
        return [found[name] for name in names]

    def _fresh(self, name: str) -> bytes | None:
        """What was written lately has not been packed yet: a file to be read, and no process to be started.

        It is held against its name, since gitdb does not notice every damage.
        """
        try:
            found = self._loose.stream(bytes.fromhex(name))
            data = bytes(found.read())
        except (ODBError, OSError, ValueError, zlib.error):
            return None  # packed, borrowed or broken: git knows, and says so in its own words
        digest = (sha1 if len(name) == SHA1_DIGITS else sha256)(b"%s %d\0" % (found.type, len(data)) + data)
        return data if digest.hexdigest() == name else None

    def _asked(self, names: Sequence[str]) -> list[bytes]:
        if not names:
            return []
        with tempfile.TemporaryFile() as questions:
            questions.write("".join(f"{name}\n" for name in names).encode())
            questions.seek(0)
            return read_objects(self._git("cat-file", "--batch", stdin=questions), names)
