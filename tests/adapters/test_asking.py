"""Ranking by meaning, with real programs of the user's."""

import re
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ralph.adapters.asking import ask
from ralph.adapters.embedding import EmbeddingError, embed
from ralph.adapters.recall import RecallIndex
from tests.adapters.test_recall import Told, doc, source_of

MEANING = """
import json, sys
for line in sys.stdin:
    text = json.loads(line)
    alike = any(word in text for word in ("ramp", "gradual"))
    print(json.dumps([1.0, 0.1] if alike else [0.1, 1.0]))
"""
FOUND = (doc(1, "start cold start"), doc(2, "start"), doc(3, "ramp the rate up slowly from the very start of it all"))


def program(folder: Path, text: str) -> str:
    """A command line for a small program."""
    file = folder / "embed.py"
    file.write_text(text)
    return shlex.join((sys.executable, str(file)))


def asked(folder: Path, command: str, question: str = "gradual start", most: int = 3) -> tuple[list[int], str]:
    path = folder / "recall.db"
    source: Told = source_of(*FOUND)
    RecallIndex(path, campaign="nov23", source=source, embed_command=command).catch_up()
    answers = ask(path, question, most)
    return [each.id for each in answers.found], answers.warning


def test_without_a_program_words_decide(tmp_path: Path) -> None:
    found, warning = asked(tmp_path, "")
    assert (found[-1], warning) == (3, "")


def test_what_means_the_same_moves_up(tmp_path: Path) -> None:
    found, warning = asked(tmp_path, program(tmp_path, MEANING))
    assert (found.index(3), warning) == (1, "")
    assert asked(tmp_path, program(tmp_path, MEANING), most=1)[0] == found[:1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import sys; sys.exit('no model here')", "no model here"),
        ("print('[1.0, 2.0]')", "answered 1 vectors for 4 texts"),
        ("for n in range(4): print([1.0] * (n + 1))", "one vector a text is wanted, all of one length"),
        ("for n in range(4): print('hello')", "did not answer with arrays of numbers"),
        ("for n in range(4): print('{}')", "of lengths \\[0\\]"),
        ("for n in range(4): print('[NaN]')", "not finite"),
    ],
)
def test_a_program_that_fails_is_named_and_words_decide(tmp_path: Path, text: str, reason: str) -> None:
    found, warning = asked(tmp_path, program(tmp_path, text))
    assert found == asked(tmp_path, "")[0]
    assert re.search(reason, warning)
    assert warning.endswith("Ranked by words alone")


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "cannot be started" in asked(tmp_path, str(tmp_path / "no-such-program"))[1]


def test_a_program_without_an_end_is_ended_with_what_it_started(
    tmp_path: Path, marked: Callable[[], list[int]]
) -> None:
    sleeping = (
        "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
    )
    with pytest.raises(EmbeddingError, match=r"did not answer within 0\.5 s"):
        embed(program(tmp_path, f"{sleeping}time.sleep(300)\n"), ["x"], timeout_s=0.5)
    deadline = time.monotonic() + 20  # a killed process of a busy machine takes its time
    while marked() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_vectors_come_in_the_order_of_the_texts(tmp_path: Path) -> None:
    length = program(tmp_path, "import json, sys\nfor line in sys.stdin: print([len(json.loads(line)), 1])")
    assert embed(length, ["a\nb", "", "ä" * 70_000]) == [[3.0, 1.0], [0.0, 1.0], [70_000.0, 1.0]]
