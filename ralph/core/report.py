"""progress.md, the page a person reads in the morning: is it alive, what was gained, can it be trusted, what now.

A pure function of the state, the hour and what is going on this second. Times are shown in the zone of `now`, so pass a
local one. The length is bounded at any number of experiments; what agents wrote cannot break the page.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from ralph.core import findings
from ralph.core.audit import audit_of, sentence
from ralph.core.figures import Estimate, estimate, figures_of, gain_of
from ralph.core.fold import State
from ralph.core.report_tables import advice, failures_table, kept_table, lessons, recent_table, time_and_money
from ralph.core.spent import seconds_since
from ralph.core.views import LoopPhase, loop_phase
from ralph.core.wording import clock, counted, md, moment, offset, span
from ralph.layout import PICTURE
from ralph.model import Direction, Experiment, Phase, Verdict
from ralph.ports import News

SHOWN = 4  # of those in flight, on the first line


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What is going on this second, beyond the ledger.

    `news` is what each run at work, by its experiment and number, says of itself; `wait_until` and `wait_reason` say
    what the loop waits for when nothing is in flight; `notices`, which agents cannot be asked and why.
    """

    alive: bool = True
    news: Mapping[tuple[int, int], News] = field(default_factory=dict)
    wait_until: datetime | None = None
    wait_reason: str = ""
    notices: tuple[str, ...] = ()


