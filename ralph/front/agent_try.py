"""`ralph agent try NAME`: one brief, one agent, one proposal, and no run.

It may be used while a supervisor works in the folder: it takes no lock, adds nothing to the ledger and pins no commit.
Everything of its own lies in a scratch folder below state/try, which is gone at the end, however it ends; after a
kill -9 the next try takes it away. What the agent spends is spent, though, and is in no budget's sum.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click

from ralph.adapters.agents.launcher import AgentLauncher
from ralph.adapters.clock import SystemClock
from ralph.adapters.control import SystemControl
from ralph.adapters.domains import REAP_S
from ralph.adapters.files import remove_tree
from ralph.adapters.gateway.upstream import require_keys
from ralph.adapters.git import GitRepo
from ralph.adapters.lock import FolderLock, holder
from ralph.adapters.machine import resolve_device
from ralph.adapters.papers import FilePapers
from ralph.adapters.process import become_subreaper, reap_leftovers
from ralph.adapters.recall import RecallIndex
from ralph.adapters.redaction import redactor_of
from ralph.adapters.runner import LocalRunner
from ralph.adapters.scoring import ArenaScorer
from ralph.adapters.scripted.lab import LabDisk, SilentWatcher
from ralph.adapters.seal import Seal
from ralph.adapters.shared_page import read_steady
from ralph.config import Config, load
from ralph.core.actions import Brief, Propose
from ralph.core.asking import spent_up
from ralph.core.secrets import Redactor
from ralph.core.text import tokens
from ralph.core.wording import ids
from ralph.errors import ConfigError, RefusedError
from ralph.events import AgentEnded, Entry, Event
from ralph.front import campaign
from ralph.front.app import domains_of, forget_git_variables, mix_of, options_of, seed_of
from ralph.front.campaign import tables
from ralph.front.look import read_state
from ralph.front.recalling import JudgedExperiments
from ralph.front.render import lines_of, print_lines
from ralph.layout import Layout
from ralph.model import Experiment, Phase, Proposal
from ralph.ports import World
from ralph.supervisor.experiment import Experiments

ACCEPTED, REFUSED, INTERRUPTED = 0, 1, 130  # exit status; 2 is a mistake in the configuration, as everywhere
CLEAN_UP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of it. `refused` is why the loop would refuse the proposal, empty when it would not.

    Seconds are wall clock; `folder` holds brief and log when they were to be kept.
    """

    agent: str
    experiment: int
    base: str
    brief: str
    brief_tokens: int
    seconds: float
    usd: float
    tokens: int
    calls: int
    refused: str
    proposal: Proposal | None
    diff: str
    folder: str

    @property
    def status(self) -> int:
        """Exit status."""
        return REFUSED if self.refused else ACCEPTED

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {"accepted": not self.refused, **asdict(self)}


class _Memory:
    """A ledger that nobody else reads, behind the real one."""

    def __init__(self, utc: Callable[[], datetime], seq: int, redact: Redactor) -> None:
        self._utc, self._seq, self._redact = utc, seq, redact

    def append(self, event: Event, *, durable: bool = True) -> Entry:
        """Number it."""
        del durable
        self._seq += 1
        return Entry(seq=self._seq, at=self._utc(), event=self._redact.within(event))

    def sync(self) -> None:
        """Nothing lasts here."""

    def entries(self) -> Iterator[Entry]:
        """None of its own."""
        return iter(())


def try_agent(layout: Layout, name: str, *, keep: bool) -> Tried:
    """Ask agent `name` for one proposal, as the next experiment would.

    Raises:
        ConfigError: no such agent, a folder in which no loop could start, a budget that is spent.
        click.exceptions.Exit: by Ctrl-C or TERM, with status 130.
    """
    forget_git_variables()
    become_subreaper()
    config = load(layout.arena_toml)
    device = resolve_device(config.run.device)
    config = _asking(load(layout.arena_toml, device=device), name)
    require_keys(config, os.environ)
    sweep(layout, config)
    scratch = _free(layout)
    with SystemControl(scratch) as control, _made(layout, scratch, keep):  # a signal does not disturb the clearing up
        return _Try(layout, scratch, config, device, control).carry_out(keep)


