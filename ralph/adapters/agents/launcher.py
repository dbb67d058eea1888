"""The port `Agents`: starts agent programs under the contract of docs/agents.md, each in its own kill domain."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import assert_never

from ralph.adapters.agents.presets.outfit import PRESETS, check, outfit
from ralph.adapters.agents.presets.report import Report, log_end
from ralph.adapters.agents.proposal import PROPOSAL, read_proposal
from ralph.adapters.agents.ready import Ready, stand_by
from ralph.adapters.agents.standby import IMPORTS
from ralph.adapters.domains import REAP_S, Domains, Start, finished, home_of, log_of, read_log, shell
from ralph.adapters.files import write_atomic
from ralph.adapters.gateway.calls import Spent, read_calls, total
from ralph.adapters.gateway.door import Door, Terms, open_door, start_gateway
from ralph.adapters.gateway.upstream import upstream_of
from ralph.adapters.git import GitRepo
from ralph.adapters.process import Child, Exit, ExitReason, reap_leftovers
from ralph.adapters.redaction import redact_file
from ralph.adapters.sandbox import SandboxLevel
from ralph.config import AgentEntry, Config
from ralph.core.crash import last_error
from ralph.core.secrets import SHAPES_ONLY, Redactor
from ralph.errors import ConfigError, RefusedError
from ralph.events import AgentEnded
from ralph.layout import Layout
from ralph.model import AgentOutcome, Proposal
from ralph.ports import AgentOrder, Job

FACTS = "facts.json"  # in an agent's folder
GRACE_S = 2.0  # between TERM and KILL when its clock runs out: time to save what it has


class AgentLauncher:
    """Starts the agents that the arena names. What they leave is without secrets before anybody looks at it."""

    def __init__(
        self,
        *,
        layout: Layout,
        repo: GitRepo,
        config: Config,
        seed: int,
        domains: Domains,
        redact: Redactor = SHAPES_ONLY,
    ) -> None:
        self._layout, self._repo, self._config, self._seed = layout, repo, config, seed
        self._domains, self._redact = domains, redact
        self._ready: Ready | None = None
        for name in [name for name, share in config.agent.mix.items() if share] or [config.agent.use]:
            if (entry := config.agent_entry(name)).preset:
                check(name, entry, os.environ, Path.home())

    def remains(self, order: AgentOrder) -> AgentEnded | None:
        """How it ended while no supervisor looked; its worktree must still be there, since its edit lies in it."""
        folder = self._layout.agent(order.id, order.attempt)
        exit_ = finished(folder)
        if exit_ is None or not (folder / FACTS).exists() or not self._layout.tree(order.tree).is_dir():
            return None  # without facts it was a standby that nobody released
        gateway = self._layout.gateway(order.id, order.attempt)
        if gateway.is_dir():
            reap_leftovers(gateway, REAP_S)  # its last words are on record before they are read
        return self._result(order, exit_)

    def stand_by(self, order: AgentOrder) -> None:
        """Have one of our own agents import what it needs; a CLI has nothing that it could do before its brief."""
        entry, tree = self._config.agent_entry(order.agent), self._layout.tree(order.tree)
        if entry.kind not in IMPORTS or (entry.paid and self._domains.level is SandboxLevel.LANDLOCK):
            return  # Landlock is told the gateway's port at the start, which is before there is one
        if self._ready is not None and self._ready.serves(order):
            return
        self.dismiss()
        if tree.exists():
            return  # of an earlier supervisor's; the start that is to come sees to it
        with contextlib.suppress(OSError):  # then it is started when it is needed, or says why not
            self._ready = stand_by(self._domains, self._layout, order, entry, self._readable(), GRACE_S)

    def dismiss(self) -> None:
        """End what stands by."""
        if self._ready is not None:
            self._ready.dismiss()
            self._ready = None

    def _readable(self) -> tuple[Path, ...]:
        """The campaign's files that agents may read beside their own."""
        self._layout.history.touch()
        return (self._layout.history, *([self._layout.recall] if self._layout.recall.exists() else []))

    def start(self, order: AgentOrder) -> Job[AgentEnded]:
        """Start it in its worktree, or release the one that stands by for this very order."""
        if order.brief is None:
            raise ConfigError(f"agent {order.agent} cannot start without a brief")
        ready = self._standing_by(order)
        try:
            return self._started(order, order.brief, ready)
        except BaseException:
            if ready is not None:
                ready.abandon()
            raise

    def _started(self, order: AgentOrder, given_brief: Path, ready: Ready | None) -> Job[AgentEnded]:
        folder = self._layout.agent(order.id, order.attempt)
        if ready is None:
            self._domains.fresh(folder)
        tree = self._layout.tree(order.tree)
        cwd = self._repo.arena_in(tree)
        (cwd / PROPOSAL).parent.mkdir(exist_ok=True)
        brief, given = folder / "brief.md", self._readable()
        write_atomic(brief, given_brief.read_bytes(), durable=False)
        write_atomic(folder / FACTS, json.dumps(self._redact.within(order.facts)), durable=False)
        entry = self._config.agent_entry(order.agent)
        start = Start(
            folder=folder,
            argv=self._argv(entry),
            cwd=cwd,
            env={**self._contract(order, cwd), **_passed_through(entry)},
            writable=(tree,),
            visible=(folder, *given, *self._script(entry)),
            network=entry.kind == "command",
            stdin=brief,
            deadline_s=self._config.agent.timeout_s,
            grace_s=GRACE_S,
        )
        door = self._door(order, entry, ready) if entry.behind_gateway else None
        try:
            child = self._begun(start if door is None else _behind(door, start, entry), entry, door, ready)
        except BaseException:
            if door is not None:
                door.abort()
            raise
        if door is not None:
            door.started()
        return _AgentJob(child, self, order, door)

    def _standing_by(self, order: AgentOrder) -> Ready | None:
        """Whoever stands by for this order. One for an order that cannot come any more is ended."""
        ready = self._ready
        if ready is None or ready.order.id > order.id:
            return None
        self._ready = None
        if ready.serves(order):
            return ready
        ready.dismiss()
        return None

    def _contract(self, order: AgentOrder, cwd: Path) -> dict[str, str]:
        """The environment that docs/agents.md promises."""
        folder = self._layout.agent(order.id, order.attempt)
        return {
            "RALPH_BRIEF": str(folder / "brief.md"),
            "RALPH_PROPOSAL": str(cwd / PROPOSAL),
            "RALPH_FACTS": str(folder / FACTS),
            "RALPH_HISTORY": str(self._layout.history),
            "RALPH_RECALL": str(self._layout.recall),
            "RALPH_SEED": str(self._seed * 1_000_003 + order.id * 101 + order.attempt),
            "RALPH_TIMEOUT_S": f"{self._config.agent.timeout_s:g}",
        }

    def _door(self, order: AgentOrder, entry: AgentEntry, ready: Ready | None) -> Door:
        terms = Terms(
            upstream=upstream_of(order.agent, entry, os.environ),
            usd_left=order.usd_left,
            tokens_left=order.tokens_left,
            price=entry.price,
            agent_s=self._config.agent.timeout_s,
        )
        gateway = None if ready is None else ready.gateway
        if gateway is not None and not gateway.lives():
            gateway.dismiss()
            gateway = None
        if gateway is None:
            gateway = start_gateway(self._domains.fresh(self._layout.gateway(order.id, order.attempt)), os.environ)
        return open_door(gateway, self._layout.calls(order.id, order.attempt), terms, self._domains.level, os.environ)

    def _begun(self, start: Start, entry: AgentEntry, door: Door | None, ready: Ready | None) -> Child:
        """The agent at work."""
        if ready is not None:
            ready.release(start, self._config.agent.timeout_s)
            return ready.child
        dressed = self._dressed(start, entry)
        return self._domains.start(replace(dressed, argv=(*(door.prefix if door else ()), *dressed.argv)))

    def _dressed(self, start: Start, entry: AgentEntry) -> Start:
        """The start of a CLI that ralph knows; any other as it is."""
        if not entry.preset:
            return start
        found = {path for glob in self._config.arena.editable for path in start.cwd.glob(glob) if path.is_file()}
        files = sorted(str(path.relative_to(start.cwd)) for path in found)
        worn = outfit(entry, start.env, home_of(start.folder).resolve(), files)
        return replace(start, argv=worn.argv, env={**start.env, **worn.env}, home=worn.home)

    def proposal(self, order: AgentOrder) -> Proposal:
        """What it handed back."""
        tree = self._layout.tree(order.tree)
        if not tree.is_dir():
            raise RefusedError("the worktree is gone: the agent removed its own folder")
        return self._redact.within(read_proposal(self._repo.arena_in(tree)))

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
        self._redact_logs(order)
        spent = total(read_calls(self._layout.calls(order.id, order.attempt)))
        report = self._report(order)
        outcome, reason = self._outcome(order, exit_, spent, report)
        resume_at = spent.resume_at or (report.limit.resume_at if report.limit else None)
        return AgentEnded(
            id=order.id,
            attempt=order.attempt,
            outcome=outcome,
            reason=reason,
            seconds=round(exit_.seconds, 3),
            usd=round(spent.usd, 6),
            tokens=spent.tokens or report.tokens,
            calls=spent.calls or report.calls,
            resume_at=resume_at if outcome is AgentOutcome.LIMITED else None,
        )

    def _report(self, order: AgentOrder) -> Report:
        """What a CLI says of itself. Behind a gateway only its words count: figures and limits are the gateway's."""
        entry = self._config.agent_entry(order.agent)
        if not entry.preset:
            return Report()
        report = PRESETS[entry.preset].read(log_end(log_of(self._layout.agent(order.id, order.attempt))))
        return replace(report, tokens=0, calls=0, limit=None) if entry.login == "key" else report

    def _redact_logs(self, order: AgentOrder) -> None:
        """What agent and gateway wrote, now that both are gone."""
        agent, gateway = (each(order.id, order.attempt) for each in (self._layout.agent, self._layout.gateway))
        for path in (log_of(agent), log_of(gateway), self._layout.calls(order.id, order.attempt)):
            redact_file(path, self._redact)

    def _gateway_failure(self, order: AgentOrder) -> str:
        """Why its gateway ended before it did; empty if it did not, or there was none."""
        folder = self._layout.gateway(order.id, order.attempt)
        exit_ = finished(folder)
        return "" if exit_ is None or exit_.status == 0 else last_error(read_log(folder))

    def _outcome(self, order: AgentOrder, exit_: Exit, spent: Spent, report: Report) -> tuple[AgentOutcome, str]:
        """An agent is judged by what it left; all else only explains why it left nothing."""
        try:
            self.proposal(order)
        except RefusedError as error:
            outcome, why = self._why_nothing(order, exit_, spent, report)
            return outcome, f"{error}; {why}" if why else str(error)
        return AgentOutcome.PROPOSED, ""

    def _why_nothing(self, order: AgentOrder, exit_: Exit, spent: Spent, report: Report) -> tuple[AgentOutcome, str]:
        """In the order of what it proves: calls on record, our clock, the CLI's own word, exit status, last words."""
        if spent.refused:
            return AgentOutcome.BUDGET, spent.refused
        if spent.limited:
            return AgentOutcome.LIMITED, f"its provider answered {spent.limit}"
        if broken := self._gateway_failure(order):
            return AgentOutcome.FAILED, f"its gateway ended: {broken}"
        if exit_.reason is ExitReason.DEADLINE:
            return AgentOutcome.DEADLINE, f"its {self._config.agent.timeout_s:g} s were over"
        if exit_.reason is not ExitReason.ENDED:
            return AgentOutcome.FAILED, f"it was ended: {exit_.detail}"
        if report.limit is not None:
            return AgentOutcome.LIMITED, report.limit.words
        if report.error:
            return AgentOutcome.FAILED, f"it says: {_short(report.error)}"
        if exit_.status != 0:
            how = f"exit status {exit_.status}" if exit_.signal is None else f"signal {exit_.signal}"
            error = last_error(read_log(self._layout.agent(order.id, order.attempt)))
            return AgentOutcome.FAILED, exit_.detail or f"{how}: {error}"
        return AgentOutcome.NOTHING, f"its last words: {_short(report.message)}" if report.message else ""


