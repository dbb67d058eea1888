"""The agent in shell that docs/agents.md shows works as it stands there."""

import re
from pathlib import Path

from ralph.events import Committed, Judged
from tests.arenas import TOML, TRAIN, toy_arena
from tests.conftest import git

PAGE = Path(__file__).resolve().parents[3] / "docs" / "agents.md"
CONSTANTS = "DEPTH = 4  # does nothing\nBETA = 0.9\n"  # so that there are more moves than experiments
AGENTS = '[agents.mine]\nkind = "command"\ncommand = "sh agent.sh"\n'


def test_the_agent_in_shell_proposes_one_new_value_after_the_other(tmp_path: Path) -> None:
    [program] = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(program.splitlines()) <= 22
    toml = TOML.replace('use = "script"', 'use = "mine"').partition("[agents.")[0] + AGENTS
    arena = toy_arena(tmp_path / "arena", [], toml=toml, train=TRAIN.replace("WIDTH =", f"{CONSTANTS}WIDTH ="))
    (arena.root / "agent.sh").write_text(program)
    git(arena.root, "add", "agent.sh")
    git(arena.root, "commit", "-q", "-m", "An agent in shell")
    done = arena.loop(4)
    assert done.status == 0, done
    events = arena.events()
    tried = [tuple(event.constants.items()) for event in events if isinstance(event, Committed) and event.id > 0]
    assert len(tried) == len(set(tried)) == 4
    assert all(len(change) == 1 for change in tried)
    verdicts = [str(event.verdict) for event in events if isinstance(event, Judged) and event.id > 0]
    assert len(verdicts) == 4
    assert set(verdicts) <= {"keep", "discard"}
