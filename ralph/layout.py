"""Every path of a folder that ralph works in; nobody else joins path names."""

from dataclasses import dataclass
from pathlib import Path

from ralph.errors import ConfigError

PICTURE = "state/progress.png"  # below the root, which is where the page that shows it lies


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Paths below `root`, the folder given to ralph; `arena` holds arena.toml (root/workspace, or root itself)."""

    root: Path
    arena: Path

    @property
    def arena_toml(self) -> Path:
        """The arena's configuration."""
        return self.arena / "arena.toml"

    @property
    def progress(self) -> Path:
        """The page for the human; written by the supervisor only."""
        return self.root / "progress.md"

    @property
    def learnings(self) -> Path:
        """Guidance and learnings; written by both."""
        return self.root / "learnings.md"

    @property
    def state(self) -> Path:
        """Everything else the supervisor writes."""
        return self.root / "state"

    @property
    def ledger(self) -> Path:
        """The append-only record; the truth."""
        return self.state / "ledger.jsonl"

    @property
    def snapshot(self) -> Path:
        """The state at some line of the ledger, so that a restart reads only what came after; rebuilt when missing."""
        return self.state / "snapshot"

    @property
    def lock(self) -> Path:
        """Held (flock) by the one supervisor."""
        return self.state / "supervisor.lock"

    @property
    def log(self) -> Path:
        """The supervisor's own log."""
        return self.state / "ralph.log"

    @property
    def results(self) -> Path:
        """The ancestor's table, ours behind it."""
        return self.state / "results.tsv"

    @property
    def history(self) -> Path:
        """One JSON line per verdict, for agents that compute; rebuilt from the ledger when missing."""
        return self.state / "history.jsonl"

    @property
    def recall(self) -> Path:
        """What can be asked about past experiments; rebuilt from the ledger and git when missing."""
        return self.state / "recall.db"

    @property
    def picture(self) -> Path:
        """Score over experiments."""
        return self.root / PICTURE

    @property
    def picture_data(self) -> Path:
        """What the picture is drawn from."""
        return self.state / "progress.json"

    @property
    def picture_domain(self) -> Path:
        """Kill domain of the process that draws the picture."""
        return self.state / "picture"

    @property
    def learned(self) -> Path:
        """The lines appended to learnings.md so far, so that one lost to an editor's save comes back once."""
        return self.state / "learned.jsonl"

    @property
    def ballast(self) -> Path:
        """A reserve that is given up when the disk is full, so that the last words can be written."""
        return self.state / "ballast"

    @property
    def data(self) -> Path:
        """Prepared corpora."""
        return self.state / "data"

    @property
    def compiled(self) -> Path:
        """What compilers left, by what it depends on: versions and device."""
        return self.state / "compiled"

    @property
    def stop_file(self) -> Path:
        """`touch` it to stop after the run in hand; the word `now` in it stops at once."""
        return self.state / "STOP"

    @property
    def pause_file(self) -> Path:
        """Exists while the loop is to pause."""
        return self.state / "PAUSE"

    @property
    def experiments(self) -> Path:
        """One folder per experiment."""
        return self.state / "experiments"

    @property
    def trees(self) -> Path:
        """Worktrees; short-lived."""
        return self.state / "trees"

    @property
    def trash(self) -> Path:
        """What is being removed."""
        return self.state / "trash"

    @property
    def tries(self) -> Path:
        """Scratch folders of `ralph agent try`."""
        return self.state / "try"

    def scratch(self, name: str) -> "Layout":
        """The same arena with a state of its own, below `tries`."""
        return Layout(root=self.tries / name, arena=self.arena)

    @property
    def archive(self) -> Path:
        """Ended campaigns."""
        return self.state / "archive"

    def sealed(self, arena_hash: str) -> Path:
        """The copy of scorer and fixed files made at the campaign's start."""
        return self.state / "sealed" / arena_hash[:16]

    def experiment(self, id: int) -> Path:  # noqa: A002 - the word of the ledger
        """Folder of one experiment."""
        return self.experiments / f"{id:06d}"

    def agent(self, id: int, attempt: int) -> Path:  # noqa: A002
        """Kill domain of one agent: lock, exit.json, log, home, tmp."""
        return self.experiment(id) / f"agent-{attempt}"

    def gateway(self, id: int, attempt: int) -> Path:  # noqa: A002
        """Kill domain of the gateway of one agent."""
        return self.experiment(id) / f"gateway-{attempt}" / "domain"

    def calls(self, id: int, attempt: int) -> Path:  # noqa: A002
        """Record of one agent's calls to its provider; beside the domain, so that it outlives a restart."""
        return self.experiment(id) / f"gateway-{attempt}" / "calls.jsonl"

    def brief(self, id: int, attempt: int) -> Path:  # noqa: A002
        """What the agent knew."""
        return self.experiment(id) / f"brief-{attempt}.md"

    def run(self, id: int, number: int) -> Path:  # noqa: A002
        """Kill domain of one run; its RALPH_RUN_DIR is `out` below it."""
        return self.experiment(id) / f"run-{number}"

    def score(self, id: int, number: int) -> Path:  # noqa: A002
        """Kill domain of the scorer of one run."""
        return self.experiment(id) / f"score-{number}"

    def audit(self, id: int, number: int, attempt: int) -> Path:  # noqa: A002
        """Kill domain of the scorer of one run on the audit split."""
        return self.experiment(id) / f"audit-{number}-{attempt}"

    def tree(self, name: str) -> Path:
        """One worktree."""
        return self.trees / name


def locate(folder: Path) -> Layout:
    """The layout of `folder`: its arena.toml lies in `workspace/` or in the folder itself.

    Raises:
        ConfigError: when there is neither.
    """
    root = folder.resolve()
    for arena in (root / "workspace", root):
        if (arena / "arena.toml").is_file():
            return Layout(root=root, arena=arena)
    raise ConfigError(
        f"no arena.toml in {root} or {root / 'workspace'}. Make one with `ralph init`, or name the folder with --dir"
    )
