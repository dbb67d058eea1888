"""The parts of progress.md below its headline: what was kept, what to learn from the rest, where the time went."""

from collections.abc import Sequence
from datetime import datetime

from ralph.core import findings
from ralph.core.figures import Figures, figures_of
from ralph.core.findings import DeadEnd, Failure
from ralph.core.fold import State
from ralph.core.memo import known, since_verdict
from ralph.core.spent import TimeSplit, time_split
from ralph.core.wording import code, counted, dollars, ids, md, moment, span
from ralph.model import Experiment, Verdict

KEPT = 20
RECENT = 20
GUIDANCE = 3
NEAR = 5
DEAD = 6
UNTRIED = 12


def kept_table(state: State) -> str:
    """The keeps, newest first, with what each gained over the incumbent of its time."""
    if not state.keeps:
        return ""
    older = state.keeps[:-KEPT]
    ends = (state.experiments[0].score, state.experiments[older[-1]].score) if older else (None, None)
    return known(state, "kept table", (len(state.keeps), ends, figures_of(state)), _kept_table)


def _kept_table(state: State) -> str:
    digits = figures_of(state)
    rows = [
        f"| {e.id} | {_change(digits, e)} | {md(e.hypothesis, 200)}{_lines(e)} "
        f"| {md(e.agent, 30)} | {code(e.commit[:7])} |"
        for e in (state.experiments[k] for k in reversed(state.keeps[-KEPT:]))
    ]
    older = state.keeps[:-KEPT]
    if older:
        first, last = state.experiments[0].score, state.experiments[older[-1]].score
        so_far = digits.delta(last - first) if first is not None and last is not None else "–"
        rows.append(f"| … | {so_far} | the {len(older):,} before, together: `ralph log` lists them | | |")
    head = "| # | gain | what, and why it should work | agent | commit |\n|--:|---|---|---|---|"
    return "\n".join(("## Kept, newest first", "", head, *rows))


def _change(digits: Figures, e: Experiment) -> str:
    return "–" if e.delta is None else f"{digits.delta(e.delta)} {digits.error(e.delta_se)}"


def _lines(e: Experiment) -> str:
    return f" ({counted(-e.lines_delta, 'line')} fewer)" if e.lines_delta < 0 else ""


def lessons(state: State, now: datetime, notices: Sequence[str] = ()) -> str:
    """What a reader should take from the night, each line with the experiments that show it."""
    lines = [
        *[f"{md(notice, 200)}." for notice in notices[:8]],
        *_disturbed(state),
        *_guidance(state, now),
        *_verdicts(state),
    ]
    return "\n".join(("## Read this", "", *(f"- {line}" for line in lines))) if lines else ""


def _guidance(state: State, now: datetime) -> list[str]:
    lines = []
    for line, first in list(state.guidance.items())[: -GUIDANCE - 1 : -1]:
        when = state.guidance_at.get(line)
        of = f" of {moment(when, now)}" if when else ""
        after, total = findings.since(state.keeps, first), len(state.keeps)
        kept = f"{after} of {counted(total, 'keep')} came after it" if total else "nothing kept yet"
        lines.append(f"Your guidance{of} (“{md(line, 140)}”) is in every brief since #{first}: {kept}.")
    hidden = len(state.guidance) - len(lines)
    if hidden > 0:
        lines.append(f"Older guidance: {counted(hidden, 'line')}.")
    return lines


def _disturbed(state: State) -> list[str]:
    if not state.disturbed_runs:
        return []
    runs, last = counted(state.disturbed_runs, "run"), md(state.disturbed_by, 200)
    return [f"Void for the device's sake, and repeated: {runs}; the last because {last}."]


def _verdicts(state: State) -> list[str]:
    """What follows from verdicts alone, and from how many digits are shown."""
    stamp = (len(state.experiments), state.judged, figures_of(state))
    return known(state, "lessons", stamp, lambda state: [*_near(state), *_dead(state), *_common_causes(state)])


