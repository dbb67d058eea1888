"""Module-level constants of Python sources: reading them, and changing their values in the text and nothing else.

A constant is `NAME = value` (or `NAME: type = value`) at the top level of a module, where NAME is UPPER_CASE and the
value an int, float, bool, str, arithmetic of numbers such as `2**19`, or a tuple or list of numbers, whose elements
count as constants of their own (`ADAM_BETAS[0]`). A name that is bound a second time anywhere at module level, or
declared `global` in a function, is not a constant: changing one of its texts would not say what the program uses.
"""

import ast
import math
import operator
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ralph.core.literals import Literal, write_literal
from ralph.model import JsonValue

_NAME = re.compile(r"[A-Z][A-Z0-9_]*\Z")
_LINE_END = re.compile(r"\r\n|\r|\n")
_COMMENT = re.compile(r"[ \t\f,)\]]*#[ \t]*([^\r\n]*)")
_OPERATORS: dict[type[ast.operator], Callable[[float, float], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_LARGEST_INT = 2**63
_LARGEST_EXPONENT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant: `source[start:end]` is the text of its value; `comment` is what follows `#` on its line."""

    name: str
    value: Literal
    start: int
    end: int
    comment: str = ""


@lru_cache(maxsize=8)  # the incumbent's files are read for every brief and every candidate
def parse_constants(source: str) -> tuple[Constant, ...]:
    """The constants of a module, in the order of its text.

    Raises:
        SyntaxError: when `source` does not parse.
    """
    body = parse_module(source.removeprefix("\ufeff")).body
    text = _Text(source)
    bound = Counter(name for statement in body for name in _bindings(statement))
    found: list[Constant] = []
    for statement in body:
        named = _named_value(statement)
        if named is not None and _NAME.match(named[0]) and bound[named[0]] == 1:
            found += _constants(text, statement, *named)
    return tuple(found)


def replace_constants(source: str, values: Mapping[str, Literal]) -> str:
    """`source` with new values: only the text of these literals changes, and not where the value is the same.

    Raises:
        SyntaxError: when `source` does not parse.
        KeyError: when it has no constant of a given name.
        ValueError: when a value is of another type than the constant (a float is no int; an integral one passes).
    """
    known = {c.name: c for c in parse_constants(source)}
    if missing := sorted(values.keys() - known.keys()):
        raise KeyError(f"no such constant: {', '.join(missing)}. There are: {', '.join(known) or 'none'}")
    for constant in sorted((known[name] for name in values), key=lambda c: -c.start):
        new = values[constant.name]
        if not same_value(new, constant.value):
            literal = write_literal(source[constant.start : constant.end], constant.value, new)
            source = source[: constant.start] + literal + source[constant.end :]
    return source


def constants_of(files: Mapping[str, str]) -> dict[str, JsonValue]:
    r"""`train.py:NAME` -> value for all Python files of a `path -> text` mapping; one that does not parse has none.

    >>> constants_of({"train.py": "LR = 0.02  # per step\nBETAS = (0.9, 0.95)", "notes.md": "X = 1"})
    {'train.py:LR': 0.02, 'train.py:BETAS[0]': 0.9, 'train.py:BETAS[1]': 0.95}
    """
    found: dict[str, JsonValue] = {}
    for path in sorted(files):
        if path.endswith(".py"):
            try:
                found |= {f"{path}:{c.name}": c.value for c in parse_constants(files[path])}
            except SyntaxError:
                continue
    return found


def changed_constants(before: Mapping[str, JsonValue], after: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What `after` has that `before` has not or has otherwise; None stands for a constant that is gone."""
    changed = {k: v for k, v in after.items() if k not in before or not same_value(v, before[k])}
    return changed | {k: None for k in before if k not in after}


def same_value(one: JsonValue, other: JsonValue) -> bool:
    """Equal, and both truth values or neither: True is not 1. An int equals the float of its size."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


class _Text:
    """Turns the positions of `ast` (line, offset in UTF-8 bytes) into offsets in a str."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._starts = [0, *(m.end() for m in _LINE_END.finditer(source))]
        if source.startswith("\ufeff"):
            self._starts[0] = 1

    def offset(self, line: int, column: int) -> int:
        start = self._starts[line - 1]
        stop = self._starts[line] if line < len(self._starts) else len(self.source)
        text = self.source[start:stop]
        return start + (column if text.isascii() else len(text.encode()[:column].decode()))

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError("a parsed node has an end")
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def comment_after(self, position: int) -> str:
        match = _COMMENT.match(self.source, position)
        return match[1].rstrip() if match else ""


def parse_module(source: str | bytes) -> ast.Module:
    """The tree of a module, without the warnings that parsing may give. Raises SyntaxError, and nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an odd escape in somebody's string is no news here
        try:
            return ast.parse(source)
        except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes, lone surrogates, absurd nesting
            raise SyntaxError(f"the source does not parse: {error}") from None


def _named_value(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
        case _:
            return None


def _bindings(node: ast.AST) -> Iterator[str]:
    """Names that executing this part of a module binds in the module, once for each place."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
            yield from (n for inner in ast.walk(node) if isinstance(inner, ast.Global) for n in inner.names * 2)
            return
        case ast.Lambda():
            return
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _bindings(child)


def _constants(text: _Text, statement: ast.stmt, name: str, value: ast.expr) -> Iterator[Constant]:
    comment = text.comment_after(text.span(statement)[1])
    if isinstance(value, ast.Tuple | ast.List):
        for index, element in enumerate(value.elts):
            number = _literal(element)
            if number is not None and not isinstance(number, bool | str):
                start, end = text.span(element)
                own = text.comment_after(end) or comment
                yield Constant(name=f"{name}[{index}]", value=number, start=start, end=end, comment=own)
    elif (literal := _literal(value)) is not None:
        start, end = text.span(value)
        yield Constant(name=name, value=literal, start=start, end=end, comment=comment)


def _literal(node: ast.expr) -> Literal | None:
    """The value of a literal or of arithmetic of numbers; None for anything else, or out of every sensible size."""
    match node:
        case ast.Constant(value=bool() | str() as value):
            return value
        case _:
            return number_of(node)


def number_of(node: ast.expr) -> int | float | None:
    """The value of a number or of arithmetic of numbers; None for anything else, or out of every sensible size."""
    number = _number(node)
    return number if number is not None and _sensible(number) else None


def _number(node: ast.expr) -> int | float | None:
    match node:
        case ast.Constant(value=bool()):
            return None
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _number(operand)
            return None if inner is None else -inner
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _number(operand)
        case ast.BinOp(left=left, op=op, right=right):
            return _arithmetic(op, _number(left), _number(right))
        case _:
            return None


def _arithmetic(op: ast.operator, left: float | None, right: float | None) -> float | None:
    if left is None or right is None or type(op) not in _OPERATORS or not (_sensible(left) and _sensible(right)):
        return None
    if isinstance(op, ast.Pow) and abs(right) > _LARGEST_EXPONENT:
        return None
    try:
        result = _OPERATORS[type(op)](left, right)
    except (ArithmeticError, ValueError):
        return None
    return result if isinstance(result, int | float) else None


def _sensible(number: float) -> bool:
    return abs(number) < _LARGEST_INT if isinstance(number, int) else math.isfinite(number)
