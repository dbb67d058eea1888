"""Whether a file of a candidate can be parsed at all."""

import ast

MOST_CODE = 1_000_000  # characters of one file: parsing takes a hundred times its size in memory


def syntax_error(name: str, text: str) -> str:
    """What keeps a Python file from being parsed; empty for one that is sound, and for other files."""
    if not name.endswith(".py"):
        return ""
    if len(text) > MOST_CODE:
        return f"it has {len(text):,} characters; at most {MOST_CODE:,} are read as code"
    try:
        ast.parse(text)
    except (SyntaxError, ValueError) as error:
        where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        return f"{error.msg if isinstance(error, SyntaxError) else error}{where}"
    except (RecursionError, MemoryError):
        return "it is nested too deeply"
    return ""
