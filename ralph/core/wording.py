"""Words for people: text that cannot break the page it is shown on, durations, moments, counts.

What agents and programs write (hypotheses, reasons) is shown to people in Markdown and on terminals. Covered here: line
breaks, control and bidirectional characters, tables, emphasis, code, links (bare ones as well), HTML, mathematics.
Not covered: what the words say.
"""

import re
import unicodedata
from datetime import datetime, timedelta
from functools import lru_cache

LONGEST_INPUT = 4000  # characters looked at; nothing shown is longer
TERMINAL_CODE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,200}(?:\x07|\x1b\\)"
)  # colours, cursor, titles
_SPECIAL = re.compile(r"([\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_]))")
_LINK = re.compile(r"(?i)(://|\bwww\.|(?<=\w)@(?=\w))")
_SHOWN_APART = {"://": r":\/\/", "@": r"\@"}


def plain(text: str, width: int = 0) -> str:
    r"""One line without control characters; longer than `width` (0: any length) it is cut and ends with an ellipsis.

    >>> plain("two\n lines\x1b[31m", 8)
    'two lin…'
    """
    return _plain(text[:LONGEST_INPUT], width)


@lru_cache(maxsize=2048)  # the same lines are on the page after every event
def _plain(text: str, width: int) -> str:
    if not text.isprintable():
        text = TERMINAL_CODE.sub("", text)
        text = "".join(" " if _breaks(c) else c for c in text if c.isspace() or _visible(c))
    line = " ".join(text.split())
    if width and len(line) > width:
        return line[: width - 1].rstrip() + "…"
    return line


def _breaks(char: str) -> bool:
    return char.isspace() or unicodedata.category(char) in ("Zl", "Zp", "Zs")


def _visible(char: str) -> bool:
    return not unicodedata.category(char).startswith("C")


def md(text: str, width: int = 0) -> str:
    r"""`text` as `plain` makes it, escaped so that Markdown shows it letter by letter, in tables as well.

    >>> md("a|b `c` [d](http://e.f) MATRIX_LR <b>")
    'a\\|b \\`c\\` \\[d\\](http:\\/\\/e.f) MATRIX_LR \\<b\\>'
    """
    return _escaped(plain(text, width))


@lru_cache(maxsize=2048)
def _escaped(line: str) -> str:
    escaped = _SPECIAL.sub(r"\\\1", line)
    return _LINK.sub(lambda m: _SHOWN_APART.get(m[0], m[0][:-1] + r"\."), escaped)


def code(text: str, width: int = 0) -> str:
    r"""`text` as a code span for a table.

    >>> code("train.py:LR"), code("a`b|c")
    ('`train.py:LR`', "`a'b\\|c`")
    """
    inner = plain(text, width).replace("`", "'").replace("|", r"\|")
    return f"`{inner}`" if inner else ""


def span(seconds: float) -> str:
    """A duration as people say it.

    >>> [span(s) for s in (0.4, 48, 730, 27_690, 270_000)]
    ['0 s', '48 s', '12 min', '7 h 41 min', '3 d 3 h']
    """
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if whole < 120:
        return f"{whole} s"
    if hours < 1:
        return f"{minutes} min"
    if days < 2:
        return f"{hours} h {minutes % 60} min"
    return f"{days} d {hours % 24} h"


def clock(seconds: float) -> str:
    """A duration as a stopwatch shows it.

    >>> clock(192.7), clock(3723)
    ('3:12', '1:02:03')
    """
    minutes, secs = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


def moment(when: datetime, now: datetime) -> str:
    """A time of day in the zone of `now`; with its date once it is not of the last 20 hours.

    >>> from datetime import UTC
    >>> now = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
    >>> moment(now - timedelta(hours=9), now), moment(now - timedelta(days=3), now)
    ('22:00', '20 Nov 07:00')
    """
    local = when.astimezone(now.tzinfo)
    if abs(now - when) < timedelta(hours=20):
        return f"{local:%H:%M}"
    return f"{local.day} {_MONTHS[local.month - 1]} {local:%H:%M}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def offset(now: datetime) -> str:
    """The zone of `now` as its distance from UTC.

    >>> from datetime import UTC
    >>> offset(datetime(2026, 1, 1, tzinfo=UTC))
    'UTC+00:00'
    """
    seconds = (now.utcoffset() or timedelta()).total_seconds()
    hours, minutes = divmod(round(abs(seconds) / 60), 60)
    return f"UTC{'-' if seconds < 0 else '+'}{hours:02}:{minutes:02}"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "crash", "crashes"), counted(3, "run")
    ('1 crash', '3 runs')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def dollars(usd: float) -> str:
    """Money, with as many places as small amounts need.

    >>> dollars(1234.5), dollars(0.0125), dollars(0)
    ('$1,234.50', '$0.0125', '$0.00')
    """
    return f"${usd:,.2f}" if usd >= 0.1 or usd == 0 else f"${usd:.4f}"


def ids(numbers: list[int], most: int = 6) -> str:
    """Experiments by number, the latest `most` of them.

    >>> ids([3, 12, 40], most=2)
    '#12, #40 and 1 more'
    """
    text = ", ".join(f"#{n}" for n in numbers[-most:])
    return f"{text} and {len(numbers) - most} more" if len(numbers) > most else text
