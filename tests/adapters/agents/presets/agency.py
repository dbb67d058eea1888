"""Agents started as the loop starts them, one at a time: launcher, gateway, kill domain and a real worktree."""

import json
import os
import select
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ralph.adapters.agents.launcher import AgentLauncher
from ralph.adapters.agents.presets.outfit import login_files
from ralph.adapters.domains import Domains
from ralph.adapters.git import GitRepo
from ralph.adapters.sandbox import SandboxLevel
from ralph.config import parse
from ralph.events import AgentEnded
from ralph.layout import Layout
from ralph.model import Proposal
from ralph.ports import AgentOrder
from tests.arenas import toy_arena
from tests.conftest import git

PATIENCE_S = 100.0
BRIEF = "Change train.py, write .ralph/proposal.json and end. This is brief number {id}.\n"


class Agency:
    """One repository and the launcher of one agent called `cli`."""

    def __init__(
        self, root: Path, entry: Mapping[str, Any], timeout_s: float = 60.0, level: SandboxLevel = SandboxLevel.NONE
    ) -> None:
        toy_arena(root, [])
        for name in ("CLAUDE.md", "AGENTS.md", "GEMINI.md"):
            (root / name).write_text("planted-in-repository\n")
        git(root, "add", ".")
        git(root, "commit", "-q", "-m", "Instructions for agents that work on the repository")
        config = parse(
            {"agent": {"use": "cli", "timeout_s": timeout_s}, "agents": {"cli": {"kind": "command", **entry}}}
        )
        self.layout = Layout(root=root, arena=root)
        self.repo = GitRepo(root, self.layout.trees, config.arena.editable)
        self.layout.state.mkdir(exist_ok=True)
        domains = Domains(level, visible=(root,), hidden=(self.layout.state, *login_files(os.environ, Path.home())))
        self.launcher = AgentLauncher(layout=self.layout, repo=self.repo, config=config, seed=1, domains=domains)

    def run(self, number: int = 1) -> AgentEnded:
        """Start the agent of this experiment and wait for its end."""
        order = self.order(number)
        job = self.launcher.start(order)
        end = time.monotonic() + PATIENCE_S
        while (ended := job.poll()) is None:
            assert time.monotonic() < end, "the agent does not end"
            select.select([job.fileno() or 0], [], [], 0.5)
        return ended

    def order(self, number: int) -> AgentOrder:
        """With a fresh worktree and a brief of its own."""
        self.repo.checkout(f"agent-{number}", self.repo.head())
        brief = self.layout.brief(number, 1)
        brief.parent.mkdir(parents=True, exist_ok=True)
        brief.write_text(BRIEF.format(id=number))
        return AgentOrder(id=number, attempt=1, agent="cli", tree=f"agent-{number}", brief=brief, facts={"id": number})

    def proposal(self, number: int = 1) -> Proposal:
        """What it handed back."""
        return self.launcher.proposal(AgentOrder(id=number, attempt=1, agent="cli", tree=f"agent-{number}"))

    def train(self, number: int = 1) -> str:
        """The file it was to edit."""
        return (self.layout.tree(f"agent-{number}") / "train.py").read_text()

    def log(self, number: int = 1) -> str:
        """Its output."""
        return (self.layout.agent(number, 1) / "log.txt").read_text(errors="replace")

    def exit(self, number: int = 1) -> dict[str, Any]:
        """How its kill domain ended."""
        found: dict[str, Any] = json.loads((self.layout.agent(number, 1) / "exit.json").read_text())
        return found
