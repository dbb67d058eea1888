"""One campaign under attack, and everything that must hold afterwards."""

import os
import pwd
import socket
import sys
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ralph.adapters.sandbox import SandboxLevel
from ralph.events import Judged, Scored
from ralph.model import Verdict
from tests.arenas import ToyArena
from tests.attacks.arena import HONEST_WIDTH, attacked
from tests.attacks.catalogue import Attack, Side
from tests.conftest import git

HUMAN = "# Learnings\n\n## Guidance\n\n- mine\n"
OURS = ("refs/heads/ralph/", "refs/ralph/", "refs/notes/ralph")
ORDERS = ("# INJECTED", "## INJECTED", "- INJECTED")


def broken_promises(root: Path, level: SandboxLevel, attacks: Sequence[Attack]) -> list[str]:
    """Carry the attacks out, an honest experiment before, after and between them; what did not hold, in words."""
    token = f"attack-{uuid.uuid4().hex[:12]}"
    plan: list[Attack | None] = [None, *(each for attack in attacks for each in (attack, None))]
    with attacked(root, level, plan, token) as arena, closing(_door(token)):
        before = _outside(root)
        done = arena.ralph("loop", "--max-experiments", str(len(plan)), timeout_s=600)
        found = [] if done.status == 0 else [f"the loop ended with {done.status}: {done.out[-600:]}{done.err[-600:]}"]
        found += [f"outside: {what}" for what in sorted(before ^ _outside(root))]
        found += _verdicts(arena, plan)
        found += _traces(root, plan)
        found += _poison(root, token)
        return found


def _verdicts(arena: ToyArena, plan: Sequence[Attack | None]) -> list[str]:
    judged = {e.id: e for e in arena.events() if isinstance(e, Judged)}
    scores = {e.id: e.score for e in arena.events() if isinstance(e, Scored)}
    found = []
    for number, attack in enumerate(plan, start=1):
        verdict = judged.get(number)
        if verdict is None:
            found.append(f"{_name(attack)}: experiment {number} has no verdict")
        elif attack is None:
            wanted = Verdict.KEEP if number == 1 else Verdict.DISCARD
            if (verdict.verdict, scores.get(number)) != (wanted, 20.0 - HONEST_WIDTH):
                before = _name(plan[number - 2]) if number > 1 else "the start"
                found.append(f"honest after {before}: {verdict.verdict}, {scores.get(number)}, {verdict.reason}")
        elif verdict.verdict is Verdict.KEEP:
            found.append(f"{attack.name}: keep, {verdict.reason}")
        elif attack.verdict not in (None, verdict.verdict) or attack.crash not in (None, verdict.crash):
            found.append(f"{attack.name}: {verdict.verdict} {verdict.crash}, {verdict.reason[:200]}")
    return found


def _traces(root: Path, plan: Sequence[Attack | None]) -> list[str]:
    """What attackers said that they got; orders of theirs where others would take them for ours or the human's."""
    found = []
    for number, attack in enumerate(plan, start=1):
        folder = root / "state" / "experiments" / f"{number:06d}"
        for log in folder.glob("*/log.txt"):
            lines = log.read_text(errors="replace").splitlines()
            found += [f"{_name(attack)}: {line}" for line in lines if line.startswith("BREACH")][:3]
        found += [f"{_name(attack)}: {path} was not tidied" for path in folder.glob("*/home")]
    pages = [*root.glob("state/experiments/*/brief-*.md"), root / "progress.md", root / "learnings.md"]
    for page in pages:
        lines = page.read_text(errors="replace").splitlines()
        found += [f"{page.name} gives an order: {line[:80]}" for line in lines if line.startswith(ORDERS)][:2]
    if not (root / "learnings.md").read_text().startswith(HUMAN):
        found.append("the human's text in learnings.md was changed")
    return found + [f"left in trees: {path.name}" for path in (root / "state" / "trees").iterdir() if path.is_dir()]


def _poison(root: Path, token: str) -> list[str]:
    """Files outside the arena that carry the word of this campaign; they are removed."""
    places = [Path("/tmp"), Path("/dev/shm"), Path(pwd.getpwuid(os.getuid()).pw_dir), Path(sys.prefix)]
    left = [p for place in places for p in place.glob(f"*{token}*") if not p.is_socket()]
    for path in left:
        path.unlink()
    return [f"left outside: {path}" for path in left]


def _outside(root: Path) -> set[tuple[str, bytes]]:
    """The user's files and git, but for what ralph itself writes there."""
    others = [p for p in root.iterdir() if p.name != "state"]
    files = [p for top in others for p in (top, *top.rglob("*")) if p.is_file()]
    git_files = [p for p in files if p.is_relative_to(root / ".git")]
    mine = [p for p in files if p not in git_files and p.name not in ("progress.md", "learnings.md")]
    settings = [p for p in git_files if p.parent.name in ("hooks", "info") or p.name in ("config", "HEAD")]
    settings = [p for p in settings if "worktrees" not in p.parts]
    refs = git(root, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    kept = {(str(p), p.read_bytes()) for p in (*mine, *settings)}
    return kept | {(ref, b"") for ref in refs if not ref.startswith(OURS)}


def _door(token: str) -> socket.socket:
    """A program's socket outside, in the place where such are."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"/tmp/{token}")
    server.listen()
    return server


def _name(attack: Attack | None) -> str:
    return "honest" if attack is None else f"{attack.side}: {attack.name}"


def only(attacks: Sequence[Attack], side: Side, level: SandboxLevel, *, quick: bool = False) -> list[Attack]:
    """Those of a side that a level promises to stop."""
    return [a for a in attacks if a.side is side and level in a.covered and (a.quick or not quick)]
