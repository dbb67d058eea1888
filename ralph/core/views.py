"""What programs are shown: the JSON of `ralph status`, `log` and `show`, the rows of history.jsonl and results.tsv.

Outsiders rely on these keys: they may grow, none changes its meaning. Scores and deltas are in the metric's own units,
seconds are seconds, times are ISO 8601 in UTC, what is unknown is null.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from ralph.core.audit import audit_of
from ralph.core.fold import State
from ralph.core.spent import seconds_since, time_split
from ralph.core.transitions import DEVICE
from ralph.core.wording import plain
from ralph.errors import ExitStatus
from ralph.model import EarlyStop, Experiment, Learning, Run, Superseded, Verdict

View = dict[str, Any]


class LoopPhase(StrEnum):
    """What the loop is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    PARKED = "parked"  # needs a human
    STOPPED = "stopped"


def loop_phase(state: State, alive: bool) -> tuple[LoopPhase, str]:
    """The loop's phase and why; `alive` says whether a supervisor holds the folder."""
    stopped = state.stopped
    if stopped is not None:
        parked = stopped.status == ExitStatus.PARKED
        return (LoopPhase.PARKED if parked else LoopPhase.STOPPED), stopped.reason
    if not alive:
        if state.session_started is None:
            return LoopPhase.STOPPED, "it has not been started yet"
        return LoopPhase.STOPPED, "the supervisor ended without a word (killed, or the machine went down)"
    if state.paused:
        return LoopPhase.PAUSED, f"paused by {state.paused_by}" if state.paused_by else "paused"
    if state.stop_requested is not None:
        return LoopPhase.RUNNING, f"stopping after the run in hand, as asked by {state.stop_requested.by}"
    return LoopPhase.RUNNING, ""


def status_view(state: State, now: datetime, alive: bool) -> View:
    """`ralph status --json`. `noise.runs` counts the repeats that sigma is estimated from (degrees of freedom)."""
    phase, reason = loop_phase(state, alive)
    arena, baseline, incumbent, noise = state.arena, state.baseline, state.incumbent, state.noise
    split = time_split(state, now, alive)
    return {
        "campaign": state.campaign or None,
        "phase": str(phase),
        "reason": reason,
        "arena": {
            "name": arena.name if arena else None,
            "metric": arena.metric if arena else None,
            "direction": str(arena.direction) if arena else None,
            "hash": arena.hash if arena else None,
            "device": arena.device if arena else None,
        },
        "baseline": {"score": baseline.score if baseline else None, "runs": len(baseline.scores) if baseline else 0},
        "incumbent": {
            "id": incumbent.id if incumbent else None,
            "commit": incumbent.commit if incumbent else None,
            "score": incumbent.score if incumbent else None,
            "runs": len(incumbent.scores) if incumbent else 0,
        },
        "noise": {"sigma": noise.sigma, "runs": noise.dof},
        "audit": _audit(state),
        "experiments": state.begun,
        "verdicts": {str(v): state.counts[v] for v in Verdict},
        "in_flight": [
            {
                "id": e.id,
                "phase": str(e.phase),
                "agent": e.agent or None,
                "seconds": round(seconds_since(state.since.get(e.id), now), 1),
            }
            for e in state.open()
        ],
        "lane_waits": state.lane_waits,
        "lanes": state.lanes,
        "disturbed_runs": state.disturbed_runs,
        "staleness": [
            {"verdicts_behind": behind, "judged": judged, "kept": kept}
            for behind, (judged, kept) in sorted(state.staleness.items())
        ],
        "time_s": {
            "run": round(split.run_s, 1),
            "score": round(split.score_s, 1),
            "agent": round(split.agent_s, 1),
            "idle": round(split.idle_s, 1),
            "overhead": round(split.overhead_s, 1),
        },
        "cost": {"usd": round(state.usd, 6), "tokens": state.tokens},
        "spent": {
            agent: {"usd": round(cost.usd, 6), "tokens": cost.tokens} for agent, cost in sorted(state.spent.items())
        },
        "waiting": {
            agent: {"until": _iso(weather.until), "reason": weather.reason}
            for agent, weather in sorted(state.weather.items())
            if weather.until > now
        },
    }


