"""Constants are read as Python reads them, and changed without touching any other byte."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ralph.core.constants import (
    Constant,
    changed_constants,
    constants_of,
    parse_constants,
    replace_constants,
)
from ralph.core.literals import Literal, write_literal
from ralph.model import JsonValue

SOURCE = '''"""Doc: LR = 1."""
import math
LR = 0.02  # per step; range: 1e-4..1e-1
TOTAL_BATCH: int = 2**19   # tokens
WINDOW = 5 * 1024
ADAM_BETAS = (0.9, 0.95)  # both
SIZES = [
    1_024,  # first
    -2,
]
USE_ROPE = True
NAME = "relu²"  # one of: relu², gelu
lower = 3
HALF = 1 / 2
DERIVED = LR * 2
ROOT = math.sqrt(2)
def train(LR=3):
    DEPTH = 4
'''


def values(source: str) -> dict[str, Literal]:
    return {c.name: c.value for c in parse_constants(source)}


def test_every_kind_of_constant_is_found_and_nothing_else() -> None:
    assert values(SOURCE) == {
        "LR": 0.02,
        "TOTAL_BATCH": 2**19,
        "WINDOW": 5120,
        "ADAM_BETAS[0]": 0.9,
        "ADAM_BETAS[1]": 0.95,
        "SIZES[0]": 1024,
        "SIZES[1]": -2,
        "USE_ROPE": True,
        "NAME": "relu²",
        "HALF": 0.5,
    }


def test_a_span_is_the_exact_text_and_the_comment_that_of_its_line() -> None:
    found = {c.name: (SOURCE[c.start : c.end], c.comment) for c in parse_constants(SOURCE)}
    assert found["LR"] == ("0.02", "per step; range: 1e-4..1e-1")
    assert found["TOTAL_BATCH"] == ("2**19", "tokens")
    assert found["ADAM_BETAS[1]"] == ("0.95", "both")
    assert found["SIZES[0]"] == ("1_024", "first")
    assert found["SIZES[1]"] == ("-2", "")
    assert found["NAME"] == ('"relu²"', "one of: relu², gelu")


def test_a_constant_is_a_noun_with_text_offsets() -> None:
    assert parse_constants("A = (3)  # x") == (Constant(name="A", value=3, start=5, end=6, comment="x"),)


@pytest.mark.parametrize(
    "again",
    [
        "A = 2",
        "A += 1",
        "del A",
        "if True:\n    A = 2",
        "for A in (1, 2):\n    pass",
        "import A",
        "from x import y as A",
        "def A():\n    pass",
        "class A:\n    pass",
        "with open('f') as A:\n    pass",
        "def f():\n    global A\n    A = 3",
        "try:\n    pass\nexcept OSError as A:\n    pass",
        "print(A := 4)",
        "B = A = 3",
    ],
)
def test_a_name_bound_twice_is_no_constant(again: str) -> None:
    assert values(f"A = 1\n{again}\nC = 5\n") == {"C": 5}


def test_names_inside_functions_and_classes_are_other_names() -> None:
    assert values("A = 1\ndef f():\n    A = 2\nclass K:\n    A = 3\ng = lambda: A\n") == {"A": 1}


@pytest.mark.parametrize(
    "value",
    [
        "None",
        "...",
        "b'x'",
        "1j",
        "f'{1}'",
        "1e999",
        "2**10**9",
        "9**9**9",
        "1 / 0",
        "(-2)**0.5",
        "2**80",
        "{1: 2}",
        "()",
    ],
)
def test_what_is_no_sensible_literal_is_left_alone(value: str) -> None:
    assert values(f"A = {value}\n") == {}


def test_a_source_that_does_not_parse_is_a_syntax_error() -> None:
    for source in ("A = ", "A = 1\0", "A = '\ud800'", "(" * 5000):
        with pytest.raises(SyntaxError):
            parse_constants(source)


def test_only_the_literal_changes_whatever_the_line_ends_and_alphabets() -> None:
    source = "\ufeff# größe\r\nÄ = 'é';  LR =\t0.02\t# ± 😀\r\n\f\r\nB = (1,\r\n  2)  # ü\rC = 'x'\n"
    changed = replace_constants(source, {"LR": 0.034, "B[1]": 7, "C": "y"})
    assert changed == source.replace("0.02", "0.034").replace("  2)", "  7)").replace("'x'", "'y'")


def test_numbers_keep_the_way_they_are_written() -> None:
    changed = replace_constants(SOURCE, {"TOTAL_BATCH": 2**18, "WINDOW": 6144, "SIZES[0]": 2048, "LR": 0.0034})
    assert "TOTAL_BATCH: int = 2**18   # tokens" in changed
    assert "WINDOW = 6 * 1024\n" in changed
    assert "    2_048,  # first" in changed
    assert "LR = 0.0034  #" in changed
    assert write_literal("2 ** 4", 16, 24) == "24"
    assert write_literal("0x10", 16, 255) == "0xff"
    assert write_literal("5 * 0", 0, 3) == "3"
    assert write_literal("1.0", 1.0, 3) == "3.0"
    assert write_literal('"a"', "a", "b") == '"b"'


def test_an_equal_value_leaves_the_text_as_it_is() -> None:
    assert replace_constants("A = 1e-3\nB = 2 + 2\n", {"A": 0.001, "B": 4}) == "A = 1e-3\nB = 2 + 2\n"


@pytest.mark.parametrize(
    ("text", "new"), [("3", 2.5), ("3", True), ("True", 1), ("'a'", 1), ("1.0", "x"), ("1.0", math.inf)]
)
def test_a_value_of_another_type_is_refused(text: str, new: Literal) -> None:
    with pytest.raises(ValueError, match="is"):
        replace_constants(f"A = {text}", {"A": new})


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="There are: A, B"):
        replace_constants("A = 1\nB = 2", {"LR": 0.1})


def test_constants_of_several_files_leave_out_what_does_not_parse() -> None:
    files = {"train.py": "A = 1", "pkg/model.py": "B = 2.5", "broken.py": "A = = 1", "notes.md": "A = 3"}
    assert constants_of(files) == {"pkg/model.py:B": 2.5, "train.py:A": 1}


def test_changed_constants_names_new_changed_and_removed_ones() -> None:
    before: dict[str, JsonValue] = {"t.py:A": 1, "t.py:B": 2.0, "t.py:C": True, "t.py:D": "x"}
    after: dict[str, JsonValue] = {"t.py:A": 1, "t.py:B": 2.5, "t.py:C": 1, "t.py:E": 4}
    assert changed_constants(before, after) == {"t.py:B": 2.5, "t.py:C": 1, "t.py:D": None, "t.py:E": 4}


NUMBERS = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False, width=64)
LITERALS = NUMBERS | st.booleans() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
GAPS = st.sampled_from(["", " ", "\t", "  "])
TAILS = st.sampled_from(["", "  # ünit; 'x' = 3", " ;pass", "# 1"])
FILLERS = st.sampled_from(["", "# A = 3 😀", "def f():\n    return 1", "é = 1", "\f"])
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(
    lines=st.lists(st.tuples(LITERALS, GAPS, TAILS, FILLERS), min_size=1, max_size=6),
    end=ENDS,
    data=st.data(),
)
@example(lines=[(-0.0, "", "", "")], end="\n", data=None)
def test_replacing_round_trips_and_touches_nothing_else(
    lines: list[tuple[Literal, str, str, str]], end: str, data: st.DataObject | None
) -> None:
    source = "".join(
        f"C{i}{gap}={gap}{value!r}{tail}{end}{filler.replace(chr(10), end)}{end}"
        for i, (value, gap, tail, filler) in enumerate(lines)
    )
    found = parse_constants(source)
    assert [c.value for c in found] == [value for value, *_ in lines]
    new = {c.name: c.value if data is None else data.draw(_like(c.value)) for c in found}
    changed = replace_constants(source, new)
    assert values(changed) == new
    assert _without_spans(changed) == _without_spans(source)
    assert replace_constants(changed, new) == changed


def _like(value: Literal) -> st.SearchStrategy[Literal]:
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, str):
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    return st.integers(-(2**40), 2**40) if isinstance(value, int) else st.floats(allow_nan=False, allow_infinity=False)


def _without_spans(source: str) -> str:
    for constant in reversed(parse_constants(source)):
        source = source[: constant.start] + "@" + source[constant.end :]
    return source


@given(exponent=st.integers(0, 40), new=st.integers(0, 40), factor=st.integers(1, 99))
def test_arithmetic_reads_back_as_the_new_value(exponent: int, new: int, factor: int) -> None:
    assert read(write_literal(f"2**{exponent}", 2**exponent, factor)) == factor
    assert read(write_literal(f"2**{exponent}", 2**exponent, 2**new)) == 2**new
    assert read(write_literal(f"{factor} * 1024", factor * 1024, new * 512)) == new * 512


def read(text: str) -> Literal:
    return values(f"A = {text}")["A"]
