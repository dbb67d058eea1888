"""What was tried near an idea: from the index that RALPH_RECALL names, or else from the lines of the history."""

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ralph.adapters.asking import ask
from ralph.adapters.recall import RecallError
from ralph.core.recall import told

MOST = 12  # experiments in one answer
WORDS = 240  # characters of one hypothesis or reason
_WORD = re.compile(r"\w+")


def remembered(words: str, index: Path | None, history: Path) -> str:
    """What the index says, or the history where there is no index to be read; empty for nothing."""
    if index is None:
        return search(words, history)
    try:
        answers = ask(index, words, MOST)
    except RecallError as error:
        sys.stderr.write(f"{error}; searching the history instead\n")
        return search(words, history)
    if answers.warning:
        sys.stderr.write(f"{answers.warning}\n")
    return "\n".join(told(each, words) for each in answers.found)


def search(words: str, history: Path) -> str:
    """Lines about the experiments that share the most words with `words`, the best match first; empty for none."""
    wanted = {w for w in _words(words) if len(w) > 1}
    try:
        with history.open(encoding="utf-8", errors="replace") as lines:
            found = [(_matches(wanted, row), row) for row in _rows(lines)]
    except OSError:
        return ""
    best = sorted((item for item in found if item[0]), key=lambda item: (-item[0], -item[1]["id"]))
    return "\n".join(_line(row) for _, row in best[:MOST])


def _rows(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and type(row.get("id")) is int:
            yield row


def _words(text: str) -> set[str]:
    """Words in lower case, and the parts of names_like_this."""
    whole = {w.lower() for w in _WORD.findall(text)}
    return whole | {part for w in whole for part in w.split("_") if part}


def _matches(wanted: set[str], row: dict[str, Any]) -> int:
    constants = row.get("constants")
    names = " ".join(constants) if isinstance(constants, dict) and row["id"] else ""
    told = (row.get("hypothesis"), row.get("reason"), row.get("verdict"), row.get("crash"), names)
    return len(wanted & _words(" ".join(str(part) for part in told if part)))


def _line(row: dict[str, Any]) -> str:
    score, delta = row.get("score"), row.get("delta")
    figures = "" if score is None else f" {score}" + ("" if delta is None else f" ({delta:+g})")
    said, why = (" ".join(str(row.get(key) or "").split())[:WORDS] for key in ("hypothesis", "reason"))
    return f"#{row['id']} {row.get('verdict')}{figures}: {said} — {why}"
