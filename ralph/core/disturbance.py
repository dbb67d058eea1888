"""Was a run alone on its device? What was seen of the device while it trained, summed up and held against bounds.

Covers, on a GPU: foreign processes that compute there, and clocks held down by heat or a weak power supply (not by the
power limit, which is part of the device); on a CPU: time for which the run was ready to compute and others did, a
hypervisor's included, and heat. Does not cover: what others take without taking a core or the device (memory bandwidth,
caches, the second thread of a core), and what comes and goes between two looks at a GPU.
"""

from dataclasses import dataclass, field

from ralph.core.transitions import DEVICE
from ralph.model import JsonValue
from ralph.ports import Sample

SHORTEST_S = 1.0  # the kernel counts in ticks of a hundredth: less says nothing
IDLE = 0.1  # a run that computes less than a tenth of a core is held against that tenth
NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of it makes a run void; shares are of 1, and 1 is never too much.

    `disturbed_share`: on a CPU, what others took over what the run used; on a GPU, looks that found a foreign process.
    `throttled_share`: of the time that it trained.
    """

    disturbed_share: float = 0.15
    throttled_share: float = 0.25


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was seen so far; `add` takes one more look into account."""

    first: Sample | None = None
    last: Sample | None = None
    looks: int = 0
    _slowed: int = 0
    _foreign: int = 0
    _reasons: dict[str, None] = field(default_factory=dict)
    _caps: dict[str, None] = field(default_factory=dict)
    _others: dict[str, None] = field(default_factory=dict)
    _hottest: float | None = None
    _slowest: float | None = None

    def add(self, sample: Sample) -> None:
        """Take one more look into account."""
        self.first, self.last, self.looks = self.first or sample, sample, self.looks + 1
        self._slowed += bool(sample.slowed)
        self._foreign += bool(sample.others)
        self._reasons.update(dict.fromkeys(sample.slowed))
        self._caps.update(dict.fromkeys(sample.capped))
        if len(self._others) < NAMED:
            self._others.update(dict.fromkeys(sample.others[:NAMED]))
        if sample.temperature_c is not None:
            self._hottest = max(sample.temperature_c, self._hottest or sample.temperature_c)
        if sample.clock_mhz is not None:
            self._slowest = min(sample.clock_mhz, self._slowest or sample.clock_mhz)

    @property
    def seconds(self) -> float:
        """From the first look to the last."""
        return self.last.at_s - self.first.at_s if self.first and self.last else 0.0

    @property
    def taken_s(self) -> float | None:
        """CPU seconds that others took from the run; None where that is not known.

        Time that others used counts as far as the run waited for a core: on a machine with cores to spare it is free.
        """
        others, waited = self._others_s(), self._grew("waited_s")
        if others is None:
            return None
        return (self._grew("stolen_s") or 0.0) + (others if waited is None else min(others, waited))

    @property
    def others_share(self) -> float | None:
        """How much others had of the device; None where that is not known."""
        if self._grew("own_s") is None:
            return self._foreign / self.looks if self.looks and self.last and not self.last.unwatched else None
        taken, own = self.taken_s, self._grew("own_s")
        if taken is None or own is None or self.seconds < SHORTEST_S:
            return None
        return taken / max(own, IDLE * self.seconds)

    @property
    def throttled_share(self) -> float | None:
        """For how much of the time it was slowed by no fault of the run; None where that is not known."""
        if (slowed_s := self._grew("throttled_s")) is not None:
            return min(1.0, slowed_s / self.seconds) if self.seconds >= SHORTEST_S else None
        known = self.looks and self.last and not self.last.unwatched and self.last.own_s is None
        return self._slowed / self.looks if known else None

    def disturbed(self, bounds: Bounds) -> str:
        """What spoilt the run, in words; empty when nothing did, or nothing is known."""
        share, slowed = self.others_share, self.throttled_share
        if share is not None and share > bounds.disturbed_share < 1.0:
            bound = f"more than the {bounds.disturbed_share:.0%} of device.disturbed_share"
            if self._grew("own_s") is None:
                who = ", ".join(self._others)
                return f"others computed on its device for {share:.0%} of the time, {bound}: {who}"
            return f"others took {self.taken_s or 0.0:.1f} CPU seconds from it, {share:.0%} of what it used, {bound}"
        if slowed is not None and slowed > bounds.throttled_share < 1.0:
            why = ", ".join(self._reasons) or "heat"
            return f"its device was slowed by {why} for {slowed:.0%} of the time (device.throttled_share)"
        return ""

    def record(self) -> dict[str, JsonValue]:
        """What is worth keeping, by the names of a run's record; what is not known is left out."""
        last = self.last
        if last is None:
            return {}
        machine = (self._others_s() or 0.0) / (last.cores * self.seconds) if last.cores and self.seconds else None
        seen: dict[str, JsonValue] = {
            "watched_s": round(self.seconds, 1),
            "others_share": _rounded(self.others_share),
            "others_s": _rounded(self._others_s(), 2),
            "machine_share": _rounded(machine),
            "waited_s": _rounded(self._grew("waited_s"), 2),
            "stolen_s": _rounded(self._grew("stolen_s"), 2),
            "others": ", ".join(self._others) or None,
            "temperature_c": _rounded(self._hottest, 1),
            "clock_mhz": _rounded(self._slowest, 0),
            "throttled_share": _rounded(self.throttled_share),
            "throttled": ", ".join(self._reasons) or None,
            "capped": ", ".join(self._caps) or None,
            "memory_used_bytes": last.memory_used_bytes,
            "unwatched": last.unwatched or None,
        }
        return {DEVICE + name: value for name, value in seen.items() if value is not None}

    def _others_s(self) -> float | None:
        busy, own = self._grew("busy_s"), self._grew("own_s")
        if busy is None or own is None:
            return None
        return max(0.0, busy - own - (self._grew("stolen_s") or 0.0))

    def _grew(self, name: str) -> float | None:
        before, after = getattr(self.first, name, None), getattr(self.last, name, None)
        return None if before is None or after is None else max(0.0, after - before)


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)
