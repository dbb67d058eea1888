"""The agent's working directory, as far as a model may touch it.

Covered: absolute names, `..`, symbolic links in any part of a name, anything that is not a regular file, `.git` and
`.ralph`, writing what the arena does not list as editable, files too large to be shown or written. Not covered: another
process that swaps files at the same moment; the agent is alone in its folder.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

MOST_BYTES = 1_000_000  # of one file, read or written
CLOSED = (".git", ".ralph")


class ToolError(Exception):
    """A tool cannot do what the model asked; the message is for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """`root` and the globs of what may be edited in it, as git reads them with `:(glob)`."""

    root: Path
    editable: Sequence[str]
    _before: dict[str, str] = field(default_factory=dict)

    def remember(self) -> None:
        """Take down the editable files as they are now, so that `changed` can compare."""
        self._before.update(self._texts())

    def changed(self) -> dict[str, str]:
        """Editable files that differ from what was remembered, with their text; a file that is gone has none."""
        now = self._texts()
        names = {*now, *self._before}
        return {name: now.get(name, "") for name in sorted(names) if now.get(name) != self._before.get(name)}

    def may_edit(self, name: str) -> bool:
        """Whether the arena lists it as editable."""
        parts = PurePosixPath(name).parts
        return not any(p in CLOSED for p in parts) and any(glob_regex(g).fullmatch(name) for g in self.editable)

    def name(self, given: str) -> str:
        """The plain relative name of what a model calls `given`; "." is the folder itself.

        Raises:
            ToolError: when it leads out of the folder, or into what is closed.
        """
        path = PurePosixPath(given.strip() or ".")
        if path.is_absolute() or ".." in path.parts or "\0" in given:
            raise ToolError(f"{given!r} leads out of your folder; use names relative to it, like {self._example()!r}")
        if any(part in CLOSED for part in path.parts):
            raise ToolError(f"{given!r} is closed to you")
        here = self.root
        for part in path.parts:
            here = here / part
            if here.is_symlink():
                raise ToolError(f"{given!r} goes through a symbolic link, which is not followed")
        return path.as_posix()

    def read(self, given: str) -> str:
        """Text of a file. Bytes that are no UTF-8 are replaced.

        Raises:
            ToolError: when there is no such regular file, or it is too large.
        """
        name = self.name(given)
        try:
            fd = os.open(self.root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ToolError(f"cannot read {name}: {error.strerror}{self._near(name)}") from None
        try:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise ToolError(f"{name} is not a regular file")
            if info.st_size > MOST_BYTES:
                raise ToolError(f"{name} has {info.st_size:,} bytes; at most {MOST_BYTES:,} can be looked at")
            with os.fdopen(os.dup(fd), "rb") as file:
                return file.read(MOST_BYTES).decode("utf-8", "replace")
        finally:
            os.close(fd)

    def write(self, given: str, text: str) -> None:
        """Replace or make an editable file; its mode stays.

        Raises:
            ToolError: when it is not editable, too large or cannot be written.
        """
        name = self.name(given)
        if not self.may_edit(name):
            raise ToolError(f"{name} may not be edited; editable: {', '.join(self.editable)}")
        data = text.encode("utf-8", "replace")
        if len(data) > MOST_BYTES:
            raise ToolError(f"{len(data):,} bytes are too many for {name}; at most {MOST_BYTES:,}")
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and not path.is_file():
                raise ToolError(f"{name} is not a regular file")
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
        except OSError as error:
            raise ToolError(f"cannot write {name}: {error.strerror}") from None

    def listing(self, given: str) -> list[str]:
        """Names in a folder, those of folders with a slash; what is editable is marked."""
        name = self.name(given)
        try:
            found = sorted(os.scandir(self.root / name), key=lambda e: e.name)
        except OSError as error:
            raise ToolError(f"cannot list {name}: {error.strerror}") from None
        lines = []
        for entry in found:
            if entry.name in CLOSED:
                continue
            path = entry.name if name == "." else f"{name}/{entry.name}"
            mark = "/" if entry.is_dir(follow_symlinks=False) else "  (editable)" if self.may_edit(path) else ""
            lines.append(path + mark)
        return lines

    def is_folder(self, given: str) -> bool:
        """Whether it is a folder."""
        return (self.root / self.name(given)).is_dir()

    def _texts(self) -> dict[str, str]:
        found = {}
        for folder, folders, files in os.walk(self.root):
            folders[:] = [f for f in folders if f not in CLOSED]
            for file in files:
                name = Path(folder, file).relative_to(self.root).as_posix()
                if self.may_edit(name) and not Path(folder, file).is_symlink():
                    found[name] = self._text_or_size(name)
        return found

    def _text_or_size(self, name: str) -> str:
        try:
            return self.read(name)
        except ToolError as error:
            return f"({error})"

    def _example(self) -> str:
        return self.editable[0] if self.editable else "train.py"

    def _near(self, name: str) -> str:
        parent = (self.root / name).parent
        if not parent.is_dir():
            return ""
        names = sorted(entry.name for entry in parent.iterdir() if entry.name not in CLOSED)[:20]
        return f"; there are: {', '.join(names)}" if names else ""


def glob_regex(glob: str) -> re.Pattern[str]:
    r"""A glob as git's `:(glob)` reads it: `*` stays within a folder, `**` crosses them, a folder means all in it.

    >>> bool(glob_regex("src/**/*.py").fullmatch("src/a/b.py")), bool(glob_regex("*.py").fullmatch("a/b.py"))
    (True, False)
    """
    glob = PurePosixPath(glob).as_posix()
    out, at = "", 0
    while at < len(glob):
        bracket = re.match(r"\[(!|\^)?(\]?[^\]]*)\]", glob[at:])
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            out, at = out + r"(?:.*/)?", at + 3
        elif glob.startswith("**", at) and at + 2 == len(glob) and (at == 0 or glob[at - 1] == "/"):
            out, at = out + r".*", at + 2
        elif bracket is not None:
            inside = bracket[2].replace("\\", r"\\").replace("[", r"\[")
            out, at = out + f"(?!/)[{'^' if bracket[1] else ''}{inside}]", at + len(bracket[0])
        else:
            out += {"*": r"[^/]*", "?": r"[^/]"}.get(glob[at], re.escape(glob[at]))
            at += 1
    return re.compile(out + r"(?:/.*)?", re.DOTALL)
