"""Texts as vectors, by a program of the user's: one JSON string a line in, one JSON array of numbers a line out."""

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import tempfile

from ralph.adapters.domains import shell
from ralph.core.text import one_line
from ralph.errors import RalphError

TIMEOUT_S = 30.0


class EmbeddingError(RalphError):
    """The program did not answer as it should."""


def embed(command: str, texts: list[str], timeout_s: float = TIMEOUT_S) -> list[list[float]]:
    """One vector per text, all of one length.

    Input and output are files, so that neither a full pipe nor a grandchild that holds one open can outlast the clock.

    Raises:
        EmbeddingError: naming the program and what was wrong with it or its answer.
    """
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as answered, tempfile.TemporaryFile() as said:
        asked.write("".join(json.dumps(text) + "\n" for text in texts).encode())
        asked.seek(0)
        try:
            child = subprocess.Popen(shell(command), stdin=asked, stdout=answered, stderr=said, start_new_session=True)
        except (OSError, ValueError) as error:
            raise EmbeddingError(f"recall.embed_command cannot be started: {error}") from None
        try:
            in_time = _ended(child, timeout_s)
        finally:
            status = _end(child)
        if not in_time:
            raise EmbeddingError(f"recall.embed_command ({command}) did not answer within {timeout_s:g} s")
        answered.seek(0)
        said.seek(0)
        if status != 0:
            last = said.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise EmbeddingError(f"recall.embed_command ({command}) ended with {status}: {one_line(last, 200)}")
        return _vectors(command, answered.read().decode(errors="replace"), len(texts))


def _ended(child: "subprocess.Popen[bytes]", timeout_s: float) -> bool:
    """Whether it ends in time. It is not reaped yet: until then nobody else can get its number, or its group's."""
    fd = os.pidfd_open(child.pid)
    try:
        return bool(select.select([fd], [], [], timeout_s)[0])
    finally:
        os.close(fd)


def _end(child: "subprocess.Popen[bytes]") -> int:
    """End it with whatever it started in its group, also after an interrupt; its exit status."""
    with contextlib.suppress(ProcessLookupError):  # nothing is left of the group
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def _vectors(command: str, text: str, expected: int) -> list[list[float]]:
    try:
        vectors = [[float(number) for number in json.loads(line)] for line in text.splitlines() if line.strip()]
    except (ValueError, TypeError) as error:
        raise EmbeddingError(
            f"recall.embed_command ({command}) did not answer with arrays of numbers: {error}"
        ) from None
    if len(vectors) != expected or not vectors[0] or len({len(each) for each in vectors}) != 1:
        raise EmbeddingError(
            f"recall.embed_command ({command}) answered {len(vectors)} vectors for {expected} texts, of lengths "
            f"{sorted({len(each) for each in vectors})[:5]}; one vector a text is wanted, all of one length"
        )
    if not all(math.isfinite(number) for each in vectors for number in each):
        raise EmbeddingError(f"recall.embed_command ({command}) answered a number that is not finite")
    return vectors
