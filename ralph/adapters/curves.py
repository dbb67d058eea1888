"""A run's curve from the lines of progress.jsonl that it wrote: untrusted, of any length, read in bounded time.

Covers: everything that untrusted.py and untrusted_json.py cover, and floods: of a file longer than 256 KiB, blocks
spread over it are read. Does not cover: lies. The seconds in a line are the run's word; when it is looked at, the
supervisor's clock says.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from ralph.adapters.files import write_atomic
from ralph.adapters.untrusted import UntrustedFileError, read_untrusted_blocks
from ralph.core.curves import Curve, resample
from ralph.core.untrusted_json import number, parse_object
from ralph.model import EarlyStop

BLOCKS, BLOCK_BYTES = 32, 8 * 1024
EARLY = "early.json"  # in the domain's folder, which its processes cannot write to


def read_curve(folder: Path, name: str, budget_s: float) -> Curve:
    """The curve of the run in `folder` so far; empty if it has logged nothing that can be read."""
    try:
        blocks = read_untrusted_blocks(folder, name, BLOCKS, BLOCK_BYTES)
    except (FileNotFoundError, UntrustedFileError):
        return ()
    curve = resample(_logged(blocks), budget_s)
    return () if all(loss is None for loss in curve) else curve


def _logged(blocks: list[bytes]) -> Iterator[tuple[float, float]]:
    """Seconds and loss of every whole line; what a block's ends cut is no object, or one that lacks something."""
    for line in (line for block in blocks for line in block.split(b"\n")):
        raw = parse_object(line) if line.endswith(b"}") else None
        if raw is None:
            continue
        seconds, loss = number(raw.get("seconds")), number(raw.get("loss"))
        if seconds is not None and loss is not None:
            yield seconds, loss


def write_early(folder: Path, early: EarlyStop) -> None:
    """Put on record, before anything is done about it, that this run was to be stopped."""
    write_atomic(folder / EARLY, json.dumps(asdict(early)))


def read_early(folder: Path) -> EarlyStop | None:
    """What `write_early` wrote, if it did."""
    try:
        return EarlyStop(**json.loads((folder / EARLY).read_text()))
    except (OSError, ValueError, TypeError):
        return None
