"""What a contestant must be able to do, and the task that all of them are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

EVALUATION_S = 25  # what one evaluation may take; some need most of ten seconds on a busy machine to begin
SCORE = '''\
def score(answer):
    """The larger the better; an answer outside of 0 to 1 is an error."""
    if type(answer) is not float or not 0 <= answer <= 1:
        raise ValueError(f"not an answer: {answer!r}")
    return answer
'''
START = 0.125  # the answer of the program that everybody starts from


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run of a contestant.

    Attributes:
        folder: where it works; the task's files are in `folder / "task"`.
        home: the user's home.
        url: the server that stands for its language model.
        candidates: the programs that it will be given, in this order, numbered from 1.
    """

    folder: Path
    home: Path
    url: str
    candidates: Sequence[str]

    @property
    def task(self) -> Path:
        """The folder with the first program and with what evaluates it."""
        return self.folder / "task"


class Contestant(Protocol):
    """One program under drill."""

    @property
    def name(self) -> str:
        """As people call it."""
        ...

    def version(self) -> str:
        """Its version, empty if it is not there."""
        ...

    def prepare(self, task: Task) -> None:
        """Write the task's files, but for running anything."""
        ...

    def argv(self, task: Task, *, again: bool = False) -> Sequence[str]:
        """The command that runs all candidates; `again`: that goes on where another was killed, as documented."""
        ...

    def scores(self, task: Task) -> Mapping[int, float]:
        """What it recorded as valid scores, by the number of the candidate."""
        ...

    def ended(self, task: Task) -> set[tuple[int, str]]:
        """The evaluations that ended well, as far as can be seen now: the candidate, and a mark that no other has."""
        ...

    def begun(self, task: Task) -> int:
        """How many evaluations of candidates have begun."""
        ...


def log_of_evaluations(task: Task) -> Path:
    """Where an evaluator that may write there says what it does: `begun N` and `ended N`."""
    return task.folder / "evaluations.log"


def logged(task: Task, word: str) -> set[tuple[int, str]]:
    """Candidates and line numbers in that log, the program at the start (candidate 0) left out."""
    path = log_of_evaluations(task)
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = {(int(line.split()[1]), str(at)) for at, line in enumerate(lines) if line.startswith(word)}
    return {(number, mark) for number, mark in found if number}
