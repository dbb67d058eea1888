"""The brief: all that an agent knows, as one Markdown text that stays within its limit at any age of the campaign.

It says first what changed since the last brief, new guidance above all, then what to do and how, then the rest. Words
of agents and programs stand in fenced blocks marked as data. Every section has a budget and says what it left out;
program.md and the editable files come before the others, and are cut only when they alone are too long.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ralph.core import brief_sections as sections
from ralph.core.brief_input import BriefInput, Options
from ralph.core.fold import State
from ralph.core.text import head, tokens
from ralph.model import Direction, Experiment
from ralph.ports import Guidance

__all__ = ["BriefInput", "Options", "facts", "new_guidance", "render_brief"]

RESERVED = 0.6  # of the brief for program.md and the files, if they need it
REPAIR = 0.4  # of what is left then for the draft that is to be repaired, if there is one
FLOOR = 400  # tokens for what is new, however small the brief, unless that is more than half of the room
JOINTS = 40  # tokens for the blank lines between sections
SHARES: Mapping[str, float] = {
    "changes": 0.28,
    "refusals": 0.10,
    "guidance": 0.14,
    "digest": 0.28,
    "learnings": 0.12,
    "log": 0.08,
}


@dataclass(slots=True, kw_only=True)
class _Room:
    """Tokens still to be given out."""

    left: int

    def take(self, text: str) -> str:
        self.left -= tokens(text)
        return text


def render_brief(b: BriefInput) -> str:
    """The brief, at most `b.options.limit_tokens` long by the estimate of `ralph.core.text.tokens`."""
    limit = b.options.limit_tokens
    room = _Room(left=limit - JOINTS)
    title, contract = room.take(sections.title(b)), room.take(sections.contract(b))
    whole_program, whole_files = sections.program_need(b), sections.files_need(b)
    others = room.left - min(whole_program + whole_files, int(RESERVED * room.left))
    repair = room.take(sections.repair(b, int(REPAIR * others)))
    others -= tokens(repair)
    caps = {name: int(share * others) for name, share in SHARES.items()}
    changes = room.take(sections.changes(b, max(caps["changes"], min(room.left // 2, FLOOR))))
    refusals = room.take(sections.refusals(b, caps["refusals"]))
    guidance = room.take(sections.guidance(b, caps["guidance"]))
    digest = room.take(sections.digest(b, caps["digest"]))
    learnings = room.take(sections.learnings(b, caps["learnings"]))
    log = room.take(sections.log(b, caps["log"]))
    program = room.take(sections.program(b, max(room.left - whole_files, int(0.4 * room.left))))
    files = room.take(sections.files(b, room.left))
    parts = (title, changes, contract, refusals, repair, program, guidance, digest, learnings, log, files)
    return head("\n\n".join(part for part in parts if part), limit) + "\n"


def new_guidance(state: State, guidance: Guidance) -> tuple[str, ...]:
    """The human's lines that no brief had before. A line that was taken away and came back is not new.

    Headings and lines without a letter or digit are shown in briefs, but are no news.
    """
    worth = (line for line in guidance.lines if not line.startswith("#") and any(c.isalnum() for c in line))
    return tuple(dict.fromkeys(line for line in worth if line not in state.guidance))


def facts(state: State, e: Experiment, editable: tuple[str, ...], options: Options) -> dict[str, object]:
    """What RALPH_FACTS holds: the brief's figures for programs that compute (docs/agents.md)."""
    arena, incumbent = state.arena, state.incumbent
    return {
        "id": e.id,
        "attempt": e.attempt,
        "campaign": state.campaign,
        "metric": arena.metric if arena else "",
        "direction": str(arena.direction if arena else Direction.MIN),
        "device": options.device,
        "budget_s": options.budget_s,
        "editable": list(editable),
        "sigma": state.noise.sigma,
        "incumbent": (
            {"id": incumbent.id, "score": incumbent.score, "runs": len(incumbent.scores)} if incumbent else None
        ),
        "refusals": list(e.refusals),
        "in_flight": [
            {"id": o.id, "agent": o.agent, "hypothesis": o.hypothesis, "constants": dict(o.constants)}
            for o in state.open()
            if o.id != e.id and o.commit and o.verdict is None
        ],
    }
