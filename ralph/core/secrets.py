"""Secrets in text: found, named and replaced by a mark, before text goes into a brief, a record, a log or a commit.

Covered: the values that are known (the supervisor's own keys), also as JSON, as a URL or line by line; text in the
shape of a key of a known make, a JSON web token, a private key, a bearer token, a password in a URL; what is assigned
to a name like `api_key` and looks random. Replaced twice is the same as once.
Not covered: a key of no known shape that stands alone; one in pieces, reversed or encoded (base64, say); a password
that is a word. Left alone: git hashes, checksums, ordinary code, known values shorter than eight characters.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")

KNOWN_LENGTH = 8  # characters; a shorter value would be found in ordinary words
LINE_LENGTH = 16  # … of one line of a known value that has several
DUMMY = "ralph-dummy-"  # how the keys begin that agents get in a key's place; they open nothing but their own gateway
LONGEST = 20 * 1024  # characters that the longest secret may have
SHORT = 512  # characters of a text that is remembered: lines of pages and labels of pictures come again and again
REMEMBERED = 1024

_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CHECKSUM = re.compile(r"(?i)sha|md5|hash|digest|checksum|commit|crc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A secret at `start` to `end` of a text, and what it is, in words that do not give it away."""

    start: int
    end: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A make of key. Its pattern begins with letters of its own, which makes the search fast; group 1 is the secret."""

    what: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda _: True


def _mixed(text: str) -> bool:
    """Letters and digits in one stretch that no identifier has."""
    return any(
        any(c.isdigit() for c in run) and any(c.isalpha() for c in run) for run in re.findall(r"[A-Za-z0-9]{16,}", text)
    )


def looks_random(text: str) -> bool:
    """Whether nobody would have thought this value up: letters and digits mixed, of many kinds, in no words.

    >>> [looks_random(v) for v in ("9f8Qz1Lk2Xw7Rt5Vb3Nm", "climbmix_shard_00001.bin", "get_token_from_environment")]
    [True, False, False]
    """
    if len(text) < LINE_LENGTH:
        return False
    if _UUID.fullmatch(text):
        return True
    runs = re.findall(r"[A-Za-z0-9]{16,}", text)
    if any(sum(a.isdigit() != b.isdigit() for a, b in pairwise(run)) >= 3 for run in runs):
        return _entropy(text) >= 3.0
    kinds = [0 if c.islower() else 1 if c.isupper() else 2 for c in text if c.isalnum()]
    changes = sum(a != b for a, b in pairwise(kinds))
    return len(text) >= 20 and set(kinds) == {0, 1, 2} and changes >= 0.25 * len(text) and _entropy(text) >= 3.5


def _entropy(text: str) -> float:
    """Bits per character by its own frequencies (Shannon)."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def _is_key_block(text: str) -> bool:
    return len(re.findall(r"[A-Za-z0-9+/=]", text.partition("-----BEGIN ")[2].partition("KEY-----")[2])) >= 32


def _password(text: str) -> bool:
    return not any(c in text for c in "{}$<>*") and text not in ("password", "passwd", "redacted")


