"""What to do next: a pure function from the state and the hour to a list of actions.

Several experiments may be in flight, and each says what it needs; `Rules.in_flight` bounds how many. A lane is taken
by one run with its scoring, or one audit, at a time; of those that want one the oldest experiment comes first. What is
kept is audited while a lane is free or before the first run of a later experiment, so that no experiment waits for more
than one audit.

Agents think ahead, so an incumbent may be kept while a candidate on the one before it waits or is measured. Covers:
a candidate that has not been measured is carried over to the new incumbent first. One that has is held against the
incumbent that it was made on; unless it loses there, it is carried over and measured anew, on its own merits and at the
full price of a keep. So nothing is kept but what was measured on top of the incumbent that it replaces, in whatever
order results arrive. Does not cover: two changes that apply beside each other and do not work together; the measurement
is what finds that.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import assert_never

from ralph.core.actions import (
    Action,
    Audit,
    Brief,
    Commit,
    End,
    Measure,
    Prepare,
    Propose,
    Rebase,
    Record,
    Score,
    Settle,
    Wait,
)
from ralph.core.asking import Chosen, Mix, ask
from ralph.core.decision import Discard, Evidence, Keep, KeepRule, RunAgain, Side, baseline_runs, decide
from ralph.core.fold import State
from ralph.core.lanes import Lanes, free_lanes, incumbent_lacks, next_free, repeat_in_the_gap, seed_of
from ralph.core.patience import Patience
from ralph.core.pruning import PruneRule
from ralph.errors import ExitStatus
from ralph.events import AuditStarted, Judged, Refused, RunStarted
from ralph.model import CrashKind, Experiment, Outcome, Phase, Run, Verdict

VOIDS_ALLOWED = 2  # void runs are repeated this often before the experiment itself is void
AT_LAST = "Give the loop a device, or cores (taskset), of its own; or allow for it with device.disturbed_share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop by itself; None, and 0 for the durations, mean no limit. 0 experiments are the baseline alone."""

    experiments: int | None = None
    hours: float = 0.0
    until: datetime | None = None
    device_hours: float = 0.0

    def reached(self, state: State, now: datetime) -> str:
        """The limit that is reached, in words; empty when none is."""
        if self.experiments is not None and state.begun - state.counts[Verdict.VOID] >= self.experiments:
            many = "1 experiment is" if self.experiments == 1 else f"{self.experiments} experiments are"
            return f"{many} done" if self.experiments else "the baseline is measured"
        return self.over(state, now)

    def over(self, state: State, now: datetime) -> str:
        """The limit on time that is reached, in words; empty when none is."""
        if self.hours and state.session_started and now - state.session_started >= timedelta(hours=self.hours):
            return f"{self.hours:g} hours are over"
        if self.until and now >= self.until:
            return f"it is {self.until.astimezone():%H:%M}"
        if self.device_hours and state.run_s >= self.device_hours * 3600:
            return f"{self.device_hours:g} device hours are spent"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the human configured, as far as it decides what happens next. `gated`: runs tell set-up from training.

    `in_flight` experiments at most are between brief and verdict: one for each lane, and those that think ahead.
    `calm` is the patience with a device that others disturb: after about an hour of it the loop parks.
    """

    keep: KeepRule
    prune: PruneRule = field(default_factory=PruneRule)
    repairs: int = 2
    mix: Mix = field(default_factory=Mix)
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    in_flight: int = 1
    lanes: Lanes = field(default_factory=Lanes)
    gated: bool = False
    calm: Patience = field(
        default_factory=lambda: Patience(free=VOIDS_ALLOWED, first_s=30.0, longest_s=900.0, give_up=10)
    )


def next_actions(state: State, now: datetime, rules: Rules) -> list[Action]:
    """Everything that can be done at this moment, in the order in which to do it. Empty: wait for news."""
    stop = state.stop_requested
    if stop is not None and stop.now:
        return [End(status=ExitStatus.DONE, reason=f"stopped at once by {stop.by}")]
    draining = stop is not None or state.paused
    wanted = [*_spare(state), *_until_a_keep(a for e in state.open() for a in _advance(state, e, now, rules))]
    over = rules.limits.over(state, now)
    if draining:
        wanted = [a for a in wanted if not _begins_something(a)]
    elif over:
        wanted = [a for a in wanted if not _begins_anew(state, a)]
    planned, held = _on_lanes(state, wanted, rules, draining)
    actions: list[Action] = [a for a in planned if not isinstance(a, End)]
    if actions:
        ahead = [] if draining else [*_begin(state, now, rules, held), *_ahead(state, actions, now, rules)]
        return [*actions, *ahead]
    if planned:  # nobody is left to ask for what is still open, and nothing else is in flight
        return planned[:1]
    if stop is not None:
        return [End(status=ExitStatus.DONE, reason=f"stopped by {stop.by}")]
    if state.paused:
        return []
    if over and state.open_ids:
        return [End(status=ExitStatus.DONE, reason=f"{over}; open for the next start: {len(state.open_ids)}")]
    return _begin(state, now, rules)


def _until_a_keep(actions: Iterable[Action]) -> Iterator[Action]:
    """What is decided once an incumbent is kept has to be decided with it in mind: at the next look."""
    kept = False
    for action in actions:
        if not (kept and isinstance(action, Record | Rebase | Brief)):
            yield action
        kept = kept or (isinstance(action, Record) and getattr(action.event, "verdict", None) is Verdict.KEEP)


def _begins_something(action: Action) -> bool:
    return _run_of(action) is not None or isinstance(action, Brief | Wait | End | Prepare)


def _begins_anew(state: State, action: Action) -> bool:
    """Whether it is the first of several steps: an agent, a first run, a candidate that is carried over."""
    run = _run_of(action)
    first_run = run is not None and 0 < run.id == run.for_id and not state.experiments[run.id].own_runs
    return first_run or isinstance(action, Brief | Rebase)


def _run_of(action: Action) -> RunStarted | None:
    """The run that an action begins."""
    return action.event if isinstance(action, Record) and isinstance(action.event, RunStarted) else None


def _spare(state: State) -> Iterator[Action]:
    """What becomes of runs that nobody waits for."""
    for for_id, hand in state.at_work.items():
        if for_id not in state.open_ids:
            measured = state.run_of(hand).outcome is not None
            yield (Score if measured else Measure)(id=hand.owner, run=hand.run)


def _on_lanes(state: State, wanted: Sequence[Action], rules: Rules, draining: bool) -> tuple[list[Action], int]:
    """Give the free lanes to the audit, if it is due, and to the runs that are wanted; the others wait.

    The second answer is how many wait for runs of the incumbent that are at work already: these need no lane.
    """
    free = free_lanes(state, rules.lanes)
    audit = _audit(state, [run for a in wanted if (run := _run_of(a)) is not None], free, draining)
    if isinstance(audit, Record):
        free = free[1:]
    planned: list[Action] = []
    begun, new = Counter(hand.owner for hand in state.at_work.values()), Counter[int]()
    enough, held = max(1, incumbent_lacks(state, rules.keep)), 0
    for action in wanted:
        run = _run_of(action)
        if run is None:
            planned.append(action)
        elif run.id != run.for_id and begun[run.id] + new[run.id] >= enough:
            held += 1
        elif free:
            number = run.run + new[run.id]
            new[run.id] += 1
            planned.append(Record(event=replace(run, run=number, seed=seed_of(run.id, number), lane=free.pop(0))))
    return [*planned, *([audit] if audit else [])], held


def _audit(state: State, runs: Sequence[RunStarted], free: Sequence[int], draining: bool) -> Action | None:
    """The audit at work, or the next one if a lane is free and nobody has to wait for the second time."""
    audits = state.audits
    if (event := audits.at_work) is not None:
        return Audit(id=event.id, run=event.run, attempt=event.attempt, lane=event.lane)
    if draining or not audits.owed or not free:
        return None
    new = not any(state.experiments[run.for_id].runs for run in runs)
    if len(runs) < len(free) or (new and not audits.last):
        id_, number = audits.owed[0]
        return Record(event=AuditStarted(id=id_, run=number, attempt=audits.tries + 1, lane=free[0]))
    return None


def _ahead(state: State, actions: Sequence[Action], now: datetime, rules: Rules) -> list[Action]:
    """What a lane that has nothing to do, or the host beside a busy one, can do already."""
    if rules.limits.over(state, now):
        return []
    begins = any(isinstance(a, Record) for a in actions)
    free = free_lanes(state, rules.lanes)
    if not begins and free:
        repeat = repeat_in_the_gap(state, now, rules.keep, free[0])
        return [Record(event=repeat)] if repeat else []
    if not rules.lanes.early or free:
        return []
    waiting = (e for e in state.open() if _is_ready(state, e))
    return [
        Prepare(id=e.id, run=len(e.runs) + 1, seed=seed_of(e.id, len(e.runs) + 1), lane=lane)
        for e, lane in zip(waiting, next_free(state), strict=False)
    ]


def _is_ready(state: State, e: Experiment) -> bool:
    """Whether all that its first run lacks is a lane."""
    on_incumbent = state.incumbent is not None and e.base == state.incumbent.commit
    return e.phase is Phase.DECIDE and bool(e.commit) and not e.postponed and not e.own_runs and on_incumbent


def _begin(state: State, now: datetime, rules: Rules, held: int = 0) -> list[Action]:
    """Start the next experiment if there is room, budget and patience; say why not otherwise.

    `held` of those in flight need neither a lane nor an agent, and take no room.
    """
    incumbent = state.incumbent
    if incumbent is None:
        return _without_baseline(state)
    busy = bool(state.open_ids or state.at_work) or state.audits.pending
    if reason := rules.limits.reached(state, now):
        return [] if busy else [End(status=ExitStatus.DONE, reason=reason)]
    if rules.patience.exhausted(state.failures_in_row):
        why = f"{state.failures_in_row} experiments in a row gave no measurement; the last: {_last_reason(state)}"
        return [] if busy else [End(status=ExitStatus.PARKED, reason=why)]
    if len(state.open_ids) - held >= rules.in_flight:
        return []
    resume = rules.patience.resume_at(state.failures_in_row, state.failed_at)
    set_back = state.failed_at is not None and now < state.failed_at  # the clock was: nobody knows how long is left
    if resume is not None and now < resume and not set_back:
        return [] if busy else [Wait(until=resume, reason=f"{state.failures_in_row} failures in a row")]
    match ask(state, now, rules.mix):
        case Chosen(agent=agent, why=why):
            return [Brief(id=len(state.experiments), agent=agent, attempt=1, base=incumbent.commit, why=why)]
        case nobody:
            return [] if busy else [nobody]


def _without_baseline(state: State) -> list[Action]:
    baseline = state.baseline
    if baseline is None or baseline.phase is not Phase.DONE:
        return []
    status = ExitStatus.PARKED if baseline.verdict is Verdict.VOID else ExitStatus.CONFIG
    return [End(status=status, reason=f"there is no baseline: {baseline.reason}")]


def _last_reason(state: State) -> str:
    latest_first = (state.experiments[id_] for id_ in range(state.experiments.last, -1, -1))
    last = next(e for e in latest_first if e.verdict is not None)
    return f"#{last.id} {last.verdict}: {last.reason}"


def _advance(state: State, e: Experiment, now: datetime, rules: Rules) -> Iterator[Action]:
    match e.phase:
        case Phase.AGENT:
            yield Propose(id=e.id, attempt=e.attempt)
        case Phase.COMMIT:
            yield Commit(id=e.id)
        case Phase.RUN | Phase.SCORE:
            hand = state.at_work[e.id]
            yield (Measure if e.phase is Phase.RUN else Score)(id=hand.owner, run=hand.run)
        case Phase.SETTLE:
            yield Settle(id=e.id)
        case Phase.DECIDE:
            yield from _decide(state, e, now, rules)
        case Phase.DONE:
            return
        case _:
            assert_never(e.phase)


def _decide(state: State, e: Experiment, now: datetime, rules: Rules) -> Iterator[Action]:
    last = e.own_runs[-1] if e.own_runs else None
    if e.postponed:
        yield _ask_again(state, e, now, rules)
    elif not e.commit:
        yield _after_refusal(state, e, rules)
    elif last is not None and last.failed:
        yield from _after_failed_run(state, e, last, now, rules)
    elif e.id == 0 and len(e.scores) >= baseline_runs(rules.keep):
        yield Record(event=Judged(id=0, verdict=Verdict.KEEP, reason="baseline"))
    elif e.id == 0 or not e.scores:
        yield from _run_again(state, e, for_id=e.id)
    else:
        yield from _compare(state, e, now, rules)


def _ask_again(state: State, e: Experiment, now: datetime, rules: Rules) -> Action:
    """The agent was sent away or may not spend more: no failure; another agent, the same one later, or the end."""
    if reason := rules.limits.over(state, now):
        return End(status=ExitStatus.DONE, reason=reason)
    match ask(state, now, rules.mix, prefer=e.agent):
        case Chosen(agent=agent, why=why):
            return Brief(id=e.id, agent=agent, attempt=e.attempt + 1, base=_newest_base(state, e), why=why)
        case nobody:
            return nobody


def _newest_base(state: State, e: Experiment) -> str:
    """What a fresh agent starts from."""
    return state.incumbent.commit if state.incumbent else e.base


def _after_refusal(state: State, e: Experiment, rules: Rules) -> Action:
    """A fresh agent, unless too many had their chance. That the incumbent moved is nobody's fault."""
    if len(e.refusals) <= rules.repairs:
        return Brief(id=e.id, agent=e.agent, attempt=e.attempt + 1, base=_newest_base(state, e))
    return Record(event=Judged(id=e.id, verdict=Verdict.INVALID, reason=e.refusals[-1]))


