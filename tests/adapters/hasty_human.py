"""A human who edits a page without a pause, as editors and shells do: `python hasty_human.py PAGE N SEED`.

Every edit adds one token `<n>`; nothing else of the page is changed. No way of editing knows of any lock. Who saves a
whole copy sometimes thinks for a while between reading and saving, and so saves over what came in between.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

THINKING_S = 0.005


def shell_append(page: Path, said: str) -> None:
    """`printf >> page`, by a shell."""
    subprocess.run(["/bin/sh", "-c", 'printf %s "$2" >> "$1"', "sh", str(page), said], check=True)


def append(page: Path, said: str) -> None:
    """What `>>` does, without the time that a shell takes."""
    with page.open("a") as file:
        file.write(said)


def think(said: str) -> None:
    """Hold the copy for some milliseconds, after every fourth reading."""
    if int(said.strip("\n<>")) % 4 == 0:
        time.sleep(THINKING_S)


def save_by_rename(page: Path, said: str) -> None:
    """Read, write a new file beside, rename: most editors."""
    text = page.read_bytes()
    think(said)
    beside = page.with_name("beside")
    beside.write_bytes(text + said.encode())
    beside.replace(page)


def save_with_backup(page: Path, said: str) -> None:
    """Read, move the old file away, write a new one: for a moment there is none."""
    text = page.read_bytes()
    think(said)
    page.replace(page.with_name("backup"))
    page.write_bytes(text + said.encode())


def save_in_place(page: Path, said: str) -> None:
    """Read, truncate, write in small pieces."""
    data = page.read_bytes() + said.encode()
    think(said)
    fd = os.open(page, os.O_WRONLY | os.O_TRUNC)
    for at in range(0, len(data), 4096):
        os.write(fd, data[at : at + 4096])
    os.close(fd)


def main(page: Path, edits: int, seed: int) -> None:
    """Edit."""
    rng = random.Random(seed)
    quick: tuple[Callable[[Path, str], None], ...] = (append, save_by_rename, save_with_backup, save_in_place)
    for n in range(edits):
        style = shell_append if n % 50 == 49 else rng.choice(quick)
        end = "" if n % 7 == 3 else "\n"  # now and then the last line has no end; then the next edit begins with one
        start = "\n" if n % 7 == 4 else ""
        style(page, f"{start}<{n}>{end}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
