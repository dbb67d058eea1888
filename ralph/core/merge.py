"""Two changes of one text, line for line: for edits of neighbouring lines, which no common merge takes."""


def line_for_line(base: str, ours: str, theirs: str) -> str | None:
    r"""Both changes, if no line was changed by both in different ways; None if one was, or if any line came or went.

    Constants stand line by line, and two agents that tune two of them side by side do not contradict each other.

    >>> line_for_line("A = 1\nB = 2\n", "A = 3\nB = 2\n", "A = 1\nB = 4\n")
    'A = 3\nB = 4\n'
    >>> line_for_line("A = 1\n", "A = 3\n", "A = 4\n"), line_for_line("A = 1\n", "A = 3\n", "A = 1\nB = 2\n")
    (None, None)
    """
    texts = [text.splitlines(keepends=True) for text in (base, ours, theirs)]
    if len({len(lines) for lines in texts}) != 1:
        return None
    merged = []
    for old, one, other in zip(*texts, strict=True):
        if old not in (one, other) and one != other:
            return None
        merged.append(other if one == old else one)
    return "".join(merged)