def _when_calm(state: State, of: Experiment, e: Experiment, now: datetime, rules: Rules) -> Iterator[Action]:
    """Run `of` again for `e`, whose last run others disturbed. No failure: the proposal waits for a better hour.

    Covers: a few repeats at once, then waits that grow, then a human. Does not cover: an experiment for which the
    device is quiet at last; what counts is the number in a row since the loop was started.
    """
    mine = [r for r in of.runs if r.for_id == e.id]
    spoilt = 0
    for run in reversed(mine):
        if not run.disturbed or (state.session_started and run.started < state.session_started):
            break
        spoilt += 1
    if rules.calm.exhausted(spoilt):
        why = f"{spoilt} runs in a row were disturbed; the last: {mine[-1].disturbed}. {AT_LAST}"
        yield End(status=ExitStatus.PARKED, reason=why)
    elif spoilt > rules.calm.free and (reason := rules.limits.over(state, now)):
        yield End(status=ExitStatus.DONE, reason=reason)
    else:
        resume = rules.calm.resume_at(spoilt, state.since.get(e.id))
        if resume is not None and now < resume:
            yield Wait(until=resume, reason=f"{spoilt} disturbed runs in a row; {mine[-1].disturbed}")
        else:
            yield from _run_again(state, of, for_id=e.id)