class _AgentJob:
    """An agent at work, and the gateway that leaves after it."""

    def __init__(self, child: Child, launcher: AgentLauncher, order: AgentOrder, door: Door | None) -> None:
        self._child, self._launcher, self._order = child, launcher, order
        self._door = door
        self._began = time.monotonic()  # one that stood by had waited before, which is none of its time
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
            self._exit = replace(self._exit, seconds=min(self._exit.seconds, time.monotonic() - self._began))
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


def _behind(door: Door, start: Start, entry: AgentEntry) -> Start:
    """An agent that reaches its provider through this door, and nothing else of the network."""
    ours = {} if entry.preset else {"RALPH_AGENT_KIND": entry.kind, "RALPH_API": entry.api}
    env = {**start.env, **ours, "RALPH_MODEL": entry.model, **door.env}
    return replace(start, env=env, network=False, port=door.port, pass_fds=door.pass_fds)


def _short(words: str) -> str:
    return " ".join(words.split())[:300]


def _passed_through(entry: AgentEntry) -> Mapping[str, str]:
    missing = [name for name in entry.env if name not in os.environ]
    if missing:
        raise ConfigError(f"the agent needs {', '.join(missing)} in the environment; set it and start the loop again")
    return {name: os.environ[name] for name in entry.env}