def _audit(state: State) -> View | None:
    """The audit in aggregate; null before a keep is audited. Gains are above 0 where better."""
    found = audit_of(state)
    if found is None:
        return None
    numbers = {"search_gain": found.search_gain, "audit_gain": found.audit_gain, "se": found.se}
    return {"keeps": found.keeps, **numbers, "finding": str(found.finding) if found.finding else None}


def log_view(state: State, last: int | None = None) -> list[View]:
    """`ralph log --json`: every experiment, or the `last` ones, oldest first; `verdict` is null while in flight."""
    ids = list(state.experiments) if last is None else list(state.experiments)[-last:]
    return [_log_row(state, state.experiments[id_]) for id_ in ids]


def _log_row(state: State, e: Experiment) -> View:
    pinned = e.id > 0 and bool(e.commit)
    return {
        "id": e.id,
        "verdict": str(e.verdict) if e.verdict else None,
        "reason": e.reason,
        "scores": list(e.scores),
        "delta": e.delta,
        "hypothesis": e.hypothesis,
        "agent": e.agent or None,
        "base": e.base,
        "commit": e.commit or None,
        "ref": f"refs/ralph/{state.campaign}/experiments/{e.id}" if pinned else None,
        "started": _iso(e.started),
        "ended": _iso(e.ended),
        "run_s": round(e.run_s, 3),
        "agent_s": round(e.agent_s, 3),
        "usd": round(e.usd, 6),
    }


def show_view(state: State, id: int) -> View:  # noqa: A002 - the word of the ledger
    """`ralph show ID --json`: the row of the log and everything else the ledger has on one experiment.

    Raises:
        KeyError: there is no such experiment.
    """
    e = state.experiments.whole(id)
    return {
        **_log_row(state, e),
        "phase": str(e.phase),
        "crash": str(e.crash) if e.crash else None,
        "score": e.score,
        "delta_se": e.delta_se,
        "against": e.against,
        "incumbent": state.incumbent_id == id,
        "why": e.why,
        "attempts": e.attempt,
        "refusals": list(e.refusals),
        "drafts": [
            {"attempt": d.attempt, "reason": d.reason, "hypothesis": d.hypothesis, "commit": d.commit or None}
            for d in e.drafts
        ],
        "expected": e.proposal.expected if e.proposal else "",
        "learnings": [_learning(each) for each in e.proposal.learnings] if e.proposal else [],
        "supersedes": [each.learning for each in e.proposal.supersedes] if e.proposal else [],
        "superseded": [_superseded(each) for each in e.proposal.supersedes] if e.proposal else [],
        "replicates": e.proposal.replicates if e.proposal else None,
        "verdicts_behind": e.stale,
        "lines_delta": e.lines_delta,
        "constants": dict(e.constants),
        "tokens": e.tokens,
        "runs": [_run_row(run) for run in e.runs],
    }


def _learning(learning: Learning) -> View:
    return {"text": learning.text, "evidence": list(learning.evidence)}


def _superseded(each: Superseded) -> View:
    return {"learning": each.learning, "because": each.because, "evidence": list(each.evidence)}


def _run_row(run: Run) -> View:
    return {
        "run": run.number,
        "seed": run.seed,
        "for_id": run.for_id,
        "lane": run.lane,
        "started": _iso(run.started),
        "outcome": str(run.outcome) if run.outcome else None,
        "scored": str(run.scored) if run.scored else None,
        "score": run.score,
        "score_se": run.score_se,
        "crash": str(run.crash) if run.crash else None,
        "reason": run.reason,
        "tail": run.tail,
        "setup_s": run.setup_s,
        "train_s": run.train_s,
        "export_s": run.export_s,
        "seconds": run.seconds,
        "score_s": run.score_s,
        "peak_bytes": run.peak_bytes,
        "disturbed": run.disturbed,
        "early": _early(run.early),
        "device": {name.removeprefix(DEVICE): value for name, value in run.device.items()},
    }


