"""What nobody waits for is done before the loop waits, piece by piece, and takes nothing along that is in use."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from ralph.adapters.scripted.lab import Lab, LabClock, LabControl, LabRepo, LabScorer, MemoryLedger, Plan
from ralph.core.decision import KeepRule
from ralph.core.fold import State
from ralph.core.lanes import Lanes
from ralph.errors import ExitStatus
from ralph.events import Scored, Settled
from ralph.model import Outcome
from ralph.ports import Job, ScoreOrder, Signals
from ralph.supervisor.loop import BEGINS_S
from ralph.supervisor.spare_time import MOST_LEFT, SpareTime
from tests.supervisor.labs import Bench, bench


def made(in_flight: int = 2, **times: float) -> Bench:
    lab = Lab(plan=lambda number: Plan(effect=0.1, hypothesis=f"idea {number}"), **times)  # type: ignore[arg-type]
    return bench(lab, keep=KeepRule(max_runs=1), in_flight=in_flight, lanes=Lanes(count=1, early=True))


class CountingLedger(MemoryLedger):
    """Counts how often the disk is waited for."""

    def __init__(self, clock: LabClock) -> None:
        super().__init__(clock)
        self.waits = 0

    def sync(self) -> None:
        self.waits += self.lasting < len(self.log)
        super().sync()


class Reporting(LabScorer):
    """The score can be read as soon as the run has ended."""

    def remains(self, order: ScoreOrder) -> Scored | None:
        return Scored(id=order.id, run=order.run, outcome=Outcome.OK, score=1.0)


def test_from_the_end_of_a_run_to_the_start_of_the_next_the_disk_is_waited_for_once() -> None:
    """Events of both are on it then."""
    lab = made()
    ledger, waits, at = CountingLedger(lab.lab.clock), list[int](), 0

    def look(point: str) -> None:
        nonlocal at
        if point == "run_ended":
            at = ledger.waits
        elif point == "run_started" and type(ledger.log[-3].event) is Scored:
            waits.append(ledger.waits - at)

    lab.world, lab.ledger = replace(lab.world, ledger=ledger, scorer=Reporting(lab.lab), reach=look), ledger
    lab.run(6)
    assert len(waits) >= 4
    assert set(waits) == {1}


@pytest.mark.parametrize(("run_s", "waits_s"), [(325.0, BEGINS_S), (0.01, 0.0)])
def test_a_verdict_is_carried_out_once_the_next_run_has_begun_and_nothing_waits_without_one(
    run_s: float, waits_s: float
) -> None:
    lab = made(in_flight=2 if waits_s else 1, run_s=run_s, score_s=0.0)
    clock, began_s, waited_s = lab.lab.clock, 0.0, list[float]()

    def look(point: str) -> None:
        nonlocal began_s
        if point in ("run_started", "run_ended"):
            began_s = clock.seconds
        elif point == "noted" and len(lab.ledger.log) > 20:
            waited_s.append(clock.seconds - began_s)

    lab.world = replace(lab.world, reach=look)
    lab.run(6)
    assert len(waited_s) >= 3
    assert waited_s[:-2] == pytest.approx([waits_s] * (len(waited_s) - 2))


class Woken(LabControl):
    """Somebody asks for the end during the wait of this number, which that wakes up, and no other."""

    def __init__(self, lab: Lab, number: int) -> None:
        super().__init__(lab)
        self._left, self._unread, self.slept_over = number, False, 0.0

    def read(self) -> Signals:
        self._unread = False
        return super().read()

    def wait(self, jobs: Iterable[Job[object]], timeout_s: float) -> None:
        self.slept_over += timeout_s if self._unread else 0.0
        self._left -= 1
        if self._left:
            super().wait(jobs, timeout_s)
        else:
            self._lab.signals, self._unread = Signals(stop=True, by="a test"), True


@pytest.mark.parametrize("in_flight", [2, 3])
@pytest.mark.parametrize("number", range(1, 20))
def test_a_wish_that_woke_the_loop_up_is_read_before_it_waits_again(
    number: int, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when nothing is left for spare time, which would have the loop look again."""
    use = SpareTime.use

    def all_of_it(self: SpareTime) -> bool:
        while use(self):
            pass
        return False

    monkeypatch.setattr(SpareTime, "use", all_of_it)
    lab = made(in_flight, run_s=325.0, score_s=0.0)
    control = Woken(lab.lab, number)
    lab.world = replace(lab.world, control=control)
    assert lab.run(6).reason.startswith("stopped")
    assert control.slept_over == 0


