"""Opening a campaign: what the arena is at this moment, and whether it still is what the ledger says it was."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ralph.adapters.data import PreparedData
from ralph.adapters.git import GitRepo, branch_ref
from ralph.adapters.ledger_health import folders
from ralph.adapters.machine import describe, device_name
from ralph.adapters.shared_page import read_steady
from ralph.adapters.snapshot import Restored, replay, restore
from ralph.config import Config
from ralph.core.constants import constants_of
from ralph.core.fold import State
from ralph.core.learnings import parse
from ralph.core.meaning import meaning_of
from ralph.core.views import View, history_row, results_line
from ralph.errors import ArenaChangedError, ConfigError, LedgerError
from ralph.events import CampaignOpened, Settled
from ralph.layout import Layout
from ralph.model import ArenaRecord, ScoreMode, Verdict

CARRIED = (
    "ledger.jsonl",
    "snapshot",
    "results.tsv",
    "history.jsonl",
    "recall.db",
    "progress.png",
    "progress.json",
    "experiments",
    "sealed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """The arena as it is now: its record, and the bytes that are sealed for its campaign."""

    record: ArenaRecord
    base: str
    sealed: Mapping[str, bytes]


def measure_arena(*, config: Config, repo: GitRepo, device: str, data: PreparedData | None, base: str) -> Arena:
    """Hash everything that must be equal for two scores to be comparable.

    Raises:
        ConfigError: when no file is editable at `base`, or the scorer is missing.
    """
    editable = repo.files(base)
    if not editable:
        globs = ", ".join(config.arena.editable)
        raise ConfigError(
            f"no file at commit {base[:10]} matches arena.editable = [{globs}]; commit what is to be edited"
        )
    blobs = repo.sealed(base, config.arena.program)
    sealed = {f"arena/{repo.outside(path)}": data_ for path, data_ in repo.blobs(blobs).items()}
    if config.score.mode is ScoreMode.SEALED:
        sealed["language_model.py"] = scorer_source()
    run, score = config.run, config.score
    parts = {
        "metric": config.arena.metric,
        "direction": str(config.arena.direction),
        "command": run.command,
        "budget_s": f"{run.budget_s:g}",
        "gate": str(run.gate),
        "score.mode": str(score.mode),
        "score.command": score.command,
        "data": data.sha256 if data else "",
        "device": device_name(device) if device != "none" else "none",
        **({"score.audit_command": score.audit_command} if score.audit_command else {}),
        **{name: hashlib.sha256(bytes_).hexdigest()[:16] for name, bytes_ in sealed.items()},
    }
    record = ArenaRecord(
        name=config.arena.name,
        metric=config.arena.metric,
        direction=config.arena.direction,
        mode=score.mode,
        hash=hashlib.sha256(json.dumps(sorted(parts.items())).encode()).hexdigest(),
        device=device,
        budget_s=run.budget_s,
        parts=parts,
        audit=bool(score.audit_command) or (score.mode is ScoreMode.SEALED and data is not None and data.audit),
    )
    return Arena(record=record, base=base, sealed=sealed)


def scorer_source() -> bytes:
    """The sealed scorer's own source, as installed."""
    from ralph.adapters import scorer

    return (Path(scorer.__file__).parent / "language_model.py").read_bytes()


def check_same(state: State, arena: Arena) -> None:
    """Hold the arena of now against the campaign's.

    Raises:
        ArenaChangedError: naming what changed.
    """
    if state.arena is None or state.arena.hash == arena.record.hash:
        return
    then, now = state.arena.parts, arena.record.parts
    differ = [key for key in sorted({*then, *now}) if then.get(key) != now.get(key)]
    changed = [f"{key}: {then.get(key, 'absent')} → {now.get(key, 'absent')}" for key in differ]
    raise ArenaChangedError(
        f"the arena is not the one that campaign {state.campaign} began with, so scores could not be compared:\n  "
        + "\n  ".join(changed)
        + "\nUndo the change, or begin a new campaign with `ralph loop --new` (the old one is kept under state/archive)"
    )


def check_clean(repo: GitRepo, arena: Arena) -> None:
    """A campaign begins at a commit, so uncommitted changes would silently not take part.

    Raises:
        ConfigError: naming the files.
    """
    names = [*repo.files(arena.base), *(n.removeprefix("arena/") for n in arena.sealed if n.startswith("arena/"))]
    if dirty := repo.dirty(names):
        raise ConfigError(
            f"not committed: {', '.join(dirty[:5])}. A campaign begins at a commit; commit or undo, then start again"
        )


