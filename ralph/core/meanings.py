"""Which experiment was the first to try a program: a hundred thousand programs in twelve bytes each.

A program is known by 64 bits of its hash. With a hundred thousand of them the chance that any two are taken for one is
one in four thousand million; the refusal that came of it would name the other, and its agent could insist.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping

BYTES = 8
RECENT = 4096  # the newest are in a dictionary, until there are so many that they are sorted in among the others


class Meanings:
    """From the hash of a program to an experiment."""

    def __init__(self, known: Mapping[str, int] | Iterable[tuple[str, int]] = ()) -> None:
        self._keys, self._ids = array("Q"), array("I")
        self._recent: dict[int, int] = {}
        for meaning, id_ in dict(known).items():
            self[meaning] = id_

    def get(self, meaning: str) -> int | None:
        """The experiment of that program, if it is known."""
        key = _key(meaning)
        if (found := self._recent.get(key)) is not None:
            return found
        at = bisect_left(self._keys, key)
        return self._ids[at] if at < len(self._keys) and self._keys[at] == key else None

    def __setitem__(self, meaning: str, id_: int) -> None:
        """From now on it is that experiment's."""
        self._recent[_key(meaning)] = id_
        if len(self._recent) > RECENT:
            self._sort_in()

    def __len__(self) -> int:
        """How many programs are known."""
        return len(self._keys) + sum(not self._has(key) for key in self._recent)

    def __eq__(self, other: object) -> bool:
        """Whether they know the same, in whatever order they learnt it."""
        return isinstance(other, Meanings) and self.packed() == other.packed()

    __hash__ = None  # type: ignore[assignment]

    def packed(self) -> tuple[bytes, bytes]:
        """All of it as bytes of this machine: keys in their order, and the experiments."""
        self._sort_in()
        return self._keys.tobytes(), self._ids.tobytes()

    @classmethod
    def unpacked(cls, keys: bytes, ids: bytes) -> "Meanings":
        """What `packed` answered, again. Raises ValueError when it cannot be that."""
        made = cls()
        made._keys.frombytes(keys)
        made._ids.frombytes(ids)
        if len(made._keys) != len(made._ids):
            raise ValueError("there are not as many programs as experiments")
        return made

    def _has(self, key: int) -> bool:
        at = bisect_left(self._keys, key)
        return at < len(self._keys) and self._keys[at] == key

    def _sort_in(self) -> None:
        if not self._recent:
            return
        merged = dict(zip(self._keys, self._ids, strict=True)) | self._recent
        keys = sorted(merged)
        self._keys, self._ids, self._recent = array("Q", keys), array("I", map(merged.__getitem__, keys)), {}


def _key(meaning: str) -> int:
    return int.from_bytes(hashlib.blake2b(meaning.encode(), digest_size=BYTES).digest())
