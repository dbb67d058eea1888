"""`python -P -m ralph.adapters.scorer.standby PROGRAM ARGUMENTS…`: a sealed scorer that has imported, and waits.

It stands in its final kill domain and sandbox. Until a line of its standard input releases it, it has opened nothing
but Python's libraries: no artifact, data or device, nor PROGRAM, which it reads then and becomes. The end of its
standard input instead of a release means that the supervisor is gone; then the shim ends it.

What it saves is the import of torch, and half a second in which an interpreter that holds torch takes itself apart.
Not what a program opens later: a GPU, its kernels.
"""

import importlib
import os
import runpy
import signal
import sys

IMPORTS = ("numpy", "torch")  # the rest of what language_model.py imports comes with them


def main(program: str) -> None:
    """Import, wait, become the program, which is told the arguments behind its name."""
    for name in IMPORTS:
        importlib.import_module(name)
    while not os.read(0, 1):
        signal.pause()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    del sys.argv[0]
    try:
        runpy.run_path(program, run_name="__main__")
    except SystemExit as end:
        if not isinstance(end.code, int):
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)  # the answer is on disk, and there is nothing else to clean


if __name__ == "__main__":
    main(sys.argv[1])
