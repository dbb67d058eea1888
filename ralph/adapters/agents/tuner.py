"""The tuner: an agent that searches the constants of the editable files with Optuna's TPE. No key, no network.

`python -m ralph.adapters.agents.tuner` under the contract of docs/agents.md. It remembers nothing: its knowledge is
rebuilt from RALPH_HISTORY every time, and the same history, files and seed give the same proposal. It edits the text of
one to three constants and nothing else, says why, and writes down what single changes have shown.

Covered: numbers, truth values, and texts whose comment lists the choices; hints in comments (ralph.core.search_space).
Not covered: any change that is not a constant; constants bound twice; those of the profile of another device.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from ralph.adapters.agents.contract import ContractError, Given, leave, read_given, write_proposal
from ralph.model import Proposal

# Read when numpy is first imported. One thread is faster for small matrices, and its sums do not depend on the machine.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main() -> int:
    """Read what is given, edit the files, write the proposal. 1 with the reason on stderr when that is impossible."""
    limit_threads()
    try:
        given = read_given()
        texts = _read_texts(given.facts.editable)
        proposal, edited = _propose_from(given, texts)
    except ContractError as error:
        sys.stderr.write(f"tuner: {error}\n")
        return 1
    for name, text in edited.items():
        Path(name).write_bytes(text.encode())
    write_proposal(given.proposal, proposal)
    return 0


def limit_threads() -> None:
    """To be called before numpy is imported."""
    for name in _THREADS:
        os.environ.setdefault(name, "1")


def _propose_from(given: Given, texts: Mapping[str, str]) -> tuple[Proposal, dict[str, str]]:
    from ralph.adapters.agents.proposing import propose

    try:
        with given.history.open(encoding="utf-8", errors="replace") as history:
            return propose(given.facts, texts, history, given.seed, given.brief)
    except OSError as error:
        raise ContractError(f"cannot read the history {given.history}: {error.strerror}") from None


def _read_texts(editable: tuple[str, ...]) -> dict[str, str]:
    """Text of the editable Python files, byte for byte; `editable` may hold globs."""
    names = {p.as_posix() for glob in editable for p in sorted(Path().glob(glob)) if p.suffix == ".py" and p.is_file()}
    try:
        return {name: Path(name).read_bytes().decode() for name in sorted(names)}
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"cannot read the editable files {', '.join(sorted(names))}: {error}") from None


if __name__ == "__main__":
    leave(main())
