"""Campaigns in the laboratory that are audited: when it happens, what it says, and where it is never seen."""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from ralph.adapters.scripted.lab import AUDIT_OFFSET, Lab, LabScorer, Plan, TimedJob
from ralph.core.audit import Finding, audit_of
from ralph.core.decision import KeepRule
from ralph.core.fold import State, fold
from ralph.core.views import log_view, show_view, status_view
from ralph.errors import ExitStatus
from ralph.events import Audited, AuditStarted, CampaignOpened, Entry, RunEnded, RunStarted, Scored
from ralph.model import Learning, Outcome, Verdict
from ralph.ports import Job, ScoreOrder
from tests.supervisor.labs import OPENING, Bench, bench

AUDITED: CampaignOpened = replace(OPENING, arena=replace(OPENING.arena, audit=True))
ACCUSED, CALM = "the campaign is over-fitting the validation set", "Audit split agrees within noise."


def ideas(share: float) -> Callable[[int], Plan]:
    """Every third idea is worth 5 sigma on the validation set, and `share` of that on the audit split."""

    def plan(number: int) -> Plan:
        effect = -0.0025 if number % 3 == 0 else random.Random(number).choice((0.0, 0.001))
        return Plan(
            effect=effect,
            audit_effect=effect * share if effect < 0 else None,
            hypothesis=f"idea {number}, because of reason {number}",
            learnings=(Learning(text=f"idea {number} taught something", evidence=(number - 1,)),),
        )

    return plan


def campaign(plan: Callable[[int], Plan], experiments: int, opening: CampaignOpened = AUDITED) -> Bench:
    made = bench(Lab(plan=plan))
    assert made.run(experiments, opening).status is ExitStatus.DONE
    return made


def good_runs(state: State) -> set[tuple[int, int]]:
    kept = [e for e in state.experiments.values() if e.verdict is Verdict.KEEP]
    return {(e.id, run.number) for e in kept for run in e.runs if run.score is not None}


def in_lane(log: list[Entry]) -> list[tuple[float, float, object]]:
    """When the lane was taken, by what: a run and its scoring, or an audit."""
    begun: dict[tuple[bool, int, int], Entry] = {}
    spans = []
    for entry in log:
        event = entry.event
        if isinstance(event, RunStarted | AuditStarted):
            begun[isinstance(event, AuditStarted), event.id, event.run] = entry
        elif isinstance(event, Scored | Audited):
            first = begun.pop((isinstance(event, Audited), event.id, event.run))
            spans.append((first.at.timestamp(), entry.at.timestamp(), first.event))
    assert not begun
    return sorted(spans, key=lambda span: span[:2])


def test_each_artifact_of_what_was_kept_is_audited_once_and_nothing_else_is() -> None:
    made = campaign(ideas(1.0), 12)
    audited = [(e.event.id, e.event.run) for e in made.ledger.log if isinstance(e.event, Audited)]
    state = made.supervisor.state
    assert len(state.keeps) >= 3
    assert len(audited) == len(set(audited))
    assert set(audited) == good_runs(state)
    assert audited[0] == (0, 1)


def test_an_audit_shares_the_lane_with_no_run_and_no_experiment_waits_for_more_than_one() -> None:
    made = campaign(ideas(1.0), 20)
    spans = in_lane(made.ledger.log)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    lab, waits = made.lab, []
    at = {(e.event.kind, getattr(e.event, "id", None)): e.at.timestamp() for e in made.ledger.log}
    for e in made.supervisor.state.experiments.values():
        if e.id:
            runs = [event for _, _, event in spans if isinstance(event, RunStarted) and event.for_id == e.id]
            whole_s = at["settled", e.id] - at["committed", e.id]
            waits.append(whole_s - len(runs) * (lab.run_s + lab.score_s))
    assert max(waits) <= lab.score_s + 0.01, "all else takes no time in a laboratory"
    assert min(waits) >= -0.01


def test_audits_take_place_while_an_agent_thinks_and_that_time_is_accounted_for_once() -> None:
    made = campaign(ideas(1.0), 10)
    status = status_view(made.supervisor.state, made.lab.clock.utc(), alive=False)
    split = status["time_s"]
    state = made.supervisor.state
    assert split["overhead"] == pytest.approx(0.0, abs=1.0)
    total = split["run"] + split["score"] + split["agent"] - state.hidden_s + split["overhead"] + split["idle"]
    assert total == pytest.approx(state.supervised_s, abs=1.0)


def test_without_an_audit_split_there_is_no_audit() -> None:
    made = campaign(ideas(1.0), 6, OPENING)
    assert not [e for e in made.ledger.log if "audit" in e.event.kind]
    assert "udit" not in made.papers.page
    assert status_view(made.supervisor.state, made.lab.clock.utc(), alive=False)["audit"] is None


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_campaign_that_gains_on_the_validation_set_alone_is_said_to_over_fit(share: float) -> None:
    made = campaign(ideas(share), 30)
    assert ACCUSED in made.papers.page
    assert made.papers.page.count("udit") == 1
    found = status_view(made.supervisor.state, made.lab.clock.utc(), alive=False)["audit"]
    assert found["finding"] == Finding.OVERFITTING
    assert found["audit_gain"] == pytest.approx(share * found["search_gain"], abs=4 * found["se"])
    assert made.supervisor.state.noise.sigma == pytest.approx(0.0005, rel=0.6), "audits are no repeats"


@pytest.mark.parametrize("share", [1.0, 1.3])
def test_a_campaign_whose_gains_hold_elsewhere_is_not(share: float) -> None:
    made = campaign(ideas(share), 30)
    assert CALM in made.papers.page
    assert ACCUSED not in made.papers.page


