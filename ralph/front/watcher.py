"""What `ralph loop` prints: one line per event of note, and on a terminal a live line with a progress bar below."""

import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from ralph.adapters.notify import Notifier
from ralph.core.fold import State
from ralph.core.report import first_line
from ralph.core.views import status_view
from ralph.core.wording import plain
from ralph.events import (
    AgentEnded,
    Briefed,
    CampaignOpened,
    Committed,
    Entry,
    Judged,
    LaneWaits,
    Paused,
    Refused,
    Resumed,
    RunEnded,
    RunStarted,
    Scored,
    StopRequested,
    SupervisorStarted,
    SupervisorStopped,
)
from ralph.front.render import live_line
from ralph.model import AgentOutcome, Outcome
from ralph.ports import News, Watcher

BAR = 24
EVERY_S = 1.0
QUIET_S = 3600.0  # without a terminal nobody looks
CLEAR = "\r\033[K"


class TerminalWatcher:
    """Prints to one stream. `state` is asked anew at every look, since the loop owns it."""

    def __init__(self, state: Callable[[], State], stream: TextIO | None = None) -> None:
        self._state, self._stream = state, stream or sys.stdout
        self._live, self._lost = self._stream.isatty(), False
        self.every_s = EVERY_S if self._live else QUIET_S

    def event(self, entry: Entry) -> None:
        """Print what is worth a line."""
        text = describe(entry, self._state())
        if text:
            clear = CLEAR if self._live else ""
            self._say(f"{clear}{entry.at.astimezone():%H:%M:%S}  {text}\n")

    def tick(self, news: News | None) -> None:
        """Redraw the live line."""
        if not self._live:
            return
        width = max(20, shutil.get_terminal_size().columns - 1)
        text = live_text(self._state(), datetime.now(UTC), news)
        self._say(f"{CLEAR}{text[:width]}")

    def _say(self, text: str) -> None:
        """Print until the terminal is lost: writing to one that is gone fails with EIO, to a closed pipe with EPIPE."""
        if self._lost:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._lost, self.every_s = True, QUIET_S


class ServiceWatcher:
    """Tells a service manager what `inner` tells people: ready, alive, the first line of progress.md, stopping.

    The watchdog is fed by the loop's own turns and nothing else. Covers: a loop that hangs anywhere. Does not cover:
    one that turns without getting anywhere; its patience and its limits end that.
    """

    def __init__(self, inner: Watcher, notifier: Notifier, state: Callable[[], State]) -> None:
        self._inner, self._notifier, self._state = inner, notifier, state
        self._said = ""
        self.every_s = self._often()

    def _often(self) -> float:
        """As often as people want to look, and three times before the watchdog bites."""
        return min(self._inner.every_s, self._notifier.watchdog_s / 3)

    def event(self, entry: Entry) -> None:
        """Something was recorded: the loop works."""
        self._inner.event(entry)
        match entry.event:
            case SupervisorStarted():
                self._tell("READY=1")
            case SupervisorStopped():
                self._tell("STOPPING=1")
            case _:
                self._tell()

    def tick(self, news: News | None) -> None:
        """The loop is about to wait."""
        self._inner.tick(news)
        self.every_s = self._often()
        self._tell()

    def _tell(self, *lines: str) -> None:
        if not self._notifier.heard:
            return
        first = first_line(self._state(), datetime.now(UTC).astimezone())
        status = () if first == self._said and not lines else (f"STATUS={first}",)
        self._said = first
        self._notifier.send(*lines, "WATCHDOG=1", *status)


def live_text(state: State, now: datetime, news: News | None, room: int | None = None) -> str:
    """The live line: what is going on, and a bar while a run trains; in `room` columns, by default the terminal's.

    Three columns stay free: a ^C that the terminal echoes must not break the line in two.
    """
    room = max(20, shutil.get_terminal_size().columns - 3) if room is None else room
    text = live_line(status_view(state, now, alive=True), now.astimezone())
    if news is not None and news.stage == "training" and state.arena is not None:
        bar = min(BAR, room // 5)
        filled = round(min(1.0, news.stage_s / state.arena.budget_s) * bar)
        loss = f" · loss {news.loss:.3f}" if news.loss is not None else ""
        done = f"{'█' * filled}{'░' * (bar - filled)} {news.stage_s:.0f}/{state.arena.budget_s:.0f} s{loss}"
        text = f"{done} · {text}"
    while len(text) > room and " · " in text:  # whole parts go, the last ones first
        text = text.rpartition(" · ")[0]
    return text[:room]


def describe(entry: Entry, state: State) -> str:
    """One line for an event, or nothing where it is not worth one."""
    event = entry.event
    match event:
        case CampaignOpened():
            arena = event.arena
            return f"campaign {event.campaign}: {arena.name}, {arena.metric}, {arena.direction}, on {arena.device}"
        case SupervisorStarted():
            return f"supervisor {event.pid} started, sandbox {event.sandbox}"
        case SupervisorStopped():
            return f"stopped ({event.status}): {plain(event.reason)}"
        case StopRequested():
            again = "; once more stops it now" if event.by.startswith("SIG") else ""
            return f"stop requested by {event.by}: {'now' if event.now else f'after the run in hand{again}'}"
        case Paused() | Resumed():
            return f"{event.kind} by {event.by}"
        case Briefed():
            again = f", attempt {event.attempt}" if event.attempt > 1 else ""
            return f"#{event.id} {event.agent} is thinking{again}"
        case AgentEnded():
            return "" if event.outcome is AgentOutcome.PROPOSED else f"#{event.id} no proposal: {plain(event.reason)}"
        case Refused():
            return f"#{event.id} refused: {plain(event.reason)}"
        case Committed():
            return f"#{event.id} {plain(event.hypothesis)}"
        case RunStarted() | LaneWaits() | RunEnded() | Scored():
            return _describe_run(event)
        case Judged():
            return f"#{event.id} {event.verdict.upper()}  {plain(event.reason)}{_standing(state)}"
        case _:
            return ""


def _describe_run(event: RunStarted | LaneWaits | RunEnded | Scored) -> str:
    if isinstance(event, LaneWaits):
        return f"waiting for {plain(event.reason)}" if event.reason else ""
    name = f"#{event.id} run {event.run}"
    match event:
        case RunStarted():
            return f"{name}, seed {event.seed}" + (f" (for #{event.for_id})" if event.for_id != event.id else "")
        case RunEnded():
            return "" if event.outcome is Outcome.OK else f"{name} {event.outcome}: {plain(event.reason)}"
        case Scored():
            return f"{name} scored {event.score:.6g}" if event.score is not None else f"{name}: {plain(event.reason)}"


def _standing(state: State) -> str:
    incumbent = state.incumbent
    if incumbent is None or incumbent.score is None:
        return ""
    return f"  (incumbent #{incumbent.id}: {incumbent.score:.6g})"
