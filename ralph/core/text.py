"""Text from agents, runs and humans, made fit to stand in a file of ours: one line, bounded, quoted as data."""

import re
from functools import lru_cache

from ralph.core.wording import plain

_PIECE = re.compile(r"\w+|[^\w\s]")
_FILE = 2_000  # characters from which a text is worth remembering
_NOTE_TOKENS = 16  # the line that says what was left out
_LONG_LINE = 1_000  # characters; a longer line is cut before whole lines are left out


def one_line(text: str, limit: int) -> str:
    r"""`text` as a single line of at most `limit` characters that cannot open or close an HTML comment.

    >>> one_line("a\n## b <!-- c", 40)
    'a ## b < !-- c'
    >>> one_line("a long sentence", 8)
    'a long…'
    """
    return plain(plain(text).replace("<!--", "< !--").replace("-->", "-- >"), limit)


def fence_for(text: str) -> str:
    """A Markdown fence that nothing in `text` can close: longer than any run of its own mark, of the rarer mark.

    >>> fence_for("a = 1"), fence_for("```"), fence_for("``` and ~~~~")
    ('```', '~~~', '````')
    """
    longest = {mark: max((len(run) for run in re.findall(f"{mark}+", text)), default=0) for mark in ("`", "~")}
    mark = min(longest, key=lambda each: max(2, longest[each]))
    return mark * max(3, longest[mark] + 1)


def fenced(text: str, label: str = "") -> str:
    """`text` inside a fence it cannot close.

    >>> print(fenced("a = 1", "python"))
    ```python
    a = 1
    ```
    """
    fence = fence_for(text)
    body = text if text.endswith("\n") or not text else text + "\n"
    return f"{fence}{label}\n{body}{fence}"


def fence_tokens(text: str) -> int:
    """What the fence of `text` adds to its tokens, with a short label."""
    return 2 * (len(fence_for(text)) * 13 // 10 + 1) + 4


def tokens(text: str) -> int:
    """An upper estimate of the tokens of `text` without a tokenizer.

    The larger of a third of its UTF-8 bytes and 1.3 tokens for each word or mark. Byte-level BPE vocabularies of
    today average 3.5 to 4.5 bytes a token on prose and 2.5 to 3.5 on code with its indentation merged, so the first
    errs high on prose and the second guards against text that is all marks and digits.

    >>> tokens("a line of plain words")
    7
    >>> tokens("((((((((")
    11
    """
    return _tokens_of_file(text) if len(text) > _FILE else _tokens(text)


def _tokens(text: str) -> int:
    pieces = _pieces(text)
    return max(-(-len(text.encode("utf-8", "surrogatepass")) // 3), -(-pieces * 13 // 10))


def _pieces(text: str) -> int:
    """Words and marks. Most lines of a brief stood in the last one, and some are counted in several places."""
    return sum(_pieces_of_line(line) if len(line) <= _LONG_LINE else _count(line) for line in text.split("\n"))


def _count(text: str) -> int:
    return len(_PIECE.findall(text))


_pieces_of_line = lru_cache(maxsize=4096)(_count)
_tokens_of_file = lru_cache(maxsize=32)(_tokens)  # program and files are the same in most briefs


def head(text: str, limit_tokens: int) -> str:
    r"""The first whole lines of `text` that fit, and a line that says how many were left out.

    >>> print(head("one two\nthree four\nfive six\nseven eight nine ten\n" * 3, 23))
    one two
    three four
    … 10 of 12 lines left out
    """
    return _fit(text.splitlines(), limit_tokens, from_end=False)


def tail(text: str, limit_tokens: int) -> str:
    """The last whole lines of `text` that fit, after a line that says how many were left out."""
    return _fit(text.splitlines(), limit_tokens, from_end=True)


def _fit(lines: list[str], limit_tokens: int, *, from_end: bool) -> str:
    """At most `limit_tokens`; nothing at all where not even the note fits."""
    if tokens("\n".join(lines)) <= limit_tokens:
        return "\n".join(lines)
    room = limit_tokens - _NOTE_TOKENS
    if room < 0:
        return ""
    kept: list[str] = []
    for line in reversed(lines) if from_end else lines:
        short = line if len(line) <= _LONG_LINE else line[:_LONG_LINE] + "…"
        room -= tokens(short + "\n")
        if room < 0:
            break
        kept.append(short)
    note = f"… {len(lines) - len(kept)} of {len(lines)} lines left out"
    return "\n".join([note, *reversed(kept)] if from_end else [*kept, note])
