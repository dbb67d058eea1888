"""A supervisor that prepares runs and is killed while they wait: `python -m tests.adapters.preparing ROOT ORDER…`.

With UNGATED in its environment the arena has no starting gun.
"""

import json
import os
import select
import sys
from pathlib import Path

from ralph.adapters.process import become_subreaper
from ralph.ports import RunOrder
from tests.adapters.test_early import RUN, UNGATED, Bench


def main(root: Path, orders: list[str]) -> None:
    """Prepare them, say so, and wait for the end."""
    become_subreaper()
    gated = "UNGATED" not in os.environ
    runner = Bench(root).runner(RUN, "cuda:0") if gated else Bench(root).runner(UNGATED, "none")
    for order in orders:
        runner.prepare(RunOrder(**json.loads(order)))
    print("prepared", flush=True)
    select.select([], [], [])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