class _Try:
    """One try, in its scratch folder."""

    def __init__(self, layout: Layout, scratch: Layout, config: Config, device: str, control: SystemControl) -> None:
        self._scratch, self._config, self._control = scratch, config, control
        self._clock, redact = SystemClock(), redactor_of(os.environ, config)
        self._repo = GitRepo(layout.arena, scratch.trees, config.arena.editable, redact=redact)
        self._ended: AgentEnded | None = None
        self._state = read_state(layout)
        self._ledger = _Memory(self._clock.utc, self._state.seq, redact)
        arena = campaign.measure_arena(
            config=config, repo=self._repo, device=device, data=None, base=self._state.base or self._repo.head()
        )
        opening = campaign.opening(
            state=self._state,
            arena=arena,
            repo=self._repo,
            device=device,
            now=self._clock.utc(),
            name=None,
            page=layout.learnings,
        )
        if not self._state.campaign:
            self._record(opening)
        self._name, self._mix = config.agent.use, mix_of(config)
        self._papers = self._own_papers(layout, redact)
        seal = Seal(scratch.sealed(arena.record.hash))
        seal.make(arena.sealed)
        domains = domains_of(layout, config, self._repo)
        if self._state.judged:
            self._own_recall(layout, opening.campaign)
        world = World(
            clock=self._clock,
            ledger=self._ledger,
            repo=self._repo,
            agents=AgentLauncher(
                layout=scratch, repo=self._repo, config=config, seed=seed_of(opening.campaign), domains=domains,
                redact=redact,
            ),
            runner=LocalRunner(
                layout=scratch, repo=self._repo, run=config.run, device=device, data=None, domains=domains
            ),
            scorer=ArenaScorer(
                layout=scratch, config=config, device=device, data=None, seal=seal, domains=domains
            ),
            papers=self._papers,
            control=control,
            watcher=SilentWatcher(),
            disk=LabDisk(),
        )  # fmt: skip
        self._world = world
        self._experiments = Experiments(world, self._state, self._mix, options_of(config, device), self._record)

    def carry_out(self, keep: bool) -> Tried:
        """From the brief to the proposal."""
        if why := spent_up(self._state, self._mix, self._name):
            raise ConfigError(f"{self._name} cannot be tried: {why}; raise the cap in arena.toml")
        state, id_ = self._state, len(self._state.experiments)
        base = state.incumbent.commit if state.incumbent else state.base
        try:
            self._experiments.perform(Brief(id=id_, agent=self._name, attempt=1, base=base))
            self._experiments.perform(Propose(id=id_, attempt=1))
            self._wait()
            return self._judged(state.experiments[id_], keep)
        finally:
            self._end()

    def _wait(self) -> None:
        while self._experiments.jobs:
            if self._control.read().stop:
                click.echo("ralph: interrupted; nothing of it is left", err=True)
                raise click.exceptions.Exit(INTERRUPTED)
            self._control.wait(list(self._experiments.jobs.values()), 1.0)
            self._experiments.collect()

    def _judged(self, e: Experiment, keep: bool) -> Tried:
        ended, tree = self._ended, f"{e.id}-agent"
        if ended is None:
            raise LookupError(f"the agent of experiment {e.id} ended without a word")
        brief = self._scratch.brief(e.id, 1).read_text(encoding="utf-8")
        diff = self._repo.draft(tree, e.base)
        refused, proposal = ("", None) if e.phase is Phase.COMMIT else (ended.reason or str(ended.outcome), None)
        if not refused:
            try:
                proposal = self._experiments.proposal(e)
                self._experiments.examine(e, proposal)
            except RefusedError as error:
                refused = str(error)
        return Tried(
            agent=e.agent,
            experiment=e.id,
            base=e.base,
            brief=brief,
            brief_tokens=tokens(brief),
            seconds=ended.seconds,
            usd=ended.usd,
            tokens=ended.tokens,
            calls=ended.calls,
            refused=refused,
            proposal=proposal,
            diff=diff,
            folder=str(self._scratch.experiment(e.id)) if keep else "",
        )

    def _record(self, event: Event) -> None:
        """In memory only, behind what the ledger says."""
        if isinstance(event, AgentEnded):
            self._ended = event
        self._state.apply(self._ledger.append(event))

    def _own_papers(self, layout: Layout, redact: Redactor) -> FilePapers:
        """Papers in the scratch folder that begin with what the human's say."""
        page, arena = read_steady(layout.learnings), self._config.arena
        if page is not None:
            self._scratch.learnings.write_text(page, encoding="utf-8")
        papers = FilePapers(self._scratch, arena.program, arena.metric, redact=redact)
        if layout.history.exists() and layout.results.exists():  # a last row that is torn is read by nobody
            shutil.copyfile(layout.history, self._scratch.history)
            shutil.copyfile(layout.results, self._scratch.results)
        else:
            papers.rebuild(tables(layout))
        return papers

    def _own_recall(self, layout: Layout, name: str) -> None:
        """The index of what was tried, which the agent may ask; a copy that is torn is found out and built anew."""
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(layout.recall, self._scratch.recall)
        source = JudgedExperiments(lambda: self._state, self._repo)
        command = self._config.recall.embed_command
        RecallIndex(self._scratch.recall, campaign=name, source=source, embed_command=command).catch_up()

    def _end(self) -> None:
        """Whatever still lives of the agent is ended."""
        end = self._clock.monotonic() + CLEAN_UP_S
        jobs = list(self._experiments.jobs.values())
        for job in jobs:
            job.stop("the try was ended")
        while jobs and self._clock.monotonic() < end:
            self._control.wait(jobs, 1.0)
            jobs = [job for job in jobs if job.poll() is None]