def _near(state: State) -> list[str]:
    close, digits = findings.near_misses(state, NEAR), figures_of(state)
    if not close:
        return []
    told = "; ".join(f"#{e.id} ({_change(digits, e)}, {md(e.hypothesis, 60)})" for e in close)
    return [f"Near misses worth a second look: {told}."]


def _dead(state: State) -> list[str]:
    ends = findings.dead_ends(state, DEAD)
    return [f"Dead ends, so nobody tries them again: {'; '.join(_dead_end(e) for e in ends)}."] if ends else []


def _dead_end(end: DeadEnd) -> str:
    what = code(str(end.move), 60) if end.move else md(end.idea, 60)
    return f"{what} ({ids(list(end.ids), 4)})"


def _common_causes(state: State) -> list[str]:
    return [_common_cause(each) for each in findings.failures(state) if len(each.ids) >= 2][:4]


def _common_cause(failure: Failure) -> str:
    total = len(failure.ids)
    what = f"{failure.kind[:1].upper()}{failure.kind[1:]}, {failure.total:,} times"
    why = f"“{md(failure.reason, 110)}”"
    same = f"each time {why}" if failure.same == total else f"{failure.same} of them {why}"
    if failure.same == 1:
        same = f"for different reasons, the last {why}"
    shared = f"; {failure.shared_by} of them had {code(str(failure.shared), 60)}" if failure.shared else ""
    return f"{what} ({ids(list(failure.ids), 4)}): {same}{shared}."


def failures_table(state: State) -> str:
    """Every kind of failure with its number and its latest case."""
    return since_verdict(state, "failures table", _failures_table)


def _failures_table(state: State) -> str:
    rows = []
    for failure in findings.failures(state):
        last = state.experiments[failure.ids[-1]]
        rows.append(f"| {md(failure.kind)} | {failure.total:,} | #{last.id} | {md(last.reason, 120)} |")
    if not rows:
        return ""
    head = "| kind | times | last | the last time |\n|---|--:|---|---|"
    return "\n".join(("## Failures by kind", "", head, *rows))


def time_and_money(state: State, now: datetime, alive: bool) -> str:
    """Shares of the supervised time, and what it cost."""
    split = time_split(state, now, alive)
    total = split.supervised_s
    if total <= 0:
        return ""
    lines = [_lanes_shares(state, split) if state.lanes > 1 else _shares(state, split, total)]
    if split.away_s >= 60:
        lines.append(f"no supervisor for {span(split.away_s)}")
    if split.hidden_s >= 1:
        lines.append(f"agents thought for {span(split.hidden_s)} while runs went on")
    told = f"{'; '.join(lines)}. {_cost(state)}{_early_stops(state)}{_ahead(state)}"
    return "\n".join(("## Where the time and the money went", "", told))


def _shares(state: State, split: TimeSplit, total: float) -> str:
    shares = (
        ("runs", split.run_s),
        ("scoring", split.score_s),
        ("waiting for an agent", split.waited_s),
        ("waiting for a usage limit", split.limited_s),
        ("overhead", split.overhead_s),
        ("idle", split.idle_s - split.limited_s),
    )
    parts = " · ".join(
        f"{name} {seconds / total:.0%}" for name, seconds in shares if seconds or name != "waiting for a usage limit"
    )
    return f"{parts} of {span(total)} supervised ({span(state.train_s)} of it training)"


def _lanes_shares(state: State, split: TimeSplit) -> str:
    """Of several lanes: how much of their time they had something to do."""
    total = state.lanes * split.alive_s
    runs, scoring = split.run_s / total, split.score_s / total
    rest = max(0.0, 1 - runs - scoring)
    lanes = f"{state.lanes} lanes over {span(split.alive_s)} supervised"
    return f"runs {runs:.0%} · scoring {scoring:.0%} · nothing to do {rest:.0%} of {lanes}"


