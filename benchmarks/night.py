"""A night with a language model whose provider misbehaves: does it end with every verdict, its budget and no process?

    python -m benchmarks.night [--experiments 300] [--json PATH]

A toy arena, the real command line, the real `anthropic` agent behind the real gateway, and a provider of ours on
loopback that speaks Messages over a real socket. A third of all calls meet a fault: limits with and without a stated
wait, overloads before and inside streams, streams that are cut or end early, broken tool arguments, refusals, answers
at their length limit. Twice the provider closes for an hour (the wall clock is set forward, nobody waits for it), and
three times the supervisor is killed. The money runs out before the end: the tuner, who costs nothing, does the rest.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ralph.adapters.ledger import read_entries
from ralph.events import AgentEnded, Briefed, Entry, Judged, SupervisorStarted
from ralph.model import AgentOutcome
from tests.arenas import TRAIN, ToyArena, toy_arena
from tests.provider import Fault, Provider, Reply, Request, ToolCall, Usage

PRICE = (3.0, 15.0)  # dollars per million tokens
READ, WROTE = 2_000, 300  # tokens of an answer
LONGEST_ANSWER = 16_000  # tokens that the agent allows one
HOUR = timedelta(hours=1)
QUIET_S = 120.0  # without a verdict for so long, something hangs
MARK = "RALPH_NIGHT_MARK"

TOML = """\
[arena]
name = "night"
editable = ["train.py"]

[run]
command = "python train.py"
budget_s = 20
device = "none"

[agent]
{who}
timeout_s = 60
repairs = 2
brief_tokens = 4000

[agents.model]
kind = "anthropic"
model = "model-of-the-night"
base_url = "{url}"
price = [{read}, {wrote}]

[budget]
usd = {usd}
"""

_USAGE = Usage(input=READ, output=WROTE)
FAULTS: tuple[tuple[str, Callable[[Reply], Reply]], ...] = (
    ("429 with a short wait", lambda _: Reply(status=429, headers={"retry-after": "0.1"}, error="slow down")),
    ("429 without a word", lambda _: Reply(status=429, error="slow down")),
    ("529", lambda _: Reply(status=529, error="overloaded")),
    ("500", lambda _: Reply(status=500, error="internal error")),
    ("overloaded inside the stream", lambda r: _with(r, fault=Fault.OVERLOADED)),
    ("stream cut in the middle", lambda r: _with(r, fault=Fault.CUT)),
    ("stream without its end", lambda r: _with(r, fault=Fault.NO_END)),
    ("malformed tool arguments", lambda _: Reply(tools=[ToolCall("write", '{"path": "train.py", "te')], usage=_USAGE)),
    ("refusal", lambda _: Reply(text="I would rather not.", fault=Fault.REFUSAL, usage=_USAGE)),
    ("length limit", lambda _: Reply(text="Let me think about", fault=Fault.MAX_TOKENS, usage=_USAGE)),
)


def _with(reply: Reply, **fields: Any) -> Reply:
    from dataclasses import replace

    return replace(reply, **fields)


@dataclass(slots=True, kw_only=True)
class Weather:
    """The provider's script: honest answers, a third of faults, and closed for an hour when told."""

    clock: Path
    draw: random.Random = field(default_factory=lambda: random.Random(20261124))
    faults: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    turned_away: int = 0
    closed_until: datetime | None = None

    def now(self) -> datetime:
        """The night's hour."""
        return datetime.now(UTC) + timedelta(seconds=float(self.clock.read_text()))

    def close(self) -> None:
        """A usage limit for an hour."""
        self.closed_until = self.now() + HOUR

    def pass_time(self) -> None:
        """The hour is over at once."""
        if self.closed_until is not None:
            left = self.closed_until - self.now() + timedelta(seconds=3)
            self.clock.write_text(str(float(self.clock.read_text()) + max(0.0, left.total_seconds())))

    def __call__(self, request: Request) -> Reply:
        """Answer one call."""
        if self.closed_until is not None and self.now() < self.closed_until:
            self.turned_away += 1
            reset = self.closed_until.isoformat()
            headers = {"anthropic-ratelimit-requests-reset": reset, "anthropic-ratelimit-requests-remaining": "0"}
            return Reply(status=429, headers=headers, error="usage limit reached")
        honest = self._honest(request)
        if self.draw.random() < 1 / 3:
            name, fault = self.draw.choice(FAULTS)
            self.faults[name] += 1
            return fault(honest)
        self.answered += 1
        return honest

    def _honest(self, request: Request) -> Reply:
        """Write the file anew, then submit; what a conversation has come to stands in its messages."""
        if "tool_result" in json.dumps(request.body["messages"][-1]) and '"is_error": true' not in json.dumps(
            request.body["messages"][-1]
        ):
            said = {"hypothesis": f"idea {request.number}, because it is another one; expect luck", "expected": "0"}
            return Reply(tools=[ToolCall("submit", said)], usage=_USAGE)
        rate = 0.1 + self.draw.random()
        text = TRAIN.replace("LEARNING_RATE = 0.5", f"LEARNING_RATE = {rate:.6f}")
        return Reply(tools=[ToolCall("write", {"path": "train.py", "text": text})], usage=_USAGE)


