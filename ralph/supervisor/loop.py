"""The daemon: fold the ledger, ask what to do, do it, wait for news. All its memory is in files.

The only place that turns errors into events, and the only `except Exception` of the package.
"""

import contextlib
import math
import traceback
from datetime import timedelta

from ralph.core import picture, report
from ralph.core.actions import Action, End, Measure, Record, Wait
from ralph.core.asking import notices
from ralph.core.brief import Options
from ralph.core.fold import State, fold
from ralph.core.step import Rules, next_actions
from ralph.errors import ExitStatus, RalphError
from ralph.events import (
    CampaignOpened,
    Committed,
    Entry,
    Event,
    Judged,
    LaneWaits,
    Paused,
    Resumed,
    RunEnded,
    RunStarted,
    Scored,
    Settled,
    StopRequested,
    SupervisorStarted,
    SupervisorStopped,
)
from ralph.ports import News, World
from ralph.supervisor.early_stops import EarlyStops
from ralph.supervisor.experiment import Experiments

# What is found out, decided or done has no effect by itself: the first effect that follows makes all of it durable at
# once. Until then a power cut may have it done again, which finds it done.
FOUND = Committed | RunEnded | Scored | Judged | Settled
BEGINS_S = 0.025  # what a small program takes to begin, and a third longer if the last verdict is carried out beside it
STOP_WITHIN_S = 30.0  # how long the end waits for killed process trees to be gone