def test_in_one_iteration_the_disk_is_waited_for_five_times() -> None:
    """For the brief, the agent's end, the start of the run, that of its scorer, and the verdict."""
    lab = made(in_flight=1)
    ledger, waits = CountingLedger(lab.lab.clock), list[int]()

    def look(point: str) -> None:
        if point == "briefed":
            waits.append(ledger.waits)

    lab.world, lab.ledger = replace(lab.world, ledger=ledger, reach=look), ledger
    lab.run(4)
    assert [after - before for before, after in pairwise(waits)] == [5] * 3


def test_whenever_the_loop_waits_all_that_is_settled_is_in_the_index_and_its_checkouts_are_gone() -> None:
    lab, looks = made(), list[tuple[set[int], set[int], set[str]]]()

    class Looking(LabControl):
        def wait(self, jobs: Iterable[Job[object]], timeout_s: float) -> None:
            settled = {e.event.id for e in lab.ledger.log if isinstance(e.event, Settled)}
            looks.append((settled, set(lab.papers.remembered), {f"{id_}-agent" for id_ in settled} & {*lab.repo.trees}))
            super().wait(jobs, timeout_s)

    lab.world = replace(lab.world, control=Looking(lab.lab))
    lab.run(6)
    assert len(looks) > 6
    assert all(settled == remembered and not left for settled, remembered, left in looks)
    assert set(lab.papers.remembered) == set(range(len(lab.supervisor.state.experiments)))


class Careful(LabRepo):
    """No checkout goes before the ledger on disk knows that it is done with."""

    def __init__(self, lab: Lab, ledger: MemoryLedger) -> None:
        super().__init__(lab)
        self._ledger = ledger

    def discard(self, name: str) -> None:
        if name in self.trees and name.endswith("-agent"):
            assert self._ledger.lasting == len(self._ledger.log), name
        super().discard(name)


@pytest.mark.parametrize("breaks", [False, True])
def test_no_checkout_goes_at_the_end_before_the_ledger_knows_that_it_is_done_with(breaks: bool) -> None:
    """Its proposal was paid for."""
    lab = made(in_flight=1)

    class Breaking(MemoryLedger):
        def sync(self) -> None:
            if breaks and lab.disk.short:
                raise OSError("the disk is gone")
            super().sync()

    ledger = Breaking(lab.lab.clock)

    def look(point: str) -> None:
        if point == "committed":
            lab.disk.short = "the disk is full"

    repo = Careful(lab.lab, ledger)
    lab.world, lab.ledger = replace(lab.world, ledger=ledger, repo=repo, reach=look), ledger
    assert lab.run(3).status is ExitStatus.PARKED
    assert ("1-agent" in repo.trees) is breaks


def busy() -> Bench:
    """Many lanes, short runs, and a repository that takes its time."""
    lab = Lab(plan=lambda n: Plan(effect=0.1, hypothesis=f"idea {n}"), run_s=1.0, score_s=0.1, agent_s=0.5)

    class Slow(LabRepo):
        def note(self, commit: str, text: str) -> None:
            lab.clock.seconds += 0.02
            super().note(commit, text)

        def checkout(self, name: str, commit: str) -> Path:
            lab.clock.seconds += 0.02
            return super().checkout(name, commit)

    many = bench(lab, keep=KeepRule(max_runs=1), in_flight=128, lanes=Lanes(count=64, early=True))
    many.world = replace(many.world, repo=Slow(lab))
    return many


def test_however_busy_many_lanes_are_few_things_are_left() -> None:
    many, left = busy(), list[int]()

    def look(point: str) -> None:
        if point == "noted":
            settled = sum(isinstance(e.event, Settled) for e in many.ledger.log)
            left.append(settled - len(many.papers.remembered))

    many.world = replace(many.world, reach=look)
    many.run(300)
    assert max(left) <= MOST_LEFT + 64, "what may be left, and what the lanes add until the next look"


def test_a_checkout_that_a_killed_supervisor_left_goes_at_the_next_start() -> None:
    lab = made(in_flight=1)

    def kill(point: str) -> None:
        if point == "run_ended" and lab.supervisor.state.experiments.last == 2:
            raise KeyboardInterrupt  # nothing of what would follow is done

    whole = lab.world
    lab.world = replace(whole, reach=kill)
    with pytest.raises(KeyboardInterrupt):
        lab.run(4)
    assert "2-run-1" in lab.repo.trees
    lab.world = whole
    assert lab.run(4).status is ExitStatus.DONE
    assert not lab.repo.trees


def test_a_checkout_that_was_to_go_does_not_take_the_next_of_its_name_along() -> None:
    lab = made()
    spare_time = SpareTime(lab.world, State())
    for tree in ("1-agent", "2-agent"):
        spare_time.checkout(tree, "c0")
        spare_time.discard(tree)
    spare_time.checkout("1-agent", "c1")
    assert [spare_time.use(), spare_time.use()] == [True, False]
    assert lab.repo.trees == {"1-agent": "c1"}
