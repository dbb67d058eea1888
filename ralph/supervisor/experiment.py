"""The journey of one experiment, one effect at a time: intent first, then the effect, then its result in the ledger.

Every method may be repeated after a crash: it finds what an earlier supervisor finished and goes on from there.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import assert_never

from ralph.core import brief as briefs
from ralph.core import duplicates, superseded, views
from ralph.core.actions import (
    Action,
    Audit,
    Brief,
    Commit,
    Measure,
    Prepare,
    Propose,
    Rebase,
    Record,
    Score,
    Settle,
    Wait,
)
from ralph.core.asking import Mix, allowance, likely
from ralph.core.excuses import slept, starved
from ralph.core.fold import State
from ralph.errors import DiskError, RefusedError
from ralph.events import (
    AgentEnded,
    Audited,
    Briefed,
    Committed,
    Event,
    Rebased,
    Refused,
    RunEnded,
    RunStarted,
    Scored,
    Settled,
)
from ralph.model import Change, Draft, Experiment, Outcome, Phase, Proposal, Verdict
from ralph.ports import AgentOrder, Job, RunOrder, ScoreOrder, World
from ralph.supervisor.spare_time import MOST_LEFT, SpareTime

Effect = Brief | Propose | Commit | Rebase | Prepare | Measure | Score | Audit | Settle
JobKey = tuple[str, int, int]  # what, experiment, attempt or run
AUDIT = "audit"  # the first word of an audit's key
BEGINS_S = 1.0  # after which an agent has what it needs to begin
LOG_LINES = 30  # commits of the incumbent's branch that a brief lists


class Experiments:
    """Carries out effects. `jobs` holds what is at work at this moment; `record` makes an event durable."""

    def __init__(
        self, world: World, state: State, mix: Mix, brief_options: briefs.Options, record: Callable[[Event], None]
    ) -> None:
        self.jobs: dict[JobKey, Job[AgentEnded] | Job[RunEnded] | Job[Scored]] = {}
        self._world, self._state, self._options, self._record = world, state, brief_options, record
        self._mix = mix
        self._slept_before: dict[JobKey, float] = {}  # the clock's word when a run began
        self.spare_time = SpareTime(world, state)
        for tree in _left_by_others(state):
            self.spare_time.discard(tree)
        self._log_of, self._log = "", ()  # type: str, tuple[str, ...]
        self._agent_began_at = -math.inf
        self._next_is_due = False  # an agent has begun since one was last told to stand by
        self._prepared: dict[int, RunOrder] = {}  # by experiment: whose process was started before it has a lane

    def begins(self, action: Action) -> bool:
        """Whether it starts something that wants room on the disk, or waits in order to."""
        match action:
            case Brief() | Wait() | Record(event=RunStarted()):
                return True
            case Propose() | Measure() | Prepare():
                return not self.is_under_way(action)
            case _:
                return False

    def is_under_way(self, action: Effect) -> bool:
        """Whether there is nothing to perform, since a process is at work on it or waits for its device."""
        match action:
            case Propose():
                return ("agent", action.id, action.attempt) in self.jobs
            case Prepare():
                return self._prepared.get(action.id) == self._early_order(action)
            case Measure():
                return ("run", action.id, action.run) in self.jobs
            case Score():
                return ("score", action.id, action.run) in self.jobs
            case Audit():
                return (AUDIT, action.id, action.run) in self.jobs
            case _:
                return False

    def perform(self, action: Effect) -> None:
        """Carry out one effect, unless it is under way. What it follows from is durable before."""
        if self.is_under_way(action):
            return
        if not isinstance(action, Brief | Score):  # one only writes an event, the other often only reads a score
            self._world.ledger.sync()
        match action:
            case Brief():
                self._brief(action)
            case Propose():
                self._propose(action)
            case Commit():
                self._commit(action)
            case Rebase():
                self._rebase(action)
            case Prepare():
                self._prepare(action)
            case Measure():
                self._measure(action)
            case Score():
                self._score(action)
            case Audit():
                self._audit(action)
            case Settle():
                self._settle(action)
            case _:
                assert_never(action)

    def collect(self) -> None:
        """Record the results of the jobs that are over."""
        for key, job in list(self.jobs.items()):
            result = job.poll()
            if result is None:
                self._foresee_score(key, job)
                continue
            del self.jobs[key]
            excused = self._excused(key, result)
            self._finish(_audited(excused) if key[0] == AUDIT and isinstance(excused, Scored) else excused)

    def _excused(self, key: JobKey, result: AgentEnded | RunEnded | Scored) -> AgentEnded | RunEnded | Scored:
        """`result`, unless the machine spoilt it. Raises DiskError when it is worth nothing, and is not recorded."""
        before = self._slept_before.pop(key, None)
        if before is not None:
            result = slept(result, self._world.clock.slept() - before)
        if shortage := self._world.disk.shortage():
            excused = starved(result, shortage)
            if excused is None:
                raise DiskError(shortage)
            return excused
        return result

    def _finish(self, result: AgentEnded | RunEnded | Scored | Audited) -> None:
        self._world.reach(f"{result.kind}-unrecorded")
        self._record(result)
        if isinstance(result, RunEnded):
            self.spare_time.discard(_run_tree(result.id, result.run))
            if result.outcome is not Outcome.OK:
                self._world.scorer.drop(self._score_order(result.id, result.run))
        self._world.reach(result.kind)

    # --- from brief to commit

    def _brief(self, action: Brief) -> None:
        new = briefs.new_guidance(self._state, self._world.papers.guidance())
        self._record(
            Briefed(
                id=action.id,
                base=action.base,
                agent=action.agent,
                attempt=action.attempt,
                guidance=new,
                why=action.why,
            )
        )
        self._world.reach("briefed")

    def _agent_order(self, e: Experiment) -> AgentOrder:
        return AgentOrder(id=e.id, attempt=e.attempt, agent=e.agent, tree=_agent_tree(e.id))

    def _propose(self, action: Propose) -> None:
        world, e = self._world, self._state.experiments[action.id]
        order = self._agent_order(e)
        if (remains := world.agents.remains(order)) is not None:
            self._finish(remains)
            return
        self.spare_time.checkout(order.tree, e.base)
        self.jobs["agent", e.id, e.attempt] = world.agents.start(self._with_brief(order, e))
        self._agent_began_at, self._next_is_due = world.clock.monotonic(), True
        world.reach("agent_started")

    def stand_by(self) -> float:
        """Have the next agent stand by: for a moment in which nobody waits. Seconds until that moment if it is to come.

        What it imports would keep the processor from an agent that has just begun. One that has been at work for
        longer waits for its model, and nothing is timed then; a shorter one is over first.
        """
        if not self._next_is_due:
            return math.inf
        begins_s = self._agent_began_at + BEGINS_S - self._world.clock.monotonic()
        if begins_s > 0 and any(kind == "agent" for kind, _, _ in self.jobs):
            return begins_s
        self._next_is_due = False
        id_ = len(self._state.experiments)
        if agent := likely(self._mix):
            self._world.agents.stand_by(AgentOrder(id=id_, attempt=1, agent=agent, tree=_agent_tree(id_)))
        return math.inf

    def _with_brief(self, order: AgentOrder, e: Experiment) -> AgentOrder:
        repo, papers, state = self._world.repo, self._world.papers, self._state
        files = repo.files(e.base)
        text = briefs.render_brief(
            briefs.BriefInput(
                state=state,
                id=e.id,
                attempt=e.attempt,
                agent=e.agent,
                guidance=papers.guidance(),
                new_guidance=tuple(line for line, first in state.guidance.items() if first == e.id),
                files=files,
                git_log=self._log_up_to(e.base),
                drafts=self._drafts(e),
                options=self._options,
            )
        )
        may_spend = allowance(state, self._mix, e.agent)
        return replace(
            order,
            brief=papers.brief(e.id, e.attempt, text),
            facts=briefs.facts(state, e, tuple(files), self._options),
            usd_left=may_spend.usd,
            tokens_left=may_spend.tokens,
        )

    def _log_up_to(self, base: str) -> tuple[str, ...]:
        """The branch with its notes, which is the same in all briefs from one incumbent once that has its note."""
        if self._log_of == base:
            return self._log
        log, incumbent = tuple(self._world.repo.history(base, LOG_LINES)), self._state.incumbent
        if incumbent is not None and incumbent.commit == base and incumbent.phase is Phase.DONE:
            self._log_of, self._log = base, log
        return log

    def _drafts(self, e: Experiment) -> tuple[Draft, ...]:
        """With their changes: what was committed is read from git, the rest is in the ledger."""
        return tuple(
            replace(draft, diff=self._world.repo.diff(f"{draft.commit}^", draft.commit)) if draft.commit else draft
            for draft in e.drafts
        )

    def _commit(self, action: Commit) -> None:
        world, e = self._world, self._state.experiments[action.id]
        order, hypothesis = self._agent_order(e), ""
        try:
            proposal = self.proposal(e)
            hypothesis = proposal.hypothesis
            change = self.examine(e, proposal)
        except RefusedError as error:
            if shortage := world.disk.shortage():  # git cannot read a worktree into an index that has no room
                raise DiskError(f"{shortage} ({error})") from None
            diff = world.repo.draft(order.tree, e.base)
            self._record(Refused(id=e.id, attempt=e.attempt, reason=str(error), hypothesis=hypothesis, diff=diff))
            world.repo.discard(order.tree)
            return
        for draft in e.drafts:
            if draft.commit:
                world.repo.pin(self._attempt_ref(e.id, f"{draft.attempt}"), draft.commit)
        commit = world.repo.commit(change, e.base, self._message(e, proposal), self._ref(e.id))
        world.reach("committed-unrecorded")
        self._record(
            Committed(
                id=e.id,
                commit=commit,
                hypothesis=proposal.hypothesis,
                expected=proposal.expected,
                learnings=proposal.learnings,
                supersedes=proposal.supersedes,
                lines_delta=change.lines_delta,
                constants=change.constants,
                meaning=change.meaning,
                replicates=proposal.replicates,
            )
        )
        self.spare_time.discard(order.tree)
        world.reach("committed")

    def proposal(self, e: Experiment) -> Proposal:
        """What the agent handed back. Raises RefusedError when it is not usable."""
        return self._world.agents.proposal(self._agent_order(e))

    def examine(self, e: Experiment, proposal: Proposal) -> Change:
        """What the agent changed. Raises RefusedError with the rule that it breaks."""
        if broken := self._world.scorer.broken_seal():
            raise RefusedError(broken)
        change = self._world.repo.examine(_agent_tree(e.id), e.base)
        self._refuse_known(change, proposal, e)
        return change

    def _rebase(self, action: Rebase) -> None:
        """The same change on another incumbent; where it does not apply, a fresh agent is shown it."""
        world, e = self._world, self._state.experiments[action.id]
        if e.proposal is None:
            raise LookupError(f"experiment {e.id} has nothing to be carried over")
        self._forget(e.id)
        try:
            change = world.repo.rebase(e.commit, action.onto)
            self._refuse_known(change, e.proposal, replace(e, base=action.onto))
        except RefusedError as error:
            reason = f"another incumbent, #{self._state.incumbent_id}, was kept meanwhile: {error}"
            hypothesis = e.proposal.hypothesis
            self._record(Refused(id=e.id, attempt=e.attempt, reason=reason, hypothesis=hypothesis, moved=True))
            return
        if e.own_runs:
            world.repo.pin(self._attempt_ref(e.id, f"{e.attempt}-run-{len(e.runs)}"), e.commit)
        commit = world.repo.commit(change, action.onto, self._message(e, e.proposal), self._ref(e.id))
        world.reach("rebased-unrecorded")
        self._record(
            Rebased(
                id=e.id,
                base=action.onto,
                commit=commit,
                lines_delta=change.lines_delta,
                constants=change.constants,
                meaning=change.meaning,
            )
        )
        world.reach("rebased")

    def _message(self, e: Experiment, proposal: Proposal) -> str:
        return f"{proposal.hypothesis}\n\nExperiment: {self._state.campaign}#{e.id}\nAgent: {e.agent}\n"

    def _refuse_known(self, change: Change, proposal: Proposal, e: Experiment) -> None:
        """No device time for what was tried already, unless it is asked for; the answer is on record."""
        first = self._state.meanings.get(change.meaning)
        first = None if first == e.id else first
        if reason := duplicates.refusal(self._state, e, first, proposal.replicates):
            raise RefusedError(reason)

    def _ref(self, id: int) -> str:  # noqa: A002 - the word of the ledger
        return f"refs/ralph/{self._state.campaign}/experiments/{id}"

    def _attempt_ref(self, id: int, name: str) -> str:  # noqa: A002 - the word of the ledger
        return f"refs/ralph/{self._state.campaign}/attempts/{id}-{name}"

    # --- run and score

    def _prepare(self, action: Prepare) -> None:
        """Start the process of a run that has no lane yet. Nothing of it is in the ledger: it can be lost."""
        order = self._early_order(action)
        self._forget(order.id)
        self.spare_time.checkout(order.tree, order.commit)
        self._world.runner.prepare(order)
        self._prepared[order.id] = order

    def _early_order(self, action: Prepare) -> RunOrder:
        e, tree = self._state.experiments[action.id], _run_tree(action.id, action.run)
        return RunOrder(id=e.id, run=action.run, seed=action.seed, commit=e.commit, tree=tree, lane=action.lane)

    def _forget(self, id: int) -> None:  # noqa: A002 - the word of the ledger
        """End what was started early for a run that will not be made like that."""
        if (order := self._prepared.pop(id, None)) is not None:
            self._world.runner.drop(order)
            self._world.repo.discard(order.tree)

    def _measure(self, action: Measure) -> None:
        key = ("run", action.id, action.run)
        world, e = self._world, self._state.experiments[action.id]
        order = run_order(e, action.run)
        if not world.runner.prepared(order):
            self._forget(e.id)
            if (remains := world.runner.remains(order)) is not None:
                self._finish(remains)
                return
            self.spare_time.checkout(order.tree, e.commit)
        self._slept_before[key] = world.clock.slept()
        self.jobs[key] = world.runner.start(order)
        self._prepared.pop(e.id, None)
        world.reach("run_started")

    def _score(self, action: Score) -> None:
        world, order = self._world, self._score_order(action.id, action.run)
        remains = world.scorer.remains(order)
        if remains is not None and remains.outcome is not Outcome.VOID:  # a failure of its own is tried once more
            world.scorer.drop(order)
            self._finish(remains)
            return
        world.ledger.sync()
        self.jobs["score", order.id, order.run] = world.scorer.start(order)
        world.reach("score_started")

    def _foresee_score(self, key: JobKey, job: Job[AgentEnded] | Job[RunEnded] | Job[Scored]) -> None:
        """Once nothing of a run is timed that it could disturb, its scorer imports what it needs."""
        if key[0] == "run" and (news := job.news()) is not None and news.stage in self._world.scorer_imports:
            self._world.scorer.prepare(self._score_order(key[1], key[2]))

    def _score_order(self, id: int, number: int) -> ScoreOrder:  # noqa: A002 - the word of the ledger
        e = self._state.experiments[id]
        run = e.runs[number - 1]
        return ScoreOrder(id=e.id, run=number, seed=run.seed, commit=e.commit, lane=run.lane)

    def _audit(self, action: Audit) -> None:
        world, e = self._world, self._state.experiments[action.id]
        seed, lane = e.runs[action.run - 1].seed, action.lane
        order = ScoreOrder(id=e.id, run=action.run, seed=seed, commit=e.commit, audit=action.attempt, lane=lane)
        if (remains := world.scorer.remains(order)) is not None:
            self._finish(_audited(remains))
            return
        self.jobs[AUDIT, order.id, order.run] = world.scorer.start(order)
        world.reach("audit_started")

    # --- verdict

    def _settle(self, action: Settle) -> None:
        """Every effect here is idempotent; `Settled` says that all of them are done."""
        world, state, e = self._world, self._state, self._state.experiments[action.id]
        world.reach("judged")
        if e.id == 0:
            world.repo.pin(self._ref(0), e.commit)
        elif e.verdict is Verdict.KEEP:
            world.repo.advance(state.campaign, e.base, e.commit)
            world.reach("advanced")
        if e.commit:
            world.repo.note(e.commit, views.note_text(state, e.id))
            world.reach("noted")
        if e.proposal is not None and (e.proposal.learnings or e.proposal.supersedes):
            world.papers.learn(state.campaign, e.id, e.proposal.learnings, superseded.marks(state, e.id))
            world.reach("learned")
        world.papers.record(e.id, views.history_row(state, e.id), views.results_line(state, e.id))
        world.papers.tidy(e.id, keep_artifact=e.verdict is Verdict.KEEP)
        world.repo.discard(_agent_tree(e.id))
        world.reach("settled-unrecorded")
        self._record(Settled(id=e.id))
        self.spare_time.remember(e.id)
        world.reach("settled")


def run_order(e: Experiment, number: int) -> RunOrder:
    """What run `number` of an experiment is started with."""
    run = e.runs[number - 1]
    return RunOrder(id=e.id, run=number, seed=run.seed, commit=e.commit, tree=_run_tree(e.id, number), lane=run.lane)


def _audited(said: Scored) -> Audited:
    """A score on the audit split is an event of its own, so that nothing takes it for a score."""
    return Audited(
        id=said.id, run=said.run, outcome=said.outcome, score=said.score, reason=said.reason, seconds=said.seconds
    )


def _agent_tree(id: int) -> str:  # noqa: A002
    return f"{id}-agent"


def _run_tree(id: int, run: int) -> str:  # noqa: A002
    return f"{id}-run-{run}"


def _left_by_others(state: State) -> Iterator[str]:
    """Checkouts of runs that are over, whose supervisor may have been killed before it could discard them."""
    latest = range(max(0, state.experiments.last + 1 - 2 * MOST_LEFT), state.experiments.last + 1)
    for id_ in {*latest, *state.open_ids, *([state.incumbent.id] if state.incumbent else [])}:
        runs = enumerate(state.experiments[id_].runs, 1)
        yield from (_run_tree(id_, number) for number, run in runs if run.outcome is not None)
