"""A campaign in the few lines that an agent needs: standing, keeps, last verdicts, failures, near misses."""

from collections.abc import Iterator

from ralph.core.figures import Figures, estimate, figures_of
from ralph.core.findings import dead_ends, failures, near_misses, recent, untried
from ralph.core.fold import State
from ralph.core.wording import counted, ids, plain
from ralph.model import Direction, Experiment, Verdict

KEEPS = 12
LAST = 12
TAILS = 2  # crashes shown with the end of their log
TAIL_LINES = 12
WORDS = 160  # characters of one hypothesis
WHY = 160  # … of one reason
UNTRIED = 20


def standing(state: State) -> str:
    """The figures: metric, baseline, incumbent, noise, counts. Words of ours only."""
    show = figures_of(state)
    arena, baseline, incumbent, noise = state.arena, state.baseline, state.incumbent, state.noise
    lines = []
    if arena is not None:
        better = "lower" if arena.direction is Direction.MIN else "higher"
        lines.append(f"- metric: {plain(arena.metric, 60)}, {better} is better; budget {arena.budget_s:g} s")
    for name, e in (("baseline", baseline), ("incumbent", incumbent)):
        if e is not None and e.scores:
            value = estimate(state, e)
            lines.append(f"- {name}: {show.show(value)} (#{e.id}, {counted(value.runs, 'run')})")
    if noise.sigma is None:
        lines.append("- noise: not known yet")
    else:
        lines.append(f"- noise: sigma {show.small(noise.sigma)} of one run; a gain below that is mostly luck")
    counts = ", ".join(f"{state.counts[verdict]} {verdict}" for verdict in Verdict)
    lines.append(f"- {counted(state.judged, 'verdict')}: {counts}")
    return "\n".join(lines)


def lists(state: State) -> Iterator[tuple[str, str, float]]:
    """What else there is to say: words of ours, lines of data, and the part of the digest that they may take."""
    last = [e for e in recent(state, 2 * LAST) if e.verdict is not None][-LAST:]
    keeps = [state.experiments[n] for n in reversed(state.keeps[-KEEPS:])]
    older = len(state.keeps) - len(keeps)
    more = f" ({counted(older, 'older one')} not shown)" if older else ""
    yield "Under way now by others; propose something else:", _under_way(state), 0.1
    yield "The last verdicts, newest first:", _verdicts(state, list(reversed(last))), 0.34
    yield f"Kept, newest first{more}:", _verdicts(state, keeps), 0.24
    yield "Near misses, worth a second look or a combination:", _verdicts(state, near_misses(state)), 0.12
    yield "How the latest crashes ended:", _tails(last), 0.2
    yield "Failures by kind:", _failures(state), 0.12
    yield "Dead ends, tried again and again and never a gain:", _dead_ends(state), 0.1
    yield "Constants that no experiment has changed:", _untried(state), 0.08


def _under_way(state: State) -> str:
    proposed = [e for e in state.open() if e.proposal is not None and e.verdict is None]
    return "\n".join(f"#{e.id} [{plain(e.agent, 30)}] {plain(e.hypothesis, WORDS)}" for e in proposed[-LAST:])


def verdict_line(state: State, e: Experiment) -> str:
    """One experiment on one line."""
    return _line(figures_of(state), e)


def _line(show: Figures, e: Experiment) -> str:
    score = f" {show.score(e.score)}" if e.score is not None else ""
    delta = (
        f" ({show.delta(e.delta)}{f' {show.error(e.delta_se)}' if e.delta_se else ''})" if e.delta is not None else ""
    )
    agent = f" [{plain(e.agent, 30)}]" if e.agent else ""
    kind = f" ({e.crash})" if e.crash is not None else ""
    return f"#{e.id} {e.verdict}{kind}{score}{delta}{agent} {plain(e.hypothesis, WORDS)} — {plain(e.reason, WHY)}"


def _verdicts(state: State, experiments: list[Experiment]) -> str:
    show = figures_of(state)
    return "\n".join(_line(show, e) for e in experiments)


def _tails(last: list[Experiment]) -> str:
    crashed = [e for e in reversed(last) if e.verdict is Verdict.CRASH and any(run.tail for run in e.runs)][:TAILS]
    blocks = []
    for e in crashed:
        tail = next(run.tail for run in reversed(e.runs) if run.tail)
        lines = [line for raw in tail.splitlines()[-TAIL_LINES:] if (line := plain(raw, WORDS))]
        blocks.append("\n".join([f"#{e.id} {plain(e.hypothesis, WORDS)}", *(f"    {line}" for line in lines)]))
    return "\n".join(blocks)


def _failures(state: State) -> str:
    lines = []
    for failure in failures(state):
        shared = f"; most of them: {plain(str(failure.shared), 60)}" if failure.shared else ""
        numbers = ids(list(failure.ids), most=4)
        lines.append(f"{failure.total} {failure.kind}: {plain(failure.reason, WHY)} ({numbers}){shared}")
    return "\n".join(lines)


def _dead_ends(state: State) -> str:
    return "\n".join(
        f"{plain(str(end.move or end.idea), WORDS)} ({ids(list(end.ids), most=4)})" for end in dead_ends(state)
    )


def _untried(state: State) -> str:
    names = untried(state)
    more = f" and {len(names) - UNTRIED} more" if len(names) > UNTRIED else ""
    return plain(", ".join(plain(name, 80) for name in names[:UNTRIED]) + more) if names else ""