class Supervisor:
    """One supervisor's life in one folder."""

    def __init__(self, world: World, rules: Rules, brief_options: Options, state: State | None = None) -> None:
        """Go on from `state`, behind which only the ledger's entries come, or from the beginning of the ledger."""
        self.state: State = fold(world.ledger.entries(), state)
        self._world, self._rules = world, rules
        self._experiments = Experiments(world, self.state, rules.mix, brief_options, self._record)
        self._early_stops = EarlyStops(world, self.state, rules.prune)
        self._waiting: Wait | None = None
        self._stale_report, self._reported_at = True, 0.0
        self._run_began_at = -math.inf
        self._new_verdict, self._drawn_at = False, -math.inf

    def run(self, opening: CampaignOpened) -> End:
        """Work until a limit, a wish or a problem ends it. Nothing that it started is left when it returns."""
        world = self._world
        if self.state.arena is None:
            self._record(opening)
        self._record(
            SupervisorStarted(
                pid=world.pid,
                host=world.host,
                version=world.version,
                sandbox=world.sandbox,
                lanes=self._rules.lanes.count,
            )
        )
        try:
            world.repo.open_campaign(self.state.campaign, self.state.base)
            ending = self._work()
        except RalphError as error:
            ending = End(status=error.status, reason=str(error))
        except OSError as error:
            ending = End(status=ExitStatus.PARKED, reason=f"the machine refused: {error}")
        except Exception as error:
            with contextlib.suppress(OSError):
                world.papers.log(traceback.format_exc())
            reason = f"a bug in ralph: {type(error).__name__}: {error}. The traceback is in state/ralph.log"
            ending = End(status=ExitStatus.BUG, reason=reason)
        ending = self._with_room_for_last_words(ending)
        self._stop_jobs(ending.reason)
        self._record_end(SupervisorStopped(status=ending.status, reason=ending.reason))
        with contextlib.suppress(OSError):  # a full disk must not turn the reason, which the front prints, into a bug
            self._report()
            if math.isfinite(self._world.picture_every_s):
                self._draw(1.0)
        return ending

    def _record_end(self, event: SupervisorStopped) -> None:
        """In the ledger, or where its disk takes nothing any more, at least in what progress.md is made of."""
        try:
            self._record(event)
        except OSError:
            self.state.apply(Entry(seq=self.state.seq + 1, at=self._world.clock.utc(), event=event))
            self._stale_report = True

    def _with_room_for_last_words(self, ending: End) -> End:
        """`ending`, which says that the disk is full if that is behind it; the reserve is given up then."""
        shortage = self._world.disk.shortage()
        if not shortage:
            return ending
        self._world.disk.relieve()
        if ending.status is not ExitStatus.PARKED or shortage in ending.reason:
            return ending
        return End(status=ending.status, reason=f"{shortage} ({ending.reason})")

    def _work(self) -> End:
        while True:
            self._heed()
            self._waiting = None
            waited, before, wait_s = False, self.state.seq, min(self._world.report_every_s, self._world.watcher.every_s)
            for action in _in_time(self._possible(next_actions(self.state, self._world.clock.utc(), self._rules))):
                match action:
                    case End():
                        return action
                    case Record():
                        self._record(action.event)
                        if isinstance(action.event, RunStarted):  # at once: a device waits for nothing else
                            self._experiments.perform(Measure(id=action.event.id, run=action.event.run))
                            self._run_began_at = self._world.clock.monotonic()
                    case Wait():
                        self._waiting = action
                        wait_s = min(wait_s, (action.until - self._world.clock.utc()) / timedelta(seconds=1))
                    case _ if not self._experiments.is_under_way(action):
                        waited = waited or self._leave_it_the_processor()
                        self._experiments.perform(action)
            self._experiments.collect()
            self._note_who_has_the_device()
            idle = self.state.seq == before and not waited  # whoever works needs nothing of us now
            if self._use_spare_time(idle) or not idle:
                continue
            self._report()
            self._show_verdict()
            self._world.watcher.tick(self._news())
            wait_s = min(wait_s, self._early_stops.look(self._experiments.jobs), self._stand_by())
            self._world.control.wait(list(self._experiments.jobs.values()), max(0.0, wait_s))

    def _use_spare_time(self, idle: bool) -> bool:
        """Do one of the things that nobody waits for, in busy times as many as keeps few waiting. Whether it did."""
        spare = self._experiments.spare_time
        if not idle and not spare.is_behind:
            return False
        self._world.ledger.sync()
        done = spare.use()
        while spare.is_behind:
            spare.use()
        return done

    def _leave_it_the_processor(self) -> bool:
        """What is carried out beside a run can wait until that has begun, unless there is news. Whether it waited.

        The news may be a wish, which a second wait would not wake up for.
        """
        left_s = self._run_began_at + BEGINS_S - self._world.clock.monotonic()
        if left_s <= 0 or not any(kind == "run" for kind, *_ in self._experiments.jobs):
            return False
        self._world.control.wait(list(self._experiments.jobs.values()), left_s)
        return True

    def _stand_by(self) -> float:
        """Have the next agent stand by, but not beside a run whose clock counts from its start if thinking spares it.

        Seconds until the moment for it, if that is to come.
        """
        rules, state = self._rules, self.state
        spared = not rules.gated and rules.in_flight <= rules.lanes.count
        beside = spared and any(kind == "run" for kind, *_ in self._experiments.jobs)
        if beside or state.stop_requested is not None or rules.limits.reached(state, self._world.clock.utc()):
            return math.inf
        return self._experiments.stand_by()

    def _possible(self, actions: list[Action]) -> list[Action]:
        """Nothing begins on a full disk: what is in flight ends, then the loop parks."""
        begins = self._experiments.begins
        if not any(begins(action) for action in actions) or not (shortage := self._world.disk.shortage()):
            return actions
        return [a for a in actions if not begins(a)] or [End(status=ExitStatus.PARKED, reason=shortage)]

    def _news(self) -> News | None:
        """What the first run in flight says of itself."""
        return next(iter(self._all_news().values()), None)

    def _all_news(self) -> dict[tuple[int, int], News]:
        """What runs and scorings say of themselves, by experiment and number."""
        jobs = self._experiments.jobs.items()
        return {(id_, number): news for (_, id_, number), job in jobs if (news := job.news()) is not None}

    def _note_who_has_the_device(self) -> None:
        reason = next((news.waits_for for news in self._all_news().values() if news.waits_for), "")
        if reason != self.state.lane_waits:
            self._record(LaneWaits(reason=reason))

    def _heed(self) -> None:
        """Write down what people asked for since the last look."""
        wish, asked = self._world.control.read(), self.state.stop_requested
        if wish.stop_now and not (asked and asked.now):
            self._record(StopRequested(now=True, by=wish.by))
        elif wish.stop and asked is None:
            self._record(StopRequested(now=False, by=wish.by))
        if wish.pause and not self.state.paused:
            self._record(Paused(by=wish.by))
        elif self.state.paused and not wish.pause:
            self._record(Resumed(by=wish.by))

    def _record(self, event: Event) -> None:
        entry = self._world.ledger.append(event, durable=not isinstance(event, FOUND))
        self.state.apply(entry)
        self._stale_report = True
        self._world.watcher.event(entry)
        if isinstance(event, Settled | SupervisorStopped):
            self._world.keep()
        self._new_verdict |= isinstance(event, Judged)

    def _show_verdict(self) -> None:
        if self._new_verdict:
            self._new_verdict = False
            self._draw(self._world.picture_every_s)
            self._world.reach("reported")

    def _draw(self, at_most_every_s: float) -> None:
        now = self._world.clock.monotonic()
        if math.isfinite(at_most_every_s) and now - self._drawn_at >= at_most_every_s:
            self._world.papers.picture(picture.picture_data(self.state))
            self._drawn_at = now

    def _report(self) -> None:
        now = self._world.clock.monotonic()
        if self._stale_report or now - self._reported_at >= self._world.report_every_s:
            self._world.papers.progress(
                report.render_progress(self.state, self._world.clock.utc().astimezone(), self._live())
            )
            self._stale_report, self._reported_at = False, now

    def _live(self) -> report.Live:
        """What progress.md says beyond the ledger."""
        waiting = self._waiting
        return report.Live(
            news=self._all_news(),
            wait_until=waiting.until if waiting else None,
            wait_reason=waiting.reason if waiting else "",
            notices=tuple(notices(self.state, self._world.clock.utc(), self._rules.mix)),
        )

    def _stop_jobs(self, reason: str) -> None:
        """Ask every job to end and wait until its tree is gone; results that come now are not results."""
        jobs = list(self._experiments.jobs.values())
        for job in jobs:
            job.stop(reason)
        self._world.runner.drop()
        self._world.scorer.drop()
        self._world.agents.dismiss()
        deadline = self._world.clock.monotonic() + STOP_WITHIN_S
        while jobs and self._world.clock.monotonic() < deadline:
            self._world.control.wait(jobs, 1.0)
            jobs = [job for job in jobs if job.poll() is None]
        self._experiments.jobs.clear()
        with contextlib.suppress(OSError, RalphError):  # what the next start makes up for must not hide how it ended
            self._world.ledger.sync()  # that a checkout is done with is on disk before it goes
            while self._experiments.spare_time.use():
                continue


def _in_time(actions: list[Action]) -> list[Action]:
    """Decisions first, and with them the starts of runs; then what takes its time, such as carrying out a verdict.

    All of them were taken in view of the same state, and keep their order among each other.
    """
    return sorted(actions, key=lambda action: not isinstance(action, Record | End))