def _after_failed_run(state: State, e: Experiment, run: Run, now: datetime, rules: Rules) -> Iterator[Action]:
    outcomes = {run.outcome, run.scored}
    if run.disturbed:
        yield from _when_calm(state, e, e, now, rules)
        return
    if run.outcome is Outcome.STOPPED:
        yield Record(event=Judged(id=e.id, verdict=Verdict.DISCARD, reason=f"stopped {run.reason}"))
    elif _mendable(e, run, rules):
        yield Record(event=Refused(id=e.id, attempt=e.attempt, reason=f"its run crashed in the set-up: {run.reason}"))
    elif Outcome.CRASH in outcomes:
        kind = run.crash or CrashKind.EXCEPTION
        yield Record(event=Judged(id=e.id, verdict=Verdict.CRASH, crash=kind, reason=run.reason))
    elif Outcome.INVALID in outcomes:
        yield Record(event=Judged(id=e.id, verdict=Verdict.INVALID, reason=run.reason))
    elif sum(Outcome.VOID in {r.outcome, r.scored} and not r.disturbed for r in e.own_runs) <= VOIDS_ALLOWED:
        yield from _run_again(state, e, for_id=e.id)
    else:
        yield Record(event=Judged(id=e.id, verdict=Verdict.VOID, reason=run.reason))


