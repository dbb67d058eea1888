"""What git says, read: changed paths, and many objects at once."""

from collections.abc import Iterable
from dataclasses import dataclass

from ralph.errors import GitError

SUBMODULE = "160000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One side of a changed path: its mode and blob, zeros where it is not there; lines, none of a binary file."""

    mode: str
    blob: str
    lines_added: int = 0
    lines_removed: int = 0

    @property
    def exists(self) -> bool:
        """Whether it is there on the newer side."""
        return bool(self.blob.strip("0"))


def read_changes(out: str) -> dict[str, Changed]:
    """The newer side by path, from `git diff-tree -r -z --no-renames --raw`, with or without `--numstat`."""
    fields = iter(out.split("\0"))
    modes: dict[str, tuple[str, str]] = {}
    lines: dict[str, tuple[int, int]] = {}
    for field in fields:
        if field.startswith(":"):
            words = field.split()
            modes[next(fields)] = (words[1], words[3])
        elif field:
            added, removed, path = field.split("\t", 2)
            lines[path] = (0, 0) if added == "-" else (int(added), int(removed))
    return {
        path: Changed(
            mode=mode, blob=blob, lines_added=lines.get(path, (0, 0))[0], lines_removed=lines.get(path, (0, 0))[1]
        )
        for path, (mode, blob) in modes.items()
    }


def read_objects(out: bytes, names: Iterable[str]) -> list[bytes]:
    """Contents in the order of `names`, from `git cat-file --batch`.

    Raises:
        GitError: one of them is missing.
    """
    found, at = [], 0
    for name in names:
        end = out.find(b"\n", at)
        words = out[at:end].split()
        if end < 0 or len(words) != 3 or not words[2].isdigit():
            raise GitError(
                f"object {name} cannot be read: {out[at : max(at, end)].decode(errors='replace') or 'no answer'}"
            )
        size = int(words[2])
        found.append(out[end + 1 : end + 1 + size])
        at = end + 1 + size + 1
    return found
