"""What a set of files means to the program that runs them, as one hash: equal for what cannot make a difference.

Covered: comments, blank lines, layout, quotes and parentheses of Python files; the spelling of numbers (0.04 and 4e-2,
1_000 and 1000); arithmetic of numbers that `ralph.core.constants` evaluates (2**4 and 16, -1 as one literal). What
stays a difference: docstrings and every other text, since a program can read them; names; the order of statements; an
int and the float of its size. Files that are not Python, or do not parse, count byte by byte. Not covered: other ways
to say the same (a loop and its sum), modes of files, and programs that read their own source or line numbers.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping

from ralph.core.constants import number_of, parse_module


def meaning_of(files: Mapping[str, bytes]) -> str:
    r"""The hash of `path -> bytes`, in hexadecimal digits.

    >>> meaning_of({"a.py": b"LR = 0.04  # per step\n"}) == meaning_of({"a.py": b"LR = (4e-2)\n"})
    True
    >>> meaning_of({"a.py": b"LR = 0.04\n"}) == meaning_of({"b.py": b"LR = 0.04\n"})
    False
    """
    digest = hashlib.sha256()
    for path in sorted(files):
        body = _program(files[path]) if path.endswith(".py") else None
        kind, data = (b"b", files[path]) if body is None else (b"p", body)
        for part in (path.encode("utf-8", "surrogateescape"), kind, data):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _program(source: bytes) -> bytes | None:
    """A Python file without what makes no difference; None where only its bytes can be compared."""
    try:
        return "".join(_pieces(parse_module(source))).encode("utf-8", "surrogatepass")
    except (SyntaxError, RecursionError):
        return None


def _pieces(node: object) -> Iterator[str]:
    """The tree as text. Absent and empty fields are left out: newer Pythons only add such."""
    match node:
        case ast.Constant(value=value):
            yield f"={value!r};"
        case ast.expr() if (number := number_of(node)) is not None:
            yield f"={number!r};"
        case ast.AST():
            yield f"{type(node).__name__}("
            for name, value in ast.iter_fields(node):
                if value is not None and value != []:
                    yield f"{name}:"
                    yield from _pieces(value)
            yield ")"
        case list():
            yield "["
            for each in node:
                yield from _pieces(each)
            yield "]"
        case _:
            yield f"{node!r};"
