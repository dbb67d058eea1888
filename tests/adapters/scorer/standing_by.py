"""A supervisor that prepares a scorer and is killed while that waits.

`python -m tests.adapters.scorer.standing_by ROOT`
"""

import select
import sys
from pathlib import Path

from ralph.adapters.process import become_subreaper
from tests.adapters.scorer.test_standby import LEVEL, ORDER, Scoring


def main(root: Path) -> None:
    """Prepare it, say so, and wait for the end."""
    become_subreaper()
    scorer = Scoring(root, LEVEL).scorer()  # whose sockets are open as long as it is there
    scorer.prepare(ORDER)
    print("prepared", flush=True)
    select.select([], [], [])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
