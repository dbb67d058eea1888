"""Which experiment was the first to try a program."""

import pytest

from ralph.core.meanings import RECENT, Meanings


def test_a_program_is_found_and_another_is_not() -> None:
    known = Meanings()
    known["aa"] = 3
    assert (known.get("aa"), known.get("ab"), known.get("")) == (3, None, None)


def test_the_latest_word_on_a_program_counts_at_any_age() -> None:
    known = Meanings({"aa": 3})
    for n in range(2 * RECENT + 5):
        known[f"m{n}"] = n
    known["aa"] = 9
    assert (known.get("aa"), known.get("m0"), known.get(f"m{2 * RECENT + 4}")) == (9, 0, 2 * RECENT + 4)
    assert len(known) == 2 * RECENT + 6


def test_what_is_packed_is_unpacked_again() -> None:
    known = Meanings({f"m{n}": n for n in range(100)})
    again = Meanings.unpacked(*known.packed())
    assert again == known
    assert (again.get("m7"), len(again)) == (7, 100)
    assert Meanings({"m1": 2}) != known


def test_bytes_that_do_not_belong_together_are_refused() -> None:
    keys, ids = Meanings({"a": 1, "b": 2}).packed()
    with pytest.raises(ValueError, match="as many"):
        Meanings.unpacked(keys, ids[:4])


def test_a_program_takes_twelve_bytes() -> None:
    keys, ids = Meanings({f"m{n}": n for n in range(1000)}).packed()
    assert len(keys) + len(ids) == 12_000