_ARMOUR = r"(?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
_KEY_BLOCK = re.compile(  # without an end it goes as far as its alphabet does
    rf"(-----BEGIN {_ARMOUR}(?:(?:(?!-----)[\s\S]){{0,16384}}?-----END {_ARMOUR}|[A-Za-z0-9+/=\s\\]{{0,16384}}))"
)
_URL = re.compile(r"://[^/\s:@'\"]{0,128}:([^/\s,@'\"]{6,256})@")
SHAPES = (
    _Shape(what="private key", pattern=_KEY_BLOCK, holds=_is_key_block),
    _Shape(what="Anthropic key", pattern=re.compile(r"(sk-ant-[A-Za-z0-9_-]{16,512})")),
    _Shape(what="key in the form sk-…", pattern=re.compile(r"(sk[-_][A-Za-z0-9_-]{20,512})"), holds=_mixed),
    _Shape(what="GitHub token", pattern=re.compile(r"(gh[pousr]_[A-Za-z0-9]{20,255})")),
    _Shape(what="GitHub token", pattern=re.compile(r"(github_pat_[A-Za-z0-9_]{20,255})")),
    _Shape(what="GitLab token", pattern=re.compile(r"(glpat-[A-Za-z0-9_-]{20,255})")),
    _Shape(what="AWS key id", pattern=re.compile(r"(A(?:KIA|SIA)[A-Z0-9]{16})(?![A-Za-z0-9])")),
    _Shape(what="Google key", pattern=re.compile(r"(AIza[A-Za-z0-9_-]{30,64})")),
    _Shape(what="Slack token", pattern=re.compile(r"(xox[abeoprs]-[A-Za-z0-9-]{10,255})")),
    _Shape(what="Hugging Face token", pattern=re.compile(r"(hf_[A-Za-z0-9]{20,255})")),
    _Shape(
        what="JSON web token",
        pattern=re.compile(r"(eyJ[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,8192}\.[A-Za-z0-9_-]{8,4096})"),
    ),
    _Shape(
        what="bearer token",
        pattern=re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr]\s{1,4}([A-Za-z0-9._~+/=-]{16,4096})"),
        holds=lambda value: _mixed(value) or looks_random(value),
    ),
    _Shape(
        what="password in a URL", pattern=re.compile(r"://[^/\s:@'\"]{0,128}:([^/\s,@'\"]{6,256})@"), holds=_password
    ),
)
# What is assigned, quoted or bare; whether to the name of a secret is asked afterwards, which is several times faster.
_ASSIGNED = re.compile(r"[:=][\s\\\"']{0,12}([A-Za-z0-9_+/=.~-]{16,512})(?![A-Za-z0-9_(\[])")
_NAME = re.compile(
    r"(?i)([A-Z0-9_-]{0,60}(?:(?P<key>key)|secret|token|passw(?:or)?d|credentials?))[\\\"']{0,3}\s{0,8}$"
)
_KEY_NAME = re.compile(
    r"(?i:api|secret|access|private|auth|encryption|signing|account|service|client|master)[_-]?(?i:key)$|[A-Z0-9]_KEY$"
)


