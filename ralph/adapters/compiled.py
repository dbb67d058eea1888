"""What compilers left, kept for later runs so that none of them can poison another's.

An entry of such a cache is code that the next reader loads, and nothing in it proves what it was made from. So a run
never gets a folder that another one could write to. It gets a fresh copy of two layers, hashed as it is copied:

- `base`: what the baseline compiled, the human's own program;
- the additions of the very same program (the same editable files), for its repeats and when it is measured again.

Both are taken before *go*, while the run has seen no training data, so that nothing learnt in one run waits in a cache
for the next; and they count only if that run ended well. Covered: a candidate that writes, replaces or leaves entries,
links, pipes and floods of files; entries that differ from what was taken. Not covered: at sandbox level none, a process
that changes an entry and its list of hashes between two supervisors; what the baseline's author compiled on purpose.
"""

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from ralph.adapters.files import remove_tree, write_atomic

BASE = "base"
SEAL = "seal.json"
FILES = "files"
UNFINISHED = ".unfinished-"
MOST_FILES = 20_000
MOST_BYTES_A_FILE = 64 * 2**20
MOST_BYTES_ADDED = 256 * 2**20  # by one program: while it is copied the run waits, and so does its supervisor
DEEPEST = 16  # folders in folders; compilers make three
ENTRIES = 64  # programs whose additions are kept at most
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY  # of a FIFO, too, it never waits
VARIABLES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "CUDA_CACHE_PATH": "cuda"}


class TooMuchError(Exception):
    """More files or bytes than are kept."""


class CompileCache:
    """Layers below `folder`, which nobody else writes to; together at most `most_bytes`, 0 for none at all."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._known: dict[str, bytes] = {}  # seals that this process has made: those on disk must be the same
        if folder.is_dir():
            for left in folder.glob(f"{UNFINISHED}*"):
                remove_tree(left)

    def lay(self, program: str, place: Path) -> None:
        """Make the folder `place` with a copy of what is kept for `program`; a layer with a wrong hash is dropped."""
        for variable in VARIABLES.values():
            (place / variable).mkdir(parents=True)
        for layer in dict.fromkeys((BASE, program)):
            if (seal := self._seal(layer)) is None:
                continue
            if not self._copied(layer, seal, place):
                remove_tree(self._folder / layer)
            else:
                os.utime(self._folder / layer)  # used last

    def take(self, program: str, place: Path) -> None:
        """Copy what the run of `program` has added to `place` so far; `settle` decides what becomes of it."""
        if program != BASE and (self._folder / program).exists():
            return
        base, unfinished = self._seal(BASE) or {}, self._folder / f"{UNFINISHED}{program}"
        remove_tree(unfinished)
        try:
            if all(name in base for name, _ in _regular_files(place)):
                return
            if program == BASE:
                sums = _copy(place, unfinished / FILES, {}, self._most_bytes)
            else:
                sums = _copy(place, unfinished / FILES, base, min(self._most_bytes, MOST_BYTES_ADDED))
            write_atomic(unfinished / SEAL, json.dumps(sums), durable=False)
        except (TooMuchError, OSError):  # a full disk, too: what is kept is only for speed
            for useless in (unfinished, *([self._folder / BASE] if program == BASE else [])):  # it grew over the years
                with contextlib.suppress(OSError):
                    remove_tree(useless)

    def settle(self, program: str, ok: bool) -> None:
        """The run has ended: what was taken becomes a layer, if it ended well."""
        unfinished, layer = self._folder / f"{UNFINISHED}{program}", self._folder / program
        if not ok or not (unfinished / SEAL).is_file():
            remove_tree(unfinished)
            return
        self._known[program] = (unfinished / SEAL).read_bytes()
        remove_tree(layer)
        unfinished.rename(layer)
        self._shrink()

    def _seal(self, layer: str) -> Mapping[str, str] | None:
        """The hash of each file of a layer by its path in it; None if there is no such layer."""
        try:
            text = (self._folder / layer / SEAL).read_bytes()
            if text != self._known.setdefault(layer, text):
                remove_tree(self._folder / layer)
                return None
            sums = json.loads(text)
        except FileNotFoundError:
            return None
        except ValueError:
            remove_tree(self._folder / layer)
            return None
        return sums if isinstance(sums, dict) else None

    def _copied(self, layer: str, sums: Mapping[str, str], place: Path) -> bool:
        """Copy a layer, file by file as its hash proves right; False, and nothing of it is left, if one is not."""
        made = []
        try:
            for name, sum_ in sums.items():
                data = (self._folder / layer / FILES / name).read_bytes()
                if hashlib.sha256(data).hexdigest() != sum_ or name.startswith("/") or ".." in Path(name).parts:
                    raise ValueError(name)
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
                made.append(target)
        except (OSError, ValueError):
            for target in made:
                target.unlink()
            return False
        return True

    def _shrink(self) -> None:
        """Drop the layers that were not used for longest until the rest is small enough; base stays, or all goes."""
        others = [each for each in self._folder.iterdir() if each.name != BASE and not each.name.startswith(UNFINISHED)]
        others.sort(key=lambda each: each.stat().st_mtime, reverse=True)
        left = self._most_bytes - _size(self._folder / BASE)
        for count, layer in enumerate(others, 1):
            left -= _size(layer)
            if left < 0 or count > ENTRIES:
                remove_tree(layer)


def program_of(files: Mapping[str, bytes]) -> str:
    """The name of a program: a hash over its editable files."""
    sums = sorted((name, hashlib.sha256(data).hexdigest()) for name, data in files.items())
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:32]


def environment(place: Path) -> dict[str, str]:
    """The variables by which compilers find their cache in `place`."""
    return {name: str(place / below) for name, below in VARIABLES.items()}


def _copy(place: Path, to: Path, known: Mapping[str, str], most_bytes: int) -> dict[str, str]:
    """Copy the regular files below `place` that are not `known`, while their writer may be at work; their hashes."""
    sums: dict[str, str] = {}
    for name, fd in _regular_files(place):
        if name in known:
            continue
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MOST_BYTES_A_FILE + 1)
        most_bytes -= len(data)
        if most_bytes < 0 or len(data) > MOST_BYTES_A_FILE:
            raise TooMuchError
        target = to / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        sums[name] = hashlib.sha256(data).hexdigest()
    return sums


def _regular_files(place: Path) -> Iterator[tuple[str, int]]:
    """Path below `place` and an open descriptor of each regular file. No link is followed, nor counts a second name."""
    top = os.open(place, READ | os.O_DIRECTORY)
    try:
        for seen, found in enumerate(_walk(top, "", 0)):
            if seen >= MOST_FILES:
                raise TooMuchError
            yield found
    finally:
        os.close(top)


def _walk(folder: int, path: str, depth: int) -> Iterator[tuple[str, int]]:
    if depth > DEEPEST:
        raise TooMuchError
    for count, name in enumerate(os.listdir(folder)):
        if count >= MOST_FILES:
            raise TooMuchError
        try:
            fd = os.open(name, READ, dir_fd=folder)
        except OSError:
            continue  # a link, or gone
        try:
            info = os.fstat(fd)
            if stat.S_ISDIR(info.st_mode):
                yield from _walk(fd, f"{path}{name}/", depth + 1)
            elif stat.S_ISREG(info.st_mode) and info.st_nlink == 1:
                yield f"{path}{name}", fd
        finally:
            os.close(fd)


def _size(layer: Path) -> int:
    return sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())
