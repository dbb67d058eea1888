"""A scorer is started while its run exports, neither earlier nor in vain, and nobody forgets it."""

from dataclasses import replace

from ralph.adapters.scripted.lab import Lab, LabScorer, Plan
from ralph.core.lanes import Lanes
from ralph.events import RunEnded, RunStarted, Scored
from ralph.model import CrashKind, Outcome
from ralph.ports import ScoreOrder, Signals
from tests.supervisor.labs import Bench, bench

RUN_S, EXPORT_S, SCORE_S, IMPORT_S = 325.0, 20.0, 5.0, 3.0


class Timed(LabScorer):
    """Notes when it prepares what; `asks_for_stop` has somebody stop the loop at that moment."""

    def __init__(self, lab: Lab, *, asks_for_stop: bool = False) -> None:
        super().__init__(lab)
        self.at: dict[tuple[int, int], float] = {}
        self.lab, self._asks_for_stop = lab, asks_for_stop

    def prepare(self, order: ScoreOrder) -> None:
        """Note the first time."""
        self.at.setdefault((order.id, order.run), self.lab.clock.seconds)
        super().prepare(order)
        if self._asks_for_stop:
            self.lab.signals = Signals(stop_now=True, by="a test")


class Knowing(Timed):
    """Needs no process for experiment 2, whose artifact is an odd file."""

    def remains(self, order: ScoreOrder) -> Scored | None:
        """Say so."""
        if order.id != 2:
            return None
        return Scored(id=order.id, run=order.run, outcome=Outcome.CRASH, crash=CrashKind.NO_ARTIFACT, reason="a FIFO")


def exporting(scorer: type[Timed] = Timed, lanes: int = 1, crash: CrashKind | None = None, **how: bool) -> Bench:
    """A laboratory whose runs export for a while; the second experiment may crash at the end of that."""
    lab = Lab(
        plan=lambda n: Plan(effect=0.01 * n, crash=crash if n == 2 else None),
        run_s=RUN_S, export_s=EXPORT_S, score_s=SCORE_S, import_s=IMPORT_S,
    )  # fmt: skip
    made = bench(lab, in_flight=lanes, lanes=Lanes(count=lanes))
    made.world = replace(made.world, scorer=scorer(lab, **how))
    return made


def test_it_is_started_once_training_is_over_and_has_imported_when_its_run_ends() -> None:
    made = exporting()
    made.run(3)
    began = {
        (entry.event.id, entry.event.run): (entry.at - made.lab.clock.start).total_seconds()
        for entry in made.ledger.log
        if isinstance(entry.event, RunStarted)
    }
    scorer = made.world.scorer
    assert isinstance(scorer, Timed)
    assert scorer.at == {key: at + RUN_S - EXPORT_S for key, at in began.items()}
    scored = [entry.event for entry in made.ledger.log if isinstance(entry.event, Scored)]
    assert {event.seconds for event in scored} == {SCORE_S - IMPORT_S}
    assert not [line for line in made.lab.started if line.startswith("drop score")]


def test_where_an_import_disturbs_no_run_it_is_started_as_soon_as_the_run_trains() -> None:
    made = exporting()
    made.lab.curve = lambda _order, share: 3.0 - share
    made.world = replace(made.world, scorer_imports=frozenset({"training", "export"}))
    made.run(2)
    scorer = made.world.scorer
    assert isinstance(scorer, Timed)
    assert scorer.at
    began = {
        (entry.event.id, entry.event.run): (entry.at - made.lab.clock.start).total_seconds()
        for entry in made.ledger.log
        if isinstance(entry.event, RunStarted)
    }
    assert all(at < began[key] + RUN_S - EXPORT_S for key, at in scorer.at.items())


def test_where_no_run_says_that_it_exports_none_is_started_early() -> None:
    made = bench(Lab(plan=lambda _: Plan()))
    made.run(3)
    assert not [line for line in made.lab.started if "prepare" in line]


def test_that_of_a_run_that_crashes_in_its_export_is_ended() -> None:
    made = exporting(crash=CrashKind.DEADLINE)
    made.run(3)
    lines = [line for line in made.lab.started if line.endswith(" 2.1") and "agent" not in line]
    assert lines == ["run 2.1", "prepare score 2.1", "drop score 2.1"]


def test_that_of_an_artifact_that_needs_none_is_ended() -> None:
    made = exporting(Knowing)
    made.run(3)
    lines = [line for line in made.lab.started if line.endswith(" 2.1") and "agent" not in line]
    assert lines == ["run 2.1", "prepare score 2.1", "drop score 2.1"]


def test_a_loop_that_is_stopped_meanwhile_leaves_none() -> None:
    made = exporting(asks_for_stop=True)
    made.run(3)
    assert made.lab.started == ["run 0.1", "prepare score 0.1", "drop score 0.1"]
    assert not [entry for entry in made.ledger.log if isinstance(entry.event, RunEnded | Scored)]


def test_on_several_lanes_each_is_taken_up_by_its_own_run() -> None:
    made = exporting(lanes=3)
    made.run(12)
    prepared = [line.removeprefix("prepare ") for line in made.lab.started if line.startswith("prepare score")]
    assert len(prepared) >= 12
    assert set(prepared) <= set(made.lab.started)
    assert not [line for line in made.lab.started if line.startswith("drop score")]
