"""What makes no difference to a program, and what does."""

import pytest

from ralph.core.meaning import meaning_of


def of(source: str, path: str = "train.py") -> str:
    return meaning_of({path: source.encode()})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LR = 0.04  # per step\n", "\n# the rate\nLR = 0.04\n"),
        ("LR = 0.04", "LR = 4e-2"),
        ("N = 1_000", "N = 1000"),
        ("N = 0x10", "N = 16"),
        ("N = 2**4", "N = 16"),
        ("LR = 0.2 / 4", "LR = 0.05"),
        ("N = -1", "N = - 1"),
        ("f(2**19)", "f(524288)"),
        ("x = (a + b)", "x = a + b"),
        ("f(a,\n  b,\n)", "f(a, b)"),
        ("x = 'a'", 'x = "a"'),
        ("x = 'a' 'b'", "x = 'ab'"),
        ("if a:\n    b()\n", "if a:\n  b()\n"),
        ("\ufeffx = 1", "x = 1"),
        ("x = 1\r\ny = 2\r\n", "x = 1\ny = 2\n"),
    ],
)
def test_comments_layout_and_the_spelling_of_numbers_make_no_difference(one: str, other: str) -> None:
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LR = 0.04", "LR = 0.05"),
        ("N = 1", "N = 1.0"),
        ("N = 1", "N = True"),
        ("x = 0.0", "x = -0.0"),
        ("N = 1", "N = '1'"),
        ("x = (1, 2)", "x = [1, 2]"),
        ("a = 1\nb = 2", "b = 2\na = 1"),
        ("def f():\n    'one'", "def f():\n    'two'"),  # a program can read its docstrings
        ("def f():\n    'one'", "def f():\n    pass"),
        ("x = a - b", "x = b - a"),
        ("x = a + b * c", "x = (a + b) * c"),
        ("x = f'{a}'", "x = f'{a!r}'"),
        ("x = 'a = 1;'", "x = 'a = 2;'"),
        ("del a", "a"),
        ("global a", "nonlocal a"),
        ("def f(a, /): pass", "def f(a): pass"),
        ("x = 2 ** 2000", "x = 2 ** 2001"),  # too large to be worked out, and still not the same
    ],
)
def test_what_a_program_can_tell_apart_is_a_difference(one: str, other: str) -> None:
    assert of(one) != of(other)


def test_files_that_are_no_python_or_do_not_parse_count_byte_by_byte() -> None:
    assert of("a  # b", "notes.md") != of("a", "notes.md")
    assert of("def (:  # b") != of("def (:")
    assert meaning_of({"weights.bin": b"\xff\x00"}) != meaning_of({"weights.bin": b"\xff"})
    deep = f"x = {'(' * 3000}1{')' * 3000}"
    assert of(deep) != of(deep + "  # b")


def test_a_tree_too_deep_to_walk_is_compared_byte_by_byte() -> None:
    deep = "x = " + "+".join("a" * 5000)
    assert of(deep) == of(deep)
    assert of(deep) != of(deep + "  # b")


def test_names_of_files_and_which_file_has_what_count() -> None:
    a, b = b"A = 1\n", b"B = 1\n"
    assert meaning_of({"a.py": a, "b.py": b}) == meaning_of({"b.py": b, "a.py": a})
    assert meaning_of({"a.py": a, "b.py": b}) != meaning_of({"a.py": b, "b.py": a})
    assert meaning_of({"a.py": a}) != meaning_of({"a.py": a, "b.py": b""})
    assert meaning_of({"a.py": a}) != meaning_of({"c.py": a})


def test_a_meaning_is_the_same_on_every_python() -> None:
    """It is kept in ledgers: this one was computed with 3.11."""
    lines = (
        "import os",
        "class A(B):",
        "  def f(self, *, a: int = 2**3) -> None:",
        "    return [x for x in a if x > -1]",
    )
    assert of("\n".join(lines)) == PINNED


PINNED = "bd97a7bdd5c45398b6acf71761a527e9ad37b321ef6cae3d2adaa17ad12c5e9e"