def _asking(config: Config, name: str) -> Config:
    """The same arena with one agent in use. Raises ConfigError when there is none of this name."""
    known = sorted({"tuner", *config.agents})
    if name not in known:
        raise ConfigError(f"there is no agent {name!r}; known: {', '.join(known)}. Add [agents.{name}] to arena.toml")
    return config.model_copy(update={"agent": config.agent.model_copy(update={"use": name, "mix": {}})})


def _free(layout: Layout) -> Layout:
    """A scratch folder that is not there yet."""
    number = 1
    while (scratch := layout.scratch(f"{os.getpid()}-{number}")).root.exists():
        number += 1
    return scratch


@contextmanager
def _made(layout: Layout, scratch: Layout, keep: bool) -> Iterator[None]:
    """The scratch folder, for this process alone; with `keep` its papers stay, its worktree does not."""
    lock = FolderLock(scratch.lock)
    try:
        yield
    finally:
        _discard_trees(layout, scratch)
        if keep:
            scratch.lock.unlink()
        else:
            remove_tree(scratch.root)
        lock.release()


def sweep(layout: Layout, config: Config) -> None:
    """Take away what tries left that were killed: those whose lock nobody holds. Kept ones have no lock."""
    for place in sorted(layout.tries.glob("*")):
        scratch = layout.scratch(place.name)
        if not scratch.lock.exists() or holder(scratch.lock) is not None:
            continue
        for domain in scratch.experiments.glob("*/agent-*"):
            reap_leftovers(domain, REAP_S)
        _discard_trees(layout, scratch, config.arena.editable)
        remove_tree(scratch.root)


def _discard_trees(layout: Layout, scratch: Layout, editable: tuple[str, ...] = ("*",)) -> None:
    repo = GitRepo(layout.arena, scratch.trees, editable)
    for tree in scratch.trees.glob("*-agent"):
        repo.discard(tree.name)


def print_tried(tried: Tried, *, whole_brief: bool) -> None:
    """For people."""
    size = f"{tried.brief_tokens:,} tokens, {len(tried.brief.encode()):,} bytes"
    where = f"; {tried.folder}" if tried.folder else "; --brief prints it, --keep keeps it"
    if whole_brief:
        print_lines([*lines_of(tried.brief), ""])
    cost = f"${tried.usd:,.4f} · {tried.tokens:,} tokens · {tried.calls} calls · {tried.seconds:.1f} s"
    pairs = [("agent", f"{tried.agent}, as experiment {tried.experiment} on {tried.base[:10]}"), ("cost", cost)]
    pairs.insert(1, ("brief", size + where))
    proposal = tried.proposal
    if proposal is not None:
        pairs += [("hypothesis", proposal.hypothesis), ("expected", proposal.expected)]
        pairs += [("learnt", f"{each.text} ({ids(list(each.evidence))})") for each in proposal.learnings]
        pairs += [("supersedes", ", ".join(each.learning for each in proposal.supersedes))]
    pairs.append(("refused", tried.refused) if tried.refused else ("verdict", "the loop would run this"))
    print_lines([f"{name:<11} {' '.join(lines_of(value))}" for name, value in pairs if value])
    print_lines(["", *lines_of(tried.diff)] if tried.diff else ["", "no change"])
    if tried.refused:
        click.echo(f"ralph: the loop would refuse this: {' '.join(lines_of(tried.refused))}", err=True)
