"""What one kill domain may use of the machine: numbers from arena.toml, or from the machine where that says nothing."""

import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from ralph.config import LimitsTable

GB = 10**9
MB = 10**6
MEMORY_SHARE = 0.9  # of the machine's, for one domain
SPARE_MEMORY_SHARE = 0.03  # of the machine's, that stays free for everybody else
SPARE_MEMORY = (256 * MB, 2 * GB)  # bounds of that
TASKS, TASKS_PER_CORE = 2048, 64
PID_MAX_SHARE = 4  # a domain has at most one in so many of the process ids there are
OPEN_FILES = 65_536
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class LimitKind(StrEnum):
    """Which limit ended a payload."""

    MEMORY = "memory"
    PROCESSES = "processes"
    OUTPUT = "output"
    DISK = "disk"
    LARGEST = "largest"  # the machine's memory ran low, and this payload was the one that had most of it
    MACHINE = "machine"  # the machine's memory or disk ran low by no fault of this payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one domain; None is no bound.

    Attributes:
        memory_bytes: of all its processes together; what they share counts once. Files in memory of its own count.
        tasks: processes and threads at one time.
        open_files: descriptors of any one process.
        log_bytes: of its standard output and error.
        disk_bytes: by which its writable folders may grow; also the largest file that any of it can write, if that is
            more than `memory_bytes`.
        spare_memory_bytes: what the machine keeps available, or the domain is ended.
        spare_disk_bytes: the same for the disk that its folder is on.
    """

    memory_bytes: int | None = None
    tasks: int | None = None
    open_files: int | None = None
    log_bytes: int | None = None
    disk_bytes: int | None = None
    spare_memory_bytes: int | None = None
    spare_disk_bytes: int | None = None

    def orders(self) -> dict[str, int | None]:
        """As the shim is told."""
        return asdict(self)


def limits_of(table: LimitsTable, folder: Path) -> Limits:
    """The limits of an arena, for a domain on the disk that holds `folder`."""
    spare = int(table.spare_disk_gb * GB)
    room = psutil.disk_usage(str(folder)).free
    memory = machine_memory()
    return Limits(
        memory_bytes=int(table.memory_gb * GB) or int(memory * MEMORY_SHARE),
        tasks=table.processes or _most_tasks(),
        open_files=table.open_files or None,
        log_bytes=int(table.log_mb * MB),
        disk_bytes=int(table.disk_gb * GB) or max((room - spare) // 2, 1),
        spare_memory_bytes=int(table.spare_memory_gb * GB) or _spare_memory(memory),
        spare_disk_bytes=spare,
    )


def machine_memory() -> int:
    """Bytes of memory that this process and all others here can have: the machine's, or less in a container."""
    total = psutil.virtual_memory().total
    for name in CGROUP_LIMITS:
        try:
            total = min(total, int(Path(name).read_text()))
        except (OSError, ValueError):  # no such version of cgroups, or no limit ("max")
            continue
    return total


def _spare_memory(memory: int) -> int:
    low, high = SPARE_MEMORY
    return min(high, max(low, int(memory * SPARE_MEMORY_SHARE)))


def _most_tasks() -> int:
    try:
        pids = int(Path("/proc/sys/kernel/pid_max").read_text())
    except (OSError, ValueError):
        pids = 32_768
    return min(TASKS + TASKS_PER_CORE * len(os.sched_getaffinity(0)), pids // PID_MAX_SHARE)