def check_fixed_files(layout: Layout, arena: Arena) -> None:
    """The checkout's fixed files are those of the campaign: what prepares the data by hand is what is sealed.

    Raises:
        ArenaChangedError: naming the file.
    """
    for name, data in arena.sealed.items():
        path = layout.arena / name.removeprefix("arena/")
        if name.startswith("arena/") and path.is_file() and path.read_bytes() != data:
            raise ArenaChangedError(
                f"{path} differs from the campaign's, which began at {arena.base[:10]}. Undo the change, or commit it "
                "and begin a new campaign with `ralph loop --new`"
            )


def opening(
    *, state: State, arena: Arena, repo: GitRepo, device: str, now: datetime, name: str | None, page: Path
) -> CampaignOpened:
    """The first event of a campaign; for one that exists, the same names again. `page` is learnings.md."""
    return CampaignOpened(
        campaign=state.campaign or name or free_name(repo, now, campaigns_on(page)),
        arena=arena.record,
        base=arena.base,
        constants=constants_of(repo.files(arena.base)),
        meaning=meaning_of(repo.contents(arena.base)),
        machine=describe(device),
    )


def entered(layout: Layout, *, new: bool) -> Restored:
    """The campaign to go on with; an empty one when a new one begins, and the old one is archived then.

    Raises:
        LedgerError: when the ledger is damaged, or its end was cut off.
    """
    found = restore(layout.ledger, layout.snapshot, check=True)
    if found.state.campaign and (new or has_no_baseline(found.state)):
        archive(layout, found.state.campaign)
        found = restore(layout.ledger, layout.snapshot, check=True)
    elif new and folders(layout.experiments):
        archive(layout, "unknown")
    check_whole(layout, found.state)
    return found


def check_whole(layout: Layout, state: State) -> None:
    """Every experiment that has a folder is in the ledger; else new ones would find what others left.

    Raises:
        LedgerError: naming the experiments.
    """
    strays = folders(layout.experiments, besides=range(len(state.experiments)))
    if strays:
        where = f"ends before experiment {strays[0]}" if state.campaign else "is empty or gone"
        raise LedgerError(
            f"{layout.ledger} {where}, but {layout.experiments} has {len(strays)} folders that it does not know: its "
            "end was cut off. Restore it from a backup, go on without them after `ralph ledger repair`, or begin a new "
            "campaign with `ralph loop --new` (they are kept under state/archive)"
        )


def tables(layout: Layout) -> Iterator[tuple[View, str]]:
    """The rows of history.jsonl and results.tsv, each as it was when its experiment was settled."""
    for state, event in replay(layout.ledger):
        if isinstance(event, Settled):
            yield history_row(state, event.id), results_line(state, event.id)


def free_name(repo: GitRepo, now: datetime, taken: AbstractSet[str] = frozenset()) -> str:
    """Today's date, as in nov23, with a number behind it when there was one before, here or in a project beside."""
    day = f"{now.astimezone():%b%d}".lower()
    names = [day, *(f"{day}-{n}" for n in range(2, 10_000))]
    return next(n for n in names if n not in taken and not repo.exists(branch_ref(n)))


def campaigns_on(page: Path) -> set[str]:
    """The campaigns whose learnings are on a page: of projects that share one, no two should go by one name."""
    return {each.campaign for each in parse(read_steady(page, patience_s=0.0) or "").learnings}


def has_no_baseline(state: State) -> bool:
    """A campaign whose baseline failed has nothing to lose; the next start begins anew."""
    return state.baseline is not None and state.baseline.verdict in (Verdict.CRASH, Verdict.INVALID, Verdict.VOID)


def archive(layout: Layout, campaign: str) -> Path:
    """Move an ended campaign's files out of the way; its refs and notes stay in git."""
    place = layout.archive / campaign
    number = 1
    while place.exists():
        number += 1
        place = layout.archive / f"{campaign}-{number}"
    place.mkdir(parents=True)
    for name in CARRIED:
        if (layout.state / name).exists():
            shutil.move(layout.state / name, place / name)
    return place
