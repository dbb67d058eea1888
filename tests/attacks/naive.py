"""A contestant that trusts everybody: it imports each candidate into its own process, one after another."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drills.rivals.contestant import SCORE, Task, logged

LOOP = (
    SCORE
    + """

import json, pathlib, sys, urllib.request

folder, url, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
book = folder / "book.jsonl"
for _ in range(count - len(book.read_text().splitlines() if book.exists() else [])):
    asked = urllib.request.Request(url + "/v1/chat/completions", b'{"messages": []}')
    said = json.load(urllib.request.urlopen(asked))["choices"][0]["message"]["content"]
    program = said.partition("```python\\n")[2].partition("```")[0]
    number = program.partition("# candidate ")[2].split()[0]
    with (folder / "evaluations.log").open("a") as log:
        print("begun", number, file=log, flush=True)
        space = {"__name__": "candidate"}
        exec(program, space)
        line = json.dumps({"number": int(number), "score": score(space["answer"]())})
        print("ended", number, file=log)
    with book.open("a") as file:
        print(line, file=file)
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Naive:
    """It goes on after a kill by its book, and pays for the candidate in hand once more."""

    name: str = "naive"

    def version(self) -> str:
        return "1"

    def prepare(self, task: Task) -> None:
        (task.task / "loop.py").write_text(LOOP, encoding="utf-8")

    def argv(self, task: Task, *, again: bool = False) -> Sequence[str]:
        return [sys.executable, str(task.task / "loop.py"), str(task.folder), task.url, str(len(task.candidates))]

    def scores(self, task: Task) -> Mapping[int, float]:
        lines = (task.folder / "book.jsonl").read_text(encoding="utf-8").splitlines()
        return {row["number"]: row["score"] for row in map(json.loads, lines)}

    def ended(self, task: Task) -> set[tuple[int, str]]:
        return logged(task, "ended")

    def begun(self, task: Task) -> int:
        return len(logged(task, "begun"))