def _early(early: EarlyStop | None) -> View | None:
    """Why a run was stopped early, or would have been, had it not been a spot check."""
    return None if early is None else asdict(early)


def history_row(state: State, id: int) -> View:  # noqa: A002
    """One line of history.jsonl: `constants` are those that differ from the baseline's; the baseline has them all."""
    e = state.experiments[id]
    base, values = state.constants, state.resolved_constants(id)
    constants = dict(base) if id == 0 else {k: v for k, v in values.items() if k not in base or base[k] != v}
    return {
        "id": e.id,
        "verdict": str(e.verdict) if e.verdict else None,
        "reason": e.reason,
        "crash": str(e.crash) if e.crash else None,
        "scores": list(e.scores),
        "score": e.score,
        "delta": e.delta,
        "early": _early(e.early),
        "agent": e.agent,
        "hypothesis": e.hypothesis,
        "constants": constants,
    }


def note_text(state: State, id: int) -> str:  # noqa: A002
    """The verdict as a git note: what `git log --notes=ralph` shows beside the commit."""
    e = state.experiments[id]
    lines = [f"{e.verdict}: {plain(e.reason)}", f"experiment: {state.campaign}#{e.id}"]
    if e.agent:
        lines.append(f"agent: {e.agent}")
    if e.scores:
        lines.append(f"scores: {' '.join(f'{score:.6f}' for score in e.scores)}")
    if e.delta is not None and e.against is not None:
        error = f" ± {e.delta_se:.6f}" if e.delta_se is not None else ""
        lines.append(f"delta: {e.delta:+.6f}{error} against #{e.against}")
    return "\n".join(lines)


def results_header(state: State) -> str:
    """The first line of results.tsv, without its line end."""
    return results_columns(state.arena.metric if state.arena else "val_bpb")


def results_columns(metric: str) -> str:
    """The first line of results.tsv for a metric: the ancestor's five columns, then ours."""
    columns = ("commit", _cell(metric), "memory_gb", "status", "description")
    return "\t".join((*columns, "id", "verdict", "runs", "delta", "agent", "run_s", "agent_s", "reason"))


def results_line(state: State, id: int) -> str:  # noqa: A002
    """One verdict as a line of results.tsv, without its line end.

    `status` has the three words the ancestor's notebook knows: invalid and void say `crash` there, which the notebook
    leaves out of its curves, and have their own word under `verdict`. Without a measurement the score is 0.000000 and
    the memory 0.0, as in the ancestor; a run that was stopped early has none. A score of an invalid experiment is
    not shown.
    """
    e = state.experiments[id]
    measured = e.verdict in (Verdict.KEEP, Verdict.DISCARD) and e.score is not None
    peak_gb = max((run.peak_bytes for run in e.runs), default=0) / 2**30 if measured else 0.0
    return "\t".join(
        (
            e.commit[:7] or "-",
            f"{e.score:.6f}" if measured else "0.000000",
            f"{peak_gb:.1f}",
            str(e.verdict) if measured else "crash",
            _cell(e.hypothesis or e.reason, 300) or "-",
            str(e.id),
            str(e.verdict or "-"),
            str(len(e.scores)),
            "-" if e.delta is None else f"{e.delta:+.6f}",
            _cell(e.agent) or "-",
            f"{e.run_s:.1f}",
            f"{e.agent_s:.1f}",
            _cell(e.reason, 300) or "-",
        )
    )


def _cell(text: str, width: int = 0) -> str:
    """Text that neither a tab, a line end nor a quote can break out of a column."""
    return plain(text, width).replace('"', "'")


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