class Redactor:
    """Replaces secrets. `known` are values by the names they go by, such as those of environment variables."""

    __slots__ = ("_known", "_names", "_short")

    def __init__(self, known: Mapping[str, str] | None = None) -> None:
        self._names: dict[str, str] = {}
        for name, value in (known or {}).items():
            for form in _forms(value):
                self._names.setdefault(form, name)
        longest_first = sorted(self._names, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
        self._short = lru_cache(maxsize=REMEMBERED)(self._redacted)

    def __call__(self, text: str) -> str:
        """`text` with every secret replaced by a mark such as `[redacted: GitHub token]`."""
        return self._short(text) if len(text) <= SHORT else self._redacted(text)

    def by_line(self, text: str) -> str:
        """The same line by line, for a page of ours: nothing that others wrote goes over the end of a line there."""
        return "\n".join(map(self, text.split("\n")))

    def _redacted(self, text: str) -> str:
        return self.marked(text, self.find(text))

    @staticmethod
    def marked(text: str, found: Sequence[Finding]) -> str:
        """`text` with a mark in place of each of what was found in it."""
        parts, at = list[str](), 0
        for each in found:
            parts += [text[at : each.start], f"[redacted: {each.what}]"]
            at = each.end
        return "".join([*parts, text[at:]])

    def find(self, text: str) -> list[Finding]:
        """All secrets in `text`, in order, none overlapping another; of two that do, the longer one is named."""
        found = sorted([*self._find_known(text), *_find_shapes(text)], key=lambda f: (f.start, -f.end))
        kept = list[Finding]()
        for each in found:
            if kept and each.start < kept[-1].end:
                longer = max(kept[-1], each, key=lambda f: f.end - f.start)
                kept[-1] = replace(longer, start=kept[-1].start, end=max(kept[-1].end, each.end))
            else:
                kept.append(each)
        return kept

    def added(self, before: str, after: str) -> tuple[int, str] | None:
        """Line (from 1) and kind of the first secret that `after` has and `before` has not."""
        for each in self.find(after):
            if after[each.start : each.end] not in before:
                return after.count("\n", 0, each.start) + 1, each.what
        return None

    def within(self, value: T) -> T:
        """`value` with every text in it redacted, however deep in dataclasses, tuples, lists and mappings."""
        return self._within(value)  # type: ignore[no-any-return]

    def _within(self, value: Any) -> Any:
        match value:
            case str():
                return self._keeping_its_type(value)
            case Mapping():
                return {self._within(k): self._within(v) for k, v in value.items()}
            case tuple() | list():
                return type(value)(self._within(v) for v in value)
            case _ if is_dataclass(value) and not isinstance(value, type):
                changed = {f.name: self._within(getattr(value, f.name)) for f in fields(value) if f.init}
                return replace(value, **changed)
            case _:
                return value

    def _keeping_its_type(self, text: str) -> str:
        return text if type(text) is not str else self(text)  # a member of a StrEnum is no text of anybody's

    def _find_known(self, text: str) -> Iterator[Finding]:
        if self._known is not None:
            for match in self._known.finditer(text):
                yield Finding(start=match.start(), end=match.end(), what=self._names[match[0]])


SHAPES_ONLY = Redactor()  # knows no value, only what keys look like


def secret_values(environ: Mapping[str, str], named: Callable[[str], bool]) -> dict[str, str]:
    """The variables of an environment that hold secrets: `named` judges names; a number is no secret.

    >>> secret_values({"MY_TOKEN": "correct horse", "MAX_TOKENS": "100000000", "HOME": "/root"}, lambda n: "TOKEN" in n)
    {'MY_TOKEN': 'correct horse'}
    """
    return {name: value for name, value in environ.items() if named(name) and not value.strip().isdigit()}


def _forms(value: str) -> list[str]:
    """The ways in which a known value stands in texts: as it is, in JSON, in a URL, and each of its longer lines."""
    whole = value.strip()
    lines = [line.strip() for line in whole.splitlines()] if "\n" in whole else []
    plain = [whole] if len(whole) >= KNOWN_LENGTH else []
    plain += [line for line in lines if len(line) >= LINE_LENGTH and not line.startswith("-----")]
    return [form for text in plain for form in dict.fromkeys((text, json.dumps(text)[1:-1], quote(text, safe="")))]


def _find_shapes(text: str) -> Iterator[Finding]:
    for shape in SHAPES:
        for match in shape.pattern.finditer(text):
            inside_a_word = match[0][0].isalnum() and match.start() > 0 and text[match.start() - 1] in _WORD
            if not inside_a_word and shape.holds(match[1]):
                yield Finding(start=match.start(1), end=match.end(1), what=shape.what)
    for match in _ASSIGNED.finditer(text):
        name = _name_before(text, match.start())
        if name and looks_random(match[1]) and not match[1].startswith(DUMMY):
            yield Finding(start=match.start(1), end=match.end(1), what=f"value of {name}")


def _name_before(text: str, end: int) -> str:
    """The name in front of an equals sign or colon, where it is one of a secret."""
    match = _NAME.search(text, max(0, end - 80), end)
    if match is None or _CHECKSUM.search(match[1]):
        return ""
    name = match[1].lstrip("-_0123456789")
    return name if match["key"] is None or _KEY_NAME.search(name) else ""


def spans_to(text: str, found: Sequence[Finding], boundary: int) -> int:
    """The last place at or before `boundary` where `text` can be cut without cutting through a secret or a line."""
    newline = text.rfind("\n", 0, boundary)
    cut = newline + 1 if newline >= 0 else boundary
    for each in reversed(found):
        if each.start < cut < each.end:
            cut = each.start
    return cut
