"""`ralph ledger verify` and `ralph ledger repair`: what is wrong with a ledger, and how to go on without losing sight.

A repair keeps what stands before the damage and drops nothing silently: the damaged file stays beside the ledger, the
folders and refs of experiments that are not carried over go to places of their own, and the repaired ledger says so.
The new ledger is put in place last, so that a repair that was killed is simply begun again.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ralph.adapters.files import sync_folder, write_atomic
from ralph.adapters.git import GitRepo, branch_ref, experiment_ref
from ralph.adapters.ledger import FileLedger
from ralph.adapters.ledger_health import Health, believed, examine, folders
from ralph.adapters.lock import FolderLock
from ralph.config import load
from ralph.core.fold import State, fold
from ralph.core.wording import counted
from ralph.errors import ExitStatus
from ralph.events import AgentEnded, Event, SupervisorStopped
from ralph.layout import Layout
from ralph.model import AgentOutcome, Experiment, Phase, Verdict

REBUILT = ("results.tsv", "history.jsonl", "recall.db", "snapshot")  # from the ledger, at the next start
SHOWN = 12  # experiments named in one sentence


def verify(layout: Layout) -> Health:
    """Examine the ledger; nothing is changed."""
    return examine(layout.ledger, layout.experiments)


def findings(layout: Layout, health: Health) -> list[str]:
    """What an examination found, in sentences."""
    said = [f"{layout.ledger}: {_standing(layout, health)}"]
    if (damage := health.damage) is not None:
        said.append(f"line {damage.line}, which begins at byte {damage.offset}, {damage.problem}. It reads:")
        said.append(f"    {damage.reads}")
        said.append(f"{counted(health.lost, 'line')} from there on cannot be believed{_of(health.lost_ids)}")
    if health.torn:
        said.append(
            f"the last {health.torn} bytes are a line that was being written when its writer died; nobody relied on "
            "it, and the next loop cuts it"
        )
    if health.strays:
        said.append(f"{layout.experiments} has folders that no entry speaks of{_of(health.strays)}")
    said.append(
        "a loop can go on with it"
        if health.sound
        else "no loop starts with it. Restore it from a backup, or go on from what stands with `ralph ledger repair`"
    )
    return said


def _standing(layout: Layout, health: Health) -> str:
    if not layout.ledger.exists():
        return "there is none"
    stands = counted(health.entries, "entry", "entries")
    return f"{stands} with unbroken checksums, {health.good_bytes} of {health.size} bytes"


def as_json(health: Health) -> dict[str, Any]:
    """An examination for programs."""
    return {
        "sound": health.sound,
        "entries": health.entries,
        "bytes": health.size,
        "good_bytes": health.good_bytes,
        "torn_bytes": health.torn,
        "damage": asdict(health.damage) if health.damage else None,
        "lost_lines": health.lost,
        "lost_experiments": list(health.lost_ids),
        "stray_experiments": list(health.strays),
    }


def repair(layout: Layout) -> list[str]:
    """Go on from what stands before the damage; what was done, in sentences.

    Raises:
        LockedError: while a supervisor is at work.
    """
    lock = FolderLock(layout.lock)
    try:
        health = verify(layout)
        if health.sound:
            return [*findings(layout, health), "nothing is to be repaired"]
        return [*findings(layout, health)[:-1], *_repair(layout, health)]
    finally:
        lock.release()


def _repair(layout: Layout, health: Health) -> list[str]:
    number = next(n for n in range(1, 10_000) if not _damaged(layout, n).exists())
    copy, aside = _damaged(layout, number), layout.archive / f"damaged-{number}"
    data = layout.ledger.read_bytes() if layout.ledger.exists() else b""
    state = fold(believed(layout.ledger, health))
    said = []
    if moved := _set_folders_aside(layout, state, aside):
        said.append(f"set aside in {aside}: {', '.join(moved)}")
    if state.campaign:
        said += _set_refs_aside(layout, state, number)
    write_atomic(copy, data)
    said.append(f"the damaged ledger is kept as {copy}")
    lost = f"{counted(health.lost, 'line')} not carried over{_of(sorted({*health.lost_ids, *health.strays}))}"
    fresh = layout.ledger.with_name(f"{layout.ledger.name}.repaired")
    write_atomic(fresh, data[: health.good_bytes])
    if state.campaign:
        _write_down(fresh, state, f"the ledger was repaired: {lost}, see {copy.name}")
    fresh.replace(layout.ledger)
    sync_folder(layout.state)
    kept = counted(health.entries, "entry", "entries")
    return [*said, f"{kept} kept, {lost}. Go on with `ralph loop`"]


def _damaged(layout: Layout, number: int) -> Path:
    return layout.ledger.with_name(f"{layout.ledger.name}.damaged-{number}")


# --- folders and refs


def _set_folders_aside(layout: Layout, state: State, aside: Path) -> list[str]:
    """Move what the ledger does not speak of any more, since a loop would take it for the remains of its own work."""
    moved = []
    for path in (*_unknown(layout, state), *(layout.state / name for name in REBUILT)):
        if path.exists():
            target = aside / path.relative_to(layout.state)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
            moved.append(str(path.relative_to(layout.state)))
    return moved


def _unknown(layout: Layout, state: State) -> list[Path]:
    """Folders of experiments, attempts and runs without an entry of their intent."""
    unknown = []
    for id_ in folders(layout.experiments):
        e = state.experiments.get(id_)
        if e is None:
            unknown.append(layout.experiment(id_))
        else:
            unknown += [path for path in sorted(layout.experiment(id_).iterdir()) if not _intended(path.name, e)]
    return unknown


def _intended(name: str, e: Experiment) -> bool:
    kind, _, rest = name.partition("-")
    number = rest.partition(".")[0]
    if not number.isdigit():
        return True
    return int(number) <= (len(e.runs) if kind in ("run", "score") else e.attempt)


def _set_refs_aside(layout: Layout, state: State, number: int) -> list[str]:
    """The branch goes back to the incumbent of the kept entries, and lost candidates get refs of another name."""
    repo = GitRepo(layout.arena, layout.trees, load(layout.arena_toml).arena.editable)
    place = f"refs/ralph/{state.campaign}/damaged-{number}"
    lost = sorted(id_ for id_ in repo.pinned(state.campaign) if id_ and not _is_committed(state, id_))
    for id_ in lost:
        repo.set_aside(experiment_ref(state.campaign, id_), f"{place}/{id_}")
    repo.set_aside(branch_ref(state.campaign), f"{place}/branch", instead=_tip(state))
    return [f"refs of lost candidates are now under {place}{_of(lost)}"] if lost else []


def _is_committed(state: State, id_: int) -> bool:
    e = state.experiments.get(id_)
    return e is not None and bool(e.commit)


def _tip(state: State) -> str:
    """Where the branch belongs: a keep that is not settled yet has still to move it."""
    for e in state.open():
        if e.id and e.verdict is Verdict.KEEP:
            return e.base
    return state.incumbent.commit if state.incumbent is not None else state.base


def _write_down(fresh: Path, state: State, reason: str) -> None:
    """Say in the ledger itself what was done; an agent whose proposal may be lost is asked again, without blame."""
    ledger = FileLedger(fresh, lambda: datetime.now(UTC))
    try:
        events: list[Event] = [
            AgentEnded(id=e.id, attempt=e.attempt, outcome=AgentOutcome.LIMITED, reason=reason, seconds=0.0)
            for e in state.open()
            if e.id and e.phase in (Phase.AGENT, Phase.COMMIT)
        ]
        for event in (*events, SupervisorStopped(status=ExitStatus.PARKED, reason=reason)):
            ledger.append(event)
    finally:
        ledger.close()


def _of(ids: Sequence[int]) -> str:
    if not ids:
        return ""
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return f" (experiment{'s' if len(ids) > 1 else ''} {', '.join(f'#{id_}' for id_ in ids[:SHOWN])}{more})"