def render_progress(state: State, now: datetime, live: Live | None = None) -> str:
    """The whole page. `now` carries the reader's time zone."""
    live = live or Live()
    parts = [
        _first_line(state, now, live),
        _trying(state),
        _title(state),
        _headline(state, now),
        f"![score over experiments]({PICTURE})" if state.baseline and state.baseline.scores else "",
        _counts(state),
        kept_table(state),
        lessons(state, now, live.notices),
        failures_table(state),
        time_and_money(state, now, live.alive),
        recent_table(state),
        advice(state),
        f"*Written {now:%Y-%m-%d %H:%M:%S}; times are {offset(now)}.*",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def first_line(state: State, now: datetime, live: Live | None = None) -> str:
    """The page's first line, for those who show one line."""
    return _first_line(state, now, live or Live())


def _first_line(state: State, now: datetime, live: Live) -> str:
    phase, reason = loop_phase(state, live.alive)
    said = md(reason, 300)
    match phase:
        case LoopPhase.RUNNING:
            doing = _in_flight(state, now, live) or [_between(state, now, live)]
            began = state.session_started or state.opened
            lasted = [f"{span(seconds_since(began, now))} since the start at {moment(began, now)}"] if began else []
            ending = [said] if said else ["stop with `ralph stop`"]
            return " · ".join(["**running**", *doing, *lasted, *ending])
        case LoopPhase.PAUSED:
            since = f" since {moment(state.paused_at, now)}" if state.paused_at else ""
            by = f" by {md(state.paused_by, 100)}" if state.paused_by else ""
            doing = [f"still finishing: {_doing(state, e, now, live)}" for e in state.open() if e.phase in _AT_WORK]
            return " · ".join([f"**paused**{since}{by}", *doing, "go on with `ralph resume`"])
        case LoopPhase.PARKED:
            return f"**parked**{_at(state, now)}, needs you: {said} · when it is mended, go on with `ralph loop`"
        case LoopPhase.STOPPED:
            return f"**stopped**{_at(state, now)}: {said} · {'go on' if state.campaign else 'start'} with `ralph loop`"
        case _:
            assert_never(phase)


_AT_WORK = frozenset({Phase.AGENT, Phase.COMMIT, Phase.RUN, Phase.SCORE, Phase.SETTLE})


def _at(state: State, now: datetime) -> str:
    when = state.stopped_at or state.last_at
    return f" at {moment(when, now)}" if when else ""


def _in_flight(state: State, now: datetime, live: Live) -> list[str]:
    """What each experiment does, those that run first; of many a few."""
    order = sorted(state.open(), key=lambda e: (e.id not in state.at_work, e.phase is not Phase.AGENT, e.id))
    more = [f"and {len(order) - SHOWN:,} more in flight"] if len(order) > SHOWN else []
    return [*(_doing(state, e, now, live) for e in order[:SHOWN]), *more]


def _between(state: State, now: datetime, live: Live) -> str:
    return "what was kept is being audited" if state.audits.at_work else _waiting(now, live)


def _waiting(now: datetime, live: Live) -> str:
    if live.wait_until is None:
        return md(live.wait_reason, 200) or "between two experiments"
    why = f": {md(live.wait_reason, 200)}" if live.wait_reason else ""
    return f"waiting until {moment(live.wait_until, now)}{why}"


def _doing(state: State, e: Experiment, now: datetime, live: Live) -> str:
    """One experiment in flight, with its stopwatch."""
    name = f"experiment {e.id}" if e.id else "the baseline"
    seconds = seconds_since(state.since.get(e.id), now)
    match e.phase:
        case Phase.AGENT:
            attempt = f", attempt {e.attempt}" if e.attempt > 1 else ""
            return f"{md(e.agent, 40) or 'an agent'} is thinking about {name}{attempt}, {clock(seconds)}"
        case Phase.RUN:
            if waits := _lane_waits(state, e, live):
                return f"{name}, {_running(state, e)}, waits for {waits}, {clock(seconds)}"
            return f"{name}, {_running(state, e)}, {_stage(state, seconds, _news(state, e, live))}"
        case Phase.SCORE:
            if waits := _lane_waits(state, e, live):
                return f"the scoring of {name} waits for {waits}, {clock(seconds)}"
            return f"{name} is being scored, {clock(seconds)}"
        case Phase.COMMIT:
            return f"{name} is being checked and committed"
        case Phase.DECIDE:
            if e.postponed or live.wait_until is not None:
                return f"{_waiting(now, live)}, then {name}"
            ready = e.commit and not e.own_runs and state.at_work
            return f"{name} waits for its turn" if ready else f"{name} is being weighed"
        case Phase.SETTLE | Phase.DONE:
            return f"{name} is done: {e.verdict}"
        case _:
            assert_never(e.phase)


def _news(state: State, e: Experiment, live: Live) -> News | None:
    hand = state.at_work.get(e.id)
    return None if hand is None else live.news.get((hand.owner, hand.run))


def _lane_waits(state: State, e: Experiment, live: Live) -> str:
    """Who has the device that it should have: by its own word, or, without one, by the ledger's of the only lane."""
    news = _news(state, e, live)
    return md(news.waits_for if news else state.lane_waits if state.lanes == 1 else "", 240)


def _running(state: State, e: Experiment) -> str:
    hand = state.at_work.get(e.id)
    if hand is None or hand.owner != e.id:
        return f"the incumbent #{hand.owner} measured again for it" if hand else "run"
    on = f" on lane {state.run_of(hand).lane}" if state.lanes > 1 else ""
    return f"run {hand.run}{on}"


def _stage(state: State, seconds: float, news: News | None) -> str:
    budget_s = state.arena.budget_s if state.arena else 0.0
    if news is None:
        return f"{clock(seconds)} so far with {clock(budget_s)} to train"
    of = f" of {clock(budget_s)}" if news.stage == "training" else ""
    step = f", step {news.step:,}" if news.step is not None else ""
    loss = f", loss {news.loss:.4g}" if news.loss is not None else ""
    return f"{md(news.stage, 40)} {clock(news.stage_s)}{of}{step}{loss}"


def _trying(state: State) -> str:
    lines = [
        f"Trying now (#{e.id}, {md(e.agent, 40) or 'agent'}): {md(e.hypothesis, 240)}"
        for e in state.open()
        if e.proposal and e.verdict is None
    ]
    return "  \n".join(lines[:4])


def _title(state: State) -> str:
    if state.arena is None:
        return "# No campaign yet"
    better = "lower" if state.arena.direction is Direction.MIN else "higher"
    return f"# {md(state.campaign, 60)} · {md(state.arena.name, 60)} · {md(state.arena.metric, 40)}, {better} is better"


def _headline(state: State, now: datetime) -> str:
    baseline, incumbent = state.baseline, state.incumbent
    if state.arena is None:
        return "`ralph loop` measures a baseline first, then proposes, runs and judges one change after another."
    if baseline is None or baseline.verdict is None:
        scores = len(baseline.scores) if baseline else 0
        so_far = f", {counted(scores, 'run')} so far" if scores else ""
        return f"No baseline yet: the untouched code is being measured{so_far}."
    if incumbent is None:
        return f"There is no baseline: it ended as **{baseline.verdict}**: {md(baseline.reason, 300)}."
    digits = figures_of(state)
    first, best, gain = estimate(state, baseline), estimate(state, incumbent), gain_of(state)
    if incumbent.id == 0:
        row = f"| {digits.show(first)} ({_runs(first)}) | the baseline itself | nothing yet | – |"
    else:
        when = span(seconds_since(incumbent.ended, now))
        row = (
            f"| {digits.show(first)} ({_runs(first)}) | **{digits.show(best)}** (#{incumbent.id}, {_runs(best)}) "
            f"| {digits.show_change(gain)}{_percent(gain, first)} | {when} ago |"
        )
    table = f"| baseline | incumbent | gain | since |\n|---|---|---|---|\n{row}"
    return table + _caution(state, incumbent)


def _runs(value: Estimate) -> str:
    return counted(value.runs, "run")


def _percent(gain: Estimate, baseline: Estimate) -> str:
    return f" ({abs(gain.mean / baseline.mean):.2%})" if baseline.mean else ""


def _caution(state: State, incumbent: Experiment) -> str:
    """What a careful reader should know about the incumbent's score."""
    if state.noise.sigma is None:
        return "\n\nThe noise is not known yet: nothing was run twice, so small gains may be luck."
    if incumbent.id and len(incumbent.scores) == 1:
        return "\n\nThe incumbent was measured once and chosen for it: expect a repeat to be a little worse."
    return ""


def _counts(state: State) -> str:
    if not state.judged:
        return ""
    counts = state.counts
    verdicts = (
        f"{counts[Verdict.KEEP]} kept, {counts[Verdict.DISCARD]} discarded, "
        f"{counted(counts[Verdict.CRASH], 'crash', 'crashes')}, {counts[Verdict.INVALID]} invalid, "
        f"{counts[Verdict.VOID]} void"
    )
    noise, digits = state.noise, figures_of(state)
    sigma = (
        "unknown" if noise.sigma is None else f"sigma {digits.small(noise.sigma)} from {counted(noise.dof, 'repeat')}"
    )
    return f"{counted(state.judged, 'experiment')}: {verdicts}. Noise: {sigma}; {_trust(state)}.{_audit(state)}"


def _audit(state: State) -> str:
    said = sentence(audit_of(state))
    return f" {said}" if said else ""


def _trust(state: State) -> str:
    if not state.keeps:
        return "nothing kept so far"
    return f"expected false keeps: at most {findings.false_keeps(state):.1f} of {len(state.keeps)}"
