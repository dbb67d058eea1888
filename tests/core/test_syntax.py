"""Files that cannot be parsed, and those that only try to break whoever parses them."""

from ralph.core.syntax import syntax_error


def test_only_python_is_parsed_and_no_text_of_it_breaks_the_parser() -> None:
    assert syntax_error("a.txt", "((((") == ""
    assert syntax_error("a.py", "x = '\0'")
    assert syntax_error("a.py", "(" * 100_000)
    assert syntax_error("a.py", "x = 1") == ""
