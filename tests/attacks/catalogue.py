"""The attack suite's words: what one attack is, and where it is stopped."""

from dataclasses import dataclass, field
from enum import StrEnum

from ralph.adapters.sandbox import SandboxLevel
from ralph.model import CrashKind, Verdict

EVERYWHERE = frozenset(SandboxLevel)
WALLS = frozenset({SandboxLevel.BWRAP, SandboxLevel.LANDLOCK})
BUBBLEWRAP = frozenset({SandboxLevel.BWRAP})
NOWHERE: frozenset[SandboxLevel] = frozenset()


class Side(StrEnum):
    """Who attacks."""

    AGENT = "agent"
    RUN = "run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One scripted candidate or agent.

    The code is Python. It may call `breach(words)` where it has got what it should not get; it has `ROOT`, the folder
    that ralph works in, `STATE` below it, `TOKEN`, a word of this campaign, `PORT` of a server on the loopback, `PID`
    of the supervisor, and the modules json, os, pathlib, socket, subprocess, sys and time.

    Attributes:
        name: a few words with blanks.
        tries: what it is after, for the table.
        code: carried out first.
        later: carried out last: by a run after its artifact is written, by an agent after its proposal.
        covered: levels at which it is stopped; it is not tried at the others.
        verdict: what it must come to; None is anything but a keep.
        crash: the kind of crash, if that is its verdict.
    """

    name: str
    side: Side
    tries: str
    code: str = ""
    later: str = ""
    covered: frozenset[SandboxLevel] = EVERYWHERE
    verdict: Verdict | None = None
    crash: CrashKind | None = None
    quick: bool = field(default=False)
