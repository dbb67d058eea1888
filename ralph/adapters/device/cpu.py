"""The CPU as a device: leased by core, watched by the kernel's own sums.

A run's share is the sum over its process tree of what each process and its reaped children computed. Not covered: the
time of processes that a run lets the kernel reap unseen (SIGCHLD ignored), which counts as that of others; and the
waiting of threads that begin and end between two looks, which counts as none.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import psutil

from ralph.adapters import shim
from ralph.adapters.device.lease import Lease, lease_place
from ralph.ports import Sample

TICKS = os.sysconf("SC_CLK_TCK")
NANO = 1e9
THROTTLED = "thermal_throttle/core_throttle_total_time_ms"


class CpuDevice:
    """The port `Device` on the cores that this process, and so a run, may use."""

    name = "the CPU"
    sample_s = 5.0  # the looks that matter are those at the beginning and the end of training

    def __init__(self, owner: Path) -> None:
        self._cores = os.sched_getaffinity(0)
        self._lease = Lease(lease_place(), [f"cpu{core:04d}" for core in self._cores], owner)
        self._root: int | None = None
        self._waits: dict[tuple[int, str], int] = {}  # of each thread of this run, those that are gone included

    def lease(self) -> str:
        """Take these cores."""
        return self._lease.take()

    def release(self) -> None:
        """Give them back."""
        self._lease.release()

    def taken(self) -> str:
        """The memory of the machine is nobody's own."""
        return ""

    def sample(self, root: int | None, waiting: Sequence[int] = ()) -> Sample:
        """Look at the kernel's sums; a few milliseconds. Nobody waits for a CPU with a process of its own."""
        del waiting
        pids = [pid for pid, _ in shim.descendants([(root, 0)])] if root else []
        busy_s, stolen_s = busy_of(Path("/proc/stat").read_text(), self._cores)
        return Sample(
            at_s=time.monotonic(),
            own_s=sum(map(_computed_s, pids)) if root else None,
            busy_s=busy_s,
            stolen_s=stolen_s,
            waited_s=self._waited_s(root, pids),
            throttled_s=_throttled_s(self._cores),
            cores=len(self._cores),
            temperature_c=_temperature_c(),
            clock_mhz=getattr(psutil.cpu_freq(), "current", None) or None,
        )

    def _waited_s(self, root: int | None, pids: list[int]) -> float | None:
        """For how long the run's threads were ready and had no core; None where the kernel does not count."""
        if root != self._root:
            self._root, self._waits = root, {}
        for pid in pids:
            for thread in _threads(pid):
                with contextlib.suppress(OSError, IndexError, ValueError):  # gone meanwhile
                    waited = int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[1])
                    self._waits[pid, thread] = waited
        return sum(self._waits.values()) / NANO if self._waits else None


def busy_of(stat: str, cores: AbstractSet[int]) -> tuple[float, float]:
    """From the text of /proc/stat, for these cores: seconds that anybody computed, and of these stolen ones.

    >>> busy_of("cpu 9 9 9 9 9 cpu0", {0})
    (0.0, 0.0)
    >>> busy_of("cpu0 100 50 50 900 7 20 30 40 33 0", {0}) == (290 / TICKS, 40 / TICKS)
    True
    """
    busy = stolen = 0
    for line in stat.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (*map(int, fields[:8]), *[0] * (8 - len(fields)))[
                :8
            ]
            busy += user + nice + system + irq + softirq + steal  # what guests take is in user already
            stolen += steal
    return busy / TICKS, stolen / TICKS


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - names, not paths
    except OSError:
        return []  # gone meanwhile


def _computed_s(pid: int) -> float:
    """Of a process and those of its children that are gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0  # gone meanwhile, and now in the sum of who reaped it
    return sum(map(int, fields[11:15])) / TICKS


def _throttled_s(cores: AbstractSet[int]) -> float | None:
    """For how long heat slowed the core that it slowed most; None where the machine does not count."""
    times = []
    for core in cores:
        with contextlib.suppress(OSError, ValueError):
            times.append(int(Path(f"/sys/devices/system/cpu/cpu{core}/{THROTTLED}").read_text()))
    return max(times) / 1000 if times else None


def _temperature_c() -> float | None:
    with contextlib.suppress(OSError):
        known = psutil.sensors_temperatures()
        readings = [
            each.current for name in ("coretemp", "k10temp", "zenpower", "cpu_thermal") for each in known.get(name, [])
        ]
        return max(readings, default=None)
    return None