@pytest.mark.slow
def test_honest_campaigns_are_accused_less_often_than_the_rule_allows() -> None:
    """Twenty nights, looked at after each entry, with noise that the two splits do not share: the worst case."""
    accused = 0
    for night in range(20):
        made = bench(Lab(plan=honest(night)), keep=KeepRule(max_runs=2))
        made.run(15, AUDITED)
        state, looks = State(), []
        for entry in made.ledger.log:
            state.apply(entry)
            if isinstance(entry.event, Audited) and (audit := audit_of(state)) is not None:
                looks.append(audit.finding)
        assert len(looks) > 3 or not state.keeps
        accused += Finding.OVERFITTING in looks
    assert accused <= 2


def honest(night: int) -> Callable[[int], Plan]:
    def plan(number: int) -> Plan:
        effect = random.Random(1000 * night + number).choice((-0.001, -0.0005, 0.0, 0.0))
        return Plan(effect=effect, hypothesis=f"idea {night}.{number}, because of reason {number}")

    return plan


# --- what goes wrong


class Shaky(LabScorer):
    """A scorer whose first audits end without an answer."""

    def __init__(self, lab: Lab, voids: int) -> None:
        super().__init__(lab)
        self._shaky, self._left = lab, voids

    def start(self, order: ScoreOrder) -> Job[Scored]:
        if order.audit and self._left:
            self._left -= 1
            void = Scored(id=order.id, run=order.run, outcome=Outcome.VOID, reason="the machine", seconds=1.0)
            return TimedJob(self._shaky.clock, 1.0, void)
        return super().start(order)


@pytest.mark.parametrize(("voids", "missing"), [(2, 0), (3, 1)])
def test_an_audit_that_says_nothing_is_repeated_a_few_times_and_then_left(voids: int, missing: int) -> None:
    made = bench(Lab(plan=ideas(1.0)))
    made.world = replace(made.world, scorer=Shaky(made.lab, voids))
    assert made.run(3, AUDITED).status is ExitStatus.DONE
    state = made.supervisor.state
    assert set(state.audits.scores) == good_runs(state)
    assert list(state.audits.scores.values()).count(None) == missing
    attempts = [e.event.attempt for e in made.ledger.log if isinstance(e.event, AuditStarted)][:3]
    assert attempts == [1, 2, 3]


def test_cut_short_after_any_entry_a_restart_audits_what_is_missing_and_repeats_nothing() -> None:
    whole = campaign(ideas(0.3), 4)
    scores = {(e.event.id, e.event.run) for e in whole.ledger.log if isinstance(e.event, Audited)}
    for cut in range(8, len(whole.ledger.log), 3):
        made = bench(Lab(plan=ideas(0.3)))
        made.ledger.log = whole.ledger.log[:cut]
        made.lab.clock.seconds = (made.ledger.log[-1].at - made.lab.clock.start).total_seconds()
        made.lab.true, made.lab.audited = dict(whole.lab.true), dict(whole.lab.audited)
        keeps = fold(made.ledger.log).keeps
        made.repo.branches = {"lab": f"c{keeps[-1]}" if keeps else "c0"}
        assert made.run(4, AUDITED).status is ExitStatus.DONE
        again = [(e.event.id, e.event.run) for e in made.ledger.log if isinstance(e.event, Audited)]
        assert sorted(again) == sorted(scores)
        assert set(again) == good_runs(made.supervisor.state)


def test_a_stop_lets_the_audit_in_hand_finish_and_begins_no_other() -> None:
    made = campaign(ideas(1.0), 3)
    log = made.ledger.log
    first = next(i for i, e in enumerate(log) if isinstance(e.event, AuditStarted))
    stopped = bench(Lab(plan=ideas(1.0)))
    stopped.ledger.log = log[: first + 1]
    stopped.lab.signals = replace(stopped.lab.signals, stop=True, by="a test")
    assert stopped.run(3, AUDITED).status is ExitStatus.DONE
    kinds = [e.event.kind for e in stopped.ledger.log[first + 1 :]]
    assert kinds.count("audited") == 1
    assert kinds.count("audit_started") == 0


# --- where it is never seen


def test_no_audit_score_is_in_anything_that_people_or_agents_read_of_an_experiment() -> None:
    """The scores are told apart by their size: the audit split of this laboratory is another text altogether."""
    made = campaign(ideas(0.3), 30)
    state = made.supervisor.state
    audits = [e.event for e in made.ledger.log if isinstance(e.event, Audited)]
    scores = [event.score for event in audits if event.score is not None]
    assert min(scores) > AUDIT_OFFSET + made.lab.baseline - 0.03
    papers = made.papers
    read = [
        *papers.briefs.values(),
        *(json.dumps(row) for row in papers.rows.values()),
        *papers.lines.values(),
        *(str(document) for document in papers.remembered.values()),
        *made.repo.notes.values(),
        json.dumps(papers.data),
        papers.learnings,
        papers.page,
        *papers.logged,
        json.dumps(log_view(state)),
        *(json.dumps(show_view(state, id_)) for id_ in state.experiments),
    ]
    found = {
        digits for score in scores for digits in (f"{score:.5f}", f"{score:.4f}") if any(digits in t for t in read)
    }
    assert found == set()
    gains = status_view(state, made.lab.clock.utc(), alive=False)["audit"]
    assert not any(f"{gains['audit_gain']:.4f}" in text for text in read), "not even the sum of it"
    assert not any("audit" in text.lower() for text in read if text is not papers.page)


def test_the_events_say_nothing_of_runs_that_other_events_do_not() -> None:
    made = campaign(ideas(1.0), 3)
    ends = {(e.event.id, e.event.run) for e in made.ledger.log if isinstance(e.event, RunEnded)}
    assert {(e.event.id, e.event.run) for e in made.ledger.log if isinstance(e.event, Audited)} <= ends
