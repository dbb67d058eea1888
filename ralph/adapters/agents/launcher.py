"""The port `Agents`: starts agent programs under the contract of docs/agents.md, each in its own kill domain."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from ralph.adapters.agents.proposal import PROPOSAL, read_proposal
from ralph.adapters.domains import REAP_S, Domains, Start, finished, read_log, shell
from ralph.adapters.files import write_atomic
from ralph.adapters.gateway.calls import Spent, read_calls, total
from ralph.adapters.gateway.door import Door, Terms, open_door
from ralph.adapters.gateway.upstream import upstream_of
from ralph.adapters.git import GitRepo
from ralph.adapters.process import Child, Exit, ExitReason, reap_leftovers
from ralph.config import AgentEntry, Config
from ralph.core.crash import last_error
from ralph.errors import ConfigError, RefusedError
from ralph.events import AgentEnded
from ralph.layout import Layout
from ralph.model import AgentOutcome, Proposal
from ralph.ports import AgentOrder, Job

GRACE_S = 2.0  # between TERM and KILL when its clock runs out: time to save what it has


class AgentLauncher:
    """Starts the agents that the arena names."""

    def __init__(self, *, layout: Layout, repo: GitRepo, config: Config, seed: int, domains: Domains) -> None:
        self._layout, self._repo, self._config, self._seed = layout, repo, config, seed
        self._domains = domains

    def remains(self, order: AgentOrder) -> AgentEnded | None:
        """How it ended while no supervisor looked; its worktree must still be there, since its edit lies in it."""
        exit_ = finished(self._layout.agent(order.id, order.attempt))
        if exit_ is None or not self._layout.tree(order.tree).is_dir():
            return None
        gateway = self._layout.gateway(order.id, order.attempt)
        if gateway.is_dir():
            reap_leftovers(gateway, REAP_S)  # its last words are on record before they are read
        return self._result(order, exit_)

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        """Start it in its worktree."""
        if order.brief is None:
            raise ConfigError(f"agent {order.agent} cannot start without a brief")
        folder = self._domains.fresh(self._layout.agent(order.id, order.attempt))
        tree = self._layout.tree(order.tree)
        cwd = self._repo.arena_in(tree)
        (cwd / PROPOSAL).parent.mkdir(exist_ok=True)
        facts, brief, given = folder / "facts.json", folder / "brief.md", self._layout.history
        write_atomic(facts, json.dumps(order.facts))
        write_atomic(brief, order.brief.read_bytes())
        given.touch()
        entry = self._config.agent_entry(order.agent)
        env = {
            "RALPH_BRIEF": str(brief),
            "RALPH_PROPOSAL": str(cwd / PROPOSAL),
            "RALPH_FACTS": str(facts),
            "RALPH_HISTORY": str(given),
            "RALPH_SEED": str(self._seed * 1_000_003 + order.id * 101 + order.attempt),
            "RALPH_TIMEOUT_S": f"{self._config.agent.timeout_s:g}",
        }
        start = Start(
            folder=folder,
            argv=self._argv(entry),
            cwd=cwd,
            env={**env, **_passed_through(entry)},
            writable=(tree,),
            visible=(folder, given, *self._script(entry)),
            network=entry.kind == "command",
            stdin=brief,
            deadline_s=self._config.agent.timeout_s,
            grace_s=GRACE_S,
        )
        if not (entry.paid and entry.login == "key"):
            return _AgentJob(self._domains.start(start), self, order)
        return self._start_behind(self._door(order, entry), start, entry, order)

    def _door(self, order: AgentOrder, entry: AgentEntry) -> Door:
        terms = Terms(
            upstream=upstream_of(order.agent, entry, os.environ),
            usd_left=order.usd_left,
            tokens_left=order.tokens_left,
            price=entry.price,
            agent_s=self._config.agent.timeout_s,
        )
        folder = self._domains.fresh(self._layout.gateway(order.id, order.attempt))
        return open_door(folder, self._layout.calls(order.id, order.attempt), terms, self._domains.level, os.environ)

    def _start_behind(self, door: Door, start: Start, entry: AgentEntry, order: AgentOrder) -> Job[AgentEnded]:
        """Start an agent that reaches its provider through this door, and nothing else of the network."""
        ours = {} if entry.preset else {"RALPH_AGENT_KIND": entry.kind, "RALPH_API": entry.api}
        env = {**start.env, **ours, "RALPH_MODEL": entry.model, **door.env}
        behind = replace(start, argv=(*door.prefix, *start.argv), env=env, network=False, pass_fds=door.pass_fds)
        try:
            child = self._domains.start(behind)
        except BaseException:
            door.abort()
            raise
        door.started()
        return _AgentJob(child, self, order, door)

    def proposal(self, order: AgentOrder) -> Proposal:
        """What it handed back."""
        tree = self._layout.tree(order.tree)
        if not tree.is_dir():
            raise RefusedError("the worktree is gone: the agent removed its own folder")
        return read_proposal(self._repo.arena_in(tree))

    def _script(self, entry: AgentEntry) -> tuple[Path, ...]:
        return ((self._layout.arena / entry.script).resolve(),) if entry.kind == "scripted" else ()

    def _argv(self, entry: AgentEntry) -> tuple[str, ...]:
        match entry.kind:
            case "tuner":
                return (sys.executable, "-P", "-m", "ralph.adapters.agents.tuner")
            case "scripted":
                return (sys.executable, "-P", "-m", "ralph.adapters.agents.scripted", *map(str, self._script(entry)))
            case "command":
                return shell(entry.command)
            case "anthropic" | "openai":
                return (sys.executable, "-P", "-m", "ralph.adapters.agents.llm")
            case _:
                assert_never(entry.kind)

    def _result(self, order: AgentOrder, exit_: Exit) -> AgentEnded:
        spent = total(read_calls(self._layout.calls(order.id, order.attempt)))
        outcome, reason = self._outcome(order, exit_, spent)
        return AgentEnded(
            id=order.id,
            attempt=order.attempt,
            outcome=outcome,
            reason=reason,
            seconds=round(exit_.seconds, 3),
            usd=round(spent.usd, 6),
            tokens=spent.tokens,
            calls=spent.calls,
            resume_at=spent.resume_at if outcome is AgentOutcome.LIMITED else None,
        )

    def _outcome(self, order: AgentOrder, exit_: Exit, spent: Spent) -> tuple[AgentOutcome, str]:
        """An agent is judged by what it left; calls, clock and exit status only explain why it left nothing."""
        try:
            self.proposal(order)
        except RefusedError as error:
            if spent.refused:
                return AgentOutcome.BUDGET, f"{error}; its next call could have passed the budget"
            if spent.limited:
                return AgentOutcome.LIMITED, f"{error}; its provider answered {spent.limit}"
            log = read_log(self._layout.agent(order.id, order.attempt))
            if exit_.reason is ExitReason.DEADLINE:
                return AgentOutcome.DEADLINE, f"{error}; its {self._config.agent.timeout_s:g} s were over"
            if exit_.reason is not ExitReason.ENDED:
                return AgentOutcome.FAILED, f"{error}; it was ended: {exit_.detail}"
            if exit_.status != 0:
                how = f"exit status {exit_.status}" if exit_.signal is None else f"signal {exit_.signal}"
                return AgentOutcome.FAILED, f"{error}; {exit_.detail or f'{how}: {last_error(log)}'}"
            return AgentOutcome.NOTHING, str(error)
        return AgentOutcome.PROPOSED, ""


class _AgentJob:
    """An agent at work, and the gateway that leaves after it."""

    def __init__(self, child: Child, launcher: AgentLauncher, order: AgentOrder, door: Door | None = None) -> None:
        self._child, self._launcher, self._order = child, launcher, order
        self._door = door
        self._exit: Exit | None = None

    def fileno(self) -> int:
        """Readable when its whole tree is gone; then, when its gateway is."""
        return self._child.fileno() if self._exit is None or self._door is None else self._door.fileno()

    def poll(self) -> AgentEnded | None:
        """How it ended."""
        if self._exit is None:
            self._exit = self._child.poll()
            if self._exit is None:
                return None
            self._child.close()
            if self._door is not None:
                self._door.leave()
        if self._door is not None and self._door.poll() is None:
            return None
        return self._launcher._result(self._order, self._exit)

    def news(self) -> None:
        """There is none."""

    def stop(self, reason: str) -> None:
        """Ask for its end."""
        self._child.kill(reason)


def _passed_through(entry: AgentEntry) -> Mapping[str, str]:
    missing = [name for name in entry.env if name not in os.environ]
    if missing:
        raise ConfigError(f"the agent needs {', '.join(missing)} in the environment; set it and start the loop again")
    return {name: os.environ[name] for name in entry.env}