@dataclass(slots=True, kw_only=True)
class Night:
    """One night in one folder."""

    arena: ToyArena
    provider: Provider
    weather: Weather
    experiments: int
    mark: str
    kills: int = 0
    windows: int = 0

    def run(self) -> dict[str, Any]:
        """From the evening to the last verdict."""
        n, began = self.experiments, time.monotonic()
        self._loop_to(int(0.25 * n), 'use = "model"')  # alone: every wait is the loop's own
        for share in (0.5, 0.75):
            self._loop_to(int(share * n), "mix = {model = 0.9, tuner = 0.1}")
        self._loop_to(n, "mix = {model = 0.9, tuner = 0.1}", kill=False)
        return self._result(time.monotonic() - began)

    def _loop_to(self, verdicts: int, who: str, *, kill: bool = True) -> None:
        """Have a supervisor work up to so many verdicts, then kill -9 it in whatever it does, or let it end."""
        toml = self.arena.root / "arena.toml"
        # gone before the last experiments; a call is made only if its longest answer could be paid
        usd = 0.8 * self.experiments * 2.4 * _usd(READ, WROTE) + _usd(0, LONGEST_ANSWER)
        toml.write_text(TOML.format(who=who, url=self.provider.url, read=PRICE[0], wrote=PRICE[1], usd=round(usd, 4)))
        log = (self.arena.root / "state" / "night.log").open("ab")
        loop = subprocess.Popen(
            self.arena.argv("loop", "--max-experiments", str(self.experiments)),
            env={**os.environ, **self.arena.environment, MARK: self.mark, "ANTHROPIC_API_KEY": "a-key-of-no-worth"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        try:
            self._watch(loop, verdicts, kill=kill)
        finally:
            if loop.poll() is None:
                loop.kill()
            loop.wait()

    def _watch(self, loop: "subprocess.Popen[bytes]", verdicts: int, *, kill: bool) -> None:
        seen, last, windows_at = -1, time.monotonic(), {int(0.12 * self.experiments), int(0.4 * self.experiments)}
        while loop.poll() is None:
            done = self._judged()
            if done != seen:
                seen, last = done, time.monotonic()
                if windows_at and done >= min(windows_at) and self.windows < 2 and self._open_window(done):
                    self.windows += 1
            if self.weather.turned_away and self.weather.closed_until and self._is_waiting():
                self.weather.pass_time()
                self.weather.closed_until = None
            if kill and done >= verdicts:
                time.sleep(random.Random(done).random())  # in whatever it does then
                loop.send_signal(signal.SIGKILL)
                self.kills += 1
                return
            if time.monotonic() - last > QUIET_S:
                raise TimeoutError(f"no verdict for {QUIET_S:g} s after {done}; see {self.arena.root}/state/night.log")
            time.sleep(0.2)
        if kill or loop.returncode != 0:
            said = (self.arena.root / "state" / "night.log").read_text()[-2_000:]
            raise RuntimeError(f"the loop ended with status {loop.returncode} after {self._judged()} verdicts: {said}")

    def _open_window(self, done: int) -> bool:
        """Close the provider at 12% and at 40% of the night."""
        if self.windows == 1 and done < int(0.4 * self.experiments):
            return False
        self.weather.close()
        return True

    def _is_waiting(self) -> bool:
        """Whether an agent of the loop was sent away until the window's end."""
        ends = [e.event for e in self._entries() if isinstance(e.event, AgentEnded)]
        return bool(ends) and ends[-1].outcome is AgentOutcome.LIMITED

    def _entries(self) -> Iterator[Entry]:
        with contextlib.suppress(FileNotFoundError):
            yield from read_entries(self.arena.root / "state" / "ledger.jsonl")

    def _judged(self) -> int:
        try:
            return (self.arena.root / "state" / "ledger.jsonl").read_bytes().count(b'"judged"') - 1
        except FileNotFoundError:
            return -1

    def _result(self, seconds: float) -> dict[str, Any]:
        entries = list(self._entries())
        ends = [e.event for e in entries if isinstance(e.event, AgentEnded)]
        agents = {(e.event.id, e.event.attempt): e.event.agent for e in entries if isinstance(e.event, Briefed)}
        judged = [e.event for e in entries if isinstance(e.event, Judged) and e.event.id]
        model = [end for end in ends if agents[end.id, end.attempt] == "model"]
        proposed = [end for end in model if end.outcome is AgentOutcome.PROPOSED]
        status = self.arena.json("status")
        told = len(self.provider.requests) * _usd(READ, WROTE)
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "cores": len(os.sched_getaffinity(0)),
            "experiments": len({event.id for event in judged}),
            "verdicts": dict(Counter(str(event.verdict) for event in judged)),
            "wall_s": round(seconds),
            "kills": self.kills,
            "supervisors": sum(isinstance(e.event, SupervisorStarted) for e in entries),
            "closed_for_an_hour": self.windows,
            "turned_away": self.weather.turned_away,
            "calls": len(self.provider.requests),
            "honest_answers": self.weather.answered,
            "faults": dict(sorted(self.weather.faults.items())),
            "agents": dict(Counter(f"{agents[end.id, end.attempt]}: {end.outcome}" for end in ends)),
            "budget_usd": _budget(self.arena.root / "arena.toml"),
            "spent_usd": status["cost"]["usd"],
            "if_all_had_been_answered_usd": round(told, 6),
            "tokens": status["cost"]["tokens"],
            "calls_per_proposal": round(sum(end.calls for end in model) / max(1, len(proposed)), 2),
            "agent_s_median": round(statistics.median([end.seconds for end in proposed] or [0.0]), 2),
            "page_characters": len((self.arena.root / "progress.md").read_text()),
            "survivors": len(left(self.mark)),
        }


def _usd(read: int, wrote: int) -> float:
    return (read * PRICE[0] + wrote * PRICE[1]) / 1e6


def _budget(toml: Path) -> float:
    import tomllib

    return float(tomllib.loads(toml.read_text())["budget"]["usd"])


def left(mark: str) -> list[int]:
    """Processes that still carry the night's mark."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (process / "environ").read_bytes():
                    found.append(int(process.name))
    return found


def night(folder: Path, experiments: int) -> dict[str, Any]:
    """One night of so many experiments in an empty folder."""
    clock = folder / "clock"
    clock.write_text("0")
    weather = Weather(clock=clock)
    with Provider(weather) as provider:
        arena = toy_arena(
            folder / "arena", [], toml=TOML.format(who='use = "model"', url=provider.url, read=1, wrote=1, usd=1)
        )
        arena.environment["RALPH_CLOCK_SHIFT"] = str(clock)
        made = Night(arena=arena, provider=provider, weather=weather, experiments=experiments, mark=uuid.uuid4().hex)
        return made.run()


def main() -> None:
    """Run, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--experiments", type=int, default=300)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ralph-night-") as folder:
        result = night(Path(folder), options.experiments)
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if result["experiments"] < options.experiments or result["survivors"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
