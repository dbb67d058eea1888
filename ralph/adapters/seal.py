"""The sealed copy: the scorer and the arena's fixed files, as they were when the campaign began.

Covers: a changed, added or removed file in the copy is noticed before the next commit and the next score, and put right
from the original. Does not cover: a copy changed and changed back while a scorer reads it; the sandbox
keeps agents and runs from writing here at all.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from ralph.adapters.files import write_atomic
from ralph.errors import RalphError


class Seal:
    """Files under `folder`, each with its SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sums: dict[str, str] = {}
        self._bytes: dict[str, bytes] = {}

    @property
    def folder(self) -> Path:
        """Where the sealed files lie."""
        return self._folder

    def make(self, files: Mapping[str, bytes]) -> str:
        """Write the copy, or adopt the one that an earlier supervisor wrote; the digest of the whole.

        Raises:
            RalphError: when the copy on disk is not the one that `files` say.
        """
        self._bytes = dict(files)
        self._sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        for name, data in files.items():
            path = self._folder / name
            if not path.is_file() or path.is_symlink() or path.read_bytes() != data:
                self._restore(name, data)
        return digest(self._sums)

    def broken(self) -> str:
        """What differs from what was sealed, in words; it is put right before this returns."""
        wrong = [name for name, sum_ in self._sums.items() if _sum(self._folder / name) != sum_]
        extra = [
            path.relative_to(self._folder).as_posix()
            for path in self._folder.rglob("*")
            if not path.is_dir() and path.relative_to(self._folder).as_posix() not in self._sums
        ]
        for name in wrong:
            self._restore(name, self._bytes[name])
        for name in extra:
            (self._folder / name).unlink(missing_ok=True)
        if not wrong and not extra:
            return ""
        return f"sealed files were changed: {', '.join(sorted([*wrong, *extra])[:5])}; they have been put right"

    def _restore(self, name: str, data: bytes) -> None:
        path = self._folder / name
        for parent in reversed(path.relative_to(self._folder).parents):
            place = self._folder / parent
            if place.is_symlink() or place.is_file():
                place.unlink()
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink():
            path.unlink()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, data)
        except OSError as error:
            raise RalphError(f"the sealed copy {path} cannot be written: {error.strerror}") from None


def digest(sums: Mapping[str, str]) -> str:
    """One hash over names and hashes."""
    return hashlib.sha256(json.dumps(sorted(sums.items())).encode()).hexdigest()


def _sum(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()