def _ahead(state: State) -> str:
    """What thinking ahead costs: how often proposals are kept whose agents did not know the latest verdicts."""
    fresh = state.staleness.get(0, (0, 0))
    older = [counts for behind, counts in state.staleness.items() if behind > 0]
    many, kept = sum(n for n, _ in older), sum(k for _, k in older)
    if not many:
        return ""
    rate = f"{kept} of {many:,} ({kept / many:.0%})"
    beside = f", of those that knew them all {fresh[1]} of {fresh[0]:,} ({fresh[1] / fresh[0]:.0%})" if fresh[0] else ""
    return f" Of proposals made before the latest verdicts were known, {rate} were kept{beside}."


def _early_stops(state: State) -> str:
    """What was saved, and how often that was a mistake, as far as is known."""
    past = state.past
    if not past.stopped and not past.spared:
        return ""
    mistaken = f"{past.mistaken:,} of {counted(past.spared, 'spot check')}" if past.spared else "no spot check so far"
    return (
        f" {counted(past.stopped, 'run')} stopped early, which saved {span(past.saved_s)} of training; "
        f"worth a second look after all: {mistaken}."
    )


def _cost(state: State) -> str:
    if not state.usd and not state.tokens:
        return "The agents cost nothing."
    per_keep = f", {dollars(state.usd / len(state.keeps))} per keep" if state.keeps and state.usd else ""
    spent = {agent: cost for agent, cost in sorted(state.spent.items()) if cost.usd or cost.tokens}
    each = [f"{md(agent, 40)} {dollars(cost.usd)}, {cost.tokens:,} tokens" for agent, cost in spent.items()]
    apart = f" ({'; '.join(each[:8])})" if len(each) > 1 else ""
    return f"Agents: {dollars(state.usd)}, {state.tokens:,} tokens{per_keep}{apart}."


def recent_table(state: State) -> str:
    """The last experiments, newest first, with those in flight on top."""
    digits = figures_of(state)
    recent = list(findings.recent(state, RECENT))[::-1]
    if not recent:
        return ""
    rows = []
    for e in recent:
        verdict = f"**{e.verdict}**" if e.verdict is Verdict.KEEP else str(e.verdict or f"*{e.phase}*")
        score = digits.score(e.score) + (f" ({len(e.scores)})" if len(e.scores) > 1 else "")
        what = md(e.hypothesis, 110) or "–"
        rows.append(f"| {e.id} | {verdict} | {score} | {_change(digits, e)} | {what} | {md(e.reason, 110)} |")
    title = "## The last twenty" if len(state.experiments) > RECENT else "## All experiments, newest first"
    head = "| # | verdict | score (runs) | delta | what | why the verdict |\n|--:|---|---|---|---|---|"
    return "\n".join((title, "", head, *rows))


def advice(state: State) -> str:
    """How to steer, and what has not been touched."""
    lines = [
        "Write under *Guidance* in learnings.md, or change program.md in the arena's folder: the next brief has it, "
        'marked new. `ralph note "…"` does the same from anywhere.'
    ]
    if state.keeps:
        best = state.keeps[-1]
        lines.append(f"`ralph show {best}`, `ralph diff {best}`; `ralph adopt` takes the incumbent into your branch.")
    untried = findings.untried(state) if state.judged else []
    if untried:
        named = ", ".join(code(name.rpartition(":")[2], 40) for name in untried[:UNTRIED])
        more = f" and {len(untried) - UNTRIED} more" if len(untried) > UNTRIED else ""
        lines.append(f"Never touched so far: {named}{more}.")
    if state.judged >= RECENT and not findings.since(state.keeps, state.experiments.last - RECENT + 1):
        lines.append(
            "Nothing was kept among the last twenty: a new direction in the guidance helps more than another night."
        )
    return "\n\n".join(("## Steer", *lines))
