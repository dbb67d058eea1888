"""One of several projects that share a page: `python project.py ROOT CAMPAIGN N` lets N experiments learn something."""

import sys
from pathlib import Path

from ralph.adapters.papers import FilePapers
from ralph.layout import Layout
from ralph.model import Learning


def learnt(campaign: str, number: int, seed: str) -> Learning:
    """What the agent of an experiment learnt: words of its own project."""
    return Learning(text=f"{seed}{number} says {seed} of {campaign} {'x' * (number % 70)}", evidence=(number,))


def main(root: Path, campaign: str, count: int) -> None:
    """Learn, and at every third experiment supersede something."""
    with FilePapers(Layout(root=root, arena=root), "program.md", "val_bpb") as papers:
        for n in range(1, count + 1):
            marks = (
                (f'- [{campaign}#{n}] supersedes [{campaign}#{n - 1}] "…" (no evidence given)',) if n % 3 == 0 else ()
            )
            papers.learn(campaign, n, [learnt(campaign, n, root.name)], marks)
            papers.guidance()
            print(n, flush=True)
        sys.stdin.readline()  # the editor is done: what it saved over comes back now
        papers.guidance()
        papers.learn(campaign, count, [learnt(campaign, count, root.name)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
