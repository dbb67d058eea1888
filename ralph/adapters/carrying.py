"""A candidate's change carried over to another incumbent: three-way, file by file, in git's object store alone."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ralph.core.merge import line_for_line
from ralph.errors import GitError, RefusedError

Git = Callable[..., bytes]
Entry = tuple[str, str]  # mode and blob; of a file that is not there, two empty texts
NOWHERE: Entry = ("", "")


def carried_over(git: Git, old: str, commit: str, onto: str, index: Path) -> str:
    """The tree of `onto` with what `commit` changed against `old`. `git` runs one command; `index` is a scratch file.

    Covers: edits of the same file in different places, of neighbouring lines, equal edits, files that came or went on
    one side. Does not cover: renames; both sides are looked at as they lie there.

    Raises:
        RefusedError: naming the first file that both changed in ways that contradict each other, or that nothing is
            left of the change.
    """
    base, ours, theirs = (_files(git, each) for each in (old, commit, onto))
    changed = sorted(path for path in {*base, *ours} if base.get(path) != ours.get(path))
    environment = {"GIT_INDEX_FILE": str(index)}
    index.unlink(missing_ok=True)
    try:
        git("read-tree", onto, env=environment)
        for path in changed:
            mode, blob = _merged(git, path, *(side.get(path, NOWHERE) for side in (base, ours, theirs)))
            if blob:
                git("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}", env=environment)
            else:
                git("update-index", "--force-remove", "--", path, env=environment)
        tree = git("write-tree", env=environment).decode().strip()
    finally:
        index.unlink(missing_ok=True)
    if tree == git("rev-parse", f"{onto}^{{tree}}").decode().strip():
        raise RefusedError("it holds all of this change already")
    return tree


def _files(git: Git, commit: str) -> Mapping[str, Entry]:
    rows = git("ls-tree", "-r", "-z", commit).decode("utf-8", "surrogateescape").split("\0")
    found = (row.partition("\t") for row in rows if row)
    return {path: (meta.split()[0], meta.split()[2]) for meta, _, path in found}


def _merged(git: Git, path: str, base: Entry, ours: Entry, theirs: Entry) -> Entry:
    """One file: whichever side alone changed it, or both in one."""
    if theirs in (base, ours):
        return ours
    if ours == base:
        return theirs
    if NOWHERE in (ours, theirs) or ours[0] != theirs[0]:
        raise RefusedError(f"both changed {path}, and one took it away or made another kind of file of it")
    empty = b""
    texts = [git("cat-file", "blob", blob) if blob else empty for _, blob in (base, ours, theirs)]
    with tempfile.TemporaryDirectory() as name:
        places = [Path(name) / side for side in ("base", "ours", "theirs")]
        for place, text in zip(places, texts, strict=True):
            place.write_bytes(text)
        merged = _three_way(git, *places)
        if merged is None:
            raise RefusedError(f"both changed the same lines of {path}")
        (Path(name) / "merged").write_bytes(merged)
        return ours[0], git("hash-object", "-w", "--no-filters", str(Path(name) / "merged")).decode().strip()


def _three_way(git: Git, base: Path, ours: Path, theirs: Path) -> bytes | None:
    try:
        return git("merge-file", "-p", "--quiet", str(ours), str(base), str(theirs))
    except GitError:  # a conflict, or no text
        pass
    try:
        texts = [each.read_bytes().decode() for each in (base, ours, theirs)]
    except UnicodeDecodeError:
        return None
    merged = line_for_line(*texts)
    return None if merged is None else merged.encode()