def _mendable(e: Experiment, run: Run, rules: Rules) -> bool:
    """A plain mistake: an exception before any training, in an arena that can tell, from an agent that can mend it."""
    early = rules.gated and run.crash is CrashKind.EXCEPTION and run.train_s == 0 and run.outcome is Outcome.CRASH
    return early and e.id != 0 and e.agent in rules.mix.menders and len(e.refusals) < rules.repairs


def _compare(state: State, e: Experiment, now: datetime, rules: Rules) -> Iterator[Action]:
    incumbent = state.incumbent
    if incumbent is None:
        raise LookupError(f"experiment {e.id} has scores before there is a baseline")
    rival = state.experiments[state.kept_as[e.base]]  # that it was made on: another one may have been kept since
    evidence = Evidence(
        candidate=e.scores,
        incumbent=rival.scores,
        noise=state.noise,
        lines_delta=e.lines_delta,
        challengers=state.challengers if rival.id == incumbent.id else 0,
    )
    decision = decide(rules.keep, evidence)
    if rival.id != incumbent.id and not isinstance(decision, Discard):
        yield Rebase(id=e.id, onto=incumbent.commit)
        return
    match decision:
        case RunAgain(of=Side.CANDIDATE):
            yield from _run_again(state, e, for_id=e.id)
        case RunAgain():
            mine = [r for r in incumbent.runs if r.for_id == e.id]
            spoilt = [r for r in mine if r.failed and not r.disturbed]
            if mine and mine[-1].disturbed:
                yield from _when_calm(state, incumbent, e, now, rules)
            elif len(spoilt) > VOIDS_ALLOWED:
                why = f"the incumbent #{incumbent.id} could not be measured again: {spoilt[-1].reason}"
                yield Record(event=Judged(id=e.id, verdict=Verdict.VOID, reason=why))
            else:
                yield from _run_again(state, incumbent, for_id=e.id)
        case Keep() | Discard():
            yield Record(
                event=Judged(
                    id=e.id,
                    verdict=Verdict.KEEP if isinstance(decision, Keep) else Verdict.DISCARD,
                    reason=decision.reason,
                    delta=decision.delta,
                    delta_se=decision.se,
                    against=rival.id,
                )
            )
        case _:
            assert_never(decision)


def _run_again(state: State, e: Experiment, for_id: int) -> Iterator[Action]:
    """Plan one more run of `e`, on whatever lane it gets; of a candidate on top of the incumbent alone."""
    incumbent = state.incumbent
    if for_id == e.id != 0 and incumbent is not None and e.base != incumbent.commit:
        yield Rebase(id=e.id, onto=incumbent.commit)
    else:
        number = len(e.runs) + 1
        yield Record(event=RunStarted(id=e.id, run=number, seed=seed_of(e.id, number), for_id=for_id))
