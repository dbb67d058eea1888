"""An NVIDIA GPU as a device, through NVML. Without the library it is still leased, and every record says why no more.

Covers: who computes there and who holds memory, temperature, clocks, why they are held down, a lost GPU and the XID
errors that mean as much. Does not cover: in a container with process ids of its own, a foreign process that comes after
the run has begun, and a process of ours that is there before its turn, since ids are those of the host there.
"""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import psutil

from ralph.adapters import shim
from ralph.adapters.device.lease import Lease, lease_place
from ralph.errors import DeviceError
from ralph.ports import Sample

T = TypeVar("T")

GIB = 2**30
SLOWED = {
    "HwThermalSlowdown": "heat (hardware)",
    "SwThermalSlowdown": "heat",
    "HwPowerBrakeSlowdown": "the power supply's brake",
}
CAPPED = {"SwPowerCap": "power limit", "SyncBoost": "sync boost"}
# NVIDIA's list of XIDs: double-bit ECC, row remapping failed, NVLink, off the bus, uncontained memory error, GSP.
FATAL_XIDS = frozenset({48, 64, 74, 79, 95, 119, 120, 140})
LOST = ("NVML_ERROR_GPU_IS_LOST", "NVML_ERROR_RESET_REQUIRED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Occupant:
    """A process with memory on the GPU, as NVML knows it. `bytes` is None where it does not tell."""

    pid: int
    bytes: int | None

    def named(self) -> str:
        """For people."""
        try:
            name = psutil.Process(self.pid).name()
        except psutil.Error:
            name = "out of sight"
        size = f", {self.bytes / GIB:.1f} GiB" if self.bytes else ""
        return f"pid {self.pid} ({name}{size})"


def opens_gpu(pid: int) -> bool:
    """Has this process a GPU open, as far as we can see? Another user's we cannot look into: then it may have."""
    folder = Path(f"/proc/{pid}/fd")
    try:
        return any(str(each.readlink()).startswith("/dev/nvidia") for each in folder.iterdir())
    except PermissionError:
        return True
    except OSError:
        return False  # gone, or no process of this container


def foreign(
    there: list[Occupant], ours: set[int], before: set[int], opens: Callable[[int], bool] = opens_gpu
) -> list[Occupant]:
    """Of those on the GPU, who is not of the run. `before` were there when it began.

    Where NVML speaks of other process ids than we see, which shows in that none of them is the run's, only those are
    known to be foreign that were there before it. A process of ours may have the number of one of the host's by chance.
    """
    if any(each.pid in ours for each in there):
        return [each for each in there if each.pid not in ours]
    return [each for each in there if each.pid in before or opens(each.pid)]


class NvmlDevice:
    """The port `Device` on one GPU, by its UUID where torch tells it, else by its index. Seconds and bytes."""

    sample_s = 2.0

    def __init__(self, *, index: int, uuid: str, owner: Path, memory_used_bytes: int) -> None:
        self.name = f"cuda:{index}"
        self._allowed, self._index, self._uuid = memory_used_bytes, index, uuid
        self._nvml: ModuleType | None = None
        self._handle: Any = None
        self._events: Any = None
        self.unwatched = self._connect()
        self._before: set[int] = set()
        self._lease = Lease(lease_place(), [f"gpu-{self._uuid or index}"], owner)

    def _connect(self) -> str:
        """Why it cannot be watched; empty when it can."""
        try:
            pynvml = _library()
        except ImportError:
            return "nvidia-ml-py is not installed"
        try:
            pynvml.nvmlInit()
            self._handle = self._find(pynvml)
            self._uuid = str(pynvml.nvmlDeviceGetUUID(self._handle)).removeprefix("GPU-")
        except pynvml.NVMLError as error:
            return f"NVML: {error}"
        self._nvml = pynvml
        with contextlib.suppress(pynvml.NVMLError):  # not everywhere, and not for everybody
            self._events = pynvml.nvmlEventSetCreate()
            pynvml.nvmlDeviceRegisterEvents(self._handle, pynvml.nvmlEventTypeXidCriticalError, self._events)
        return ""

    def _find(self, nvml: ModuleType) -> Any:
        for prefix in ("GPU-", "MIG-") if self._uuid else ():
            with contextlib.suppress(nvml.NVMLError):
                return nvml.nvmlDeviceGetHandleByUUID(prefix + self._uuid)
        return nvml.nvmlDeviceGetHandleByIndex(self._index)

    def lease(self) -> str:
        """Take it."""
        return self._lease.take()

    def release(self) -> None:
        """Give it back."""
        self._lease.release()

    def taken(self) -> str:
        """Who holds more of its memory than is allowed for, with pid and name where NVML tells."""
        nvml = self._nvml
        if nvml is None:
            return ""
        used = self._ask(lambda: _used_bytes(nvml, self._handle))
        there = self._there(nvml, graphics=True)
        self._before = {each.pid for each in there}
        if used is None or used <= self._allowed:
            return ""
        who = ", ".join(each.named() for each in there) or "a process that NVML does not name"
        return f"{who} ({used / GIB:.1f} GiB are in use, {self._allowed / GIB:g} GiB are allowed for)"

    def sample(self, root: int | None, waiting: Sequence[int] = ()) -> Sample:
        """Look at it now; about a millisecond."""
        nvml, handle = self._nvml, self._handle
        if nvml is None:
            return Sample(at_s=time.monotonic(), unwatched=self.unwatched)
        self._heed_xids(nvml)
        there = self._there(nvml, graphics=False)
        at_work = {each.pid for each in there}
        others = foreign(there, (_tree(root) if root else set()) | {os.getpid()}, self._before)
        mask = self._ask(lambda: int(_reasons(nvml, handle))) or 0
        celsius = self._ask(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))
        megahertz = self._ask(lambda: float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)))
        return Sample(
            at_s=time.monotonic(),
            temperature_c=celsius,
            clock_mhz=megahertz,
            memory_used_bytes=self._ask(lambda: _used_bytes(nvml, handle)),
            slowed=_named(nvml, mask, SLOWED),
            capped=_named(nvml, mask, CAPPED),
            others=tuple(each.named() for each in others),
            early=tuple(each for each in waiting if at_work & _tree(each)),
        )

    def _there(self, nvml: ModuleType, *, graphics: bool) -> list[Occupant]:
        found = list(self._ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) or [])
        if graphics:
            found += self._ask(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle)) or []
        return [Occupant(pid=int(each.pid), bytes=each.usedGpuMemory) for each in found]

    def _heed_xids(self, nvml: ModuleType) -> None:
        """Raises DeviceError for an XID after which the GPU is of no use. Those that a program causes are its own."""
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError as error:
                self._raise_if_lost(nvml, error)
                return  # a time-out: there is none
            if int(event.eventData) in FATAL_XIDS:
                raise DeviceError(_lost(self.name, f"XID {int(event.eventData)}"))

    def _ask(self, question: Callable[[], T]) -> T | None:
        """The answer, None where this GPU has none. Raises DeviceError when it is lost."""
        nvml = self._nvml
        if nvml is None:
            return None
        try:
            return question()
        except nvml.NVMLError as error:
            self._raise_if_lost(nvml, error)
            return None

    def _raise_if_lost(self, nvml: ModuleType, error: Exception) -> None:
        if getattr(error, "value", None) in {getattr(nvml, name) for name in LOST}:
            raise DeviceError(_lost(self.name, str(error))) from error


def _tree(root: int) -> set[int]:
    """A process and what is below it."""
    return {pid for pid, _ in shim.descendants([(root, 0)])}


def unwatched(device: str) -> str:
    """Why nothing can be seen of "cuda:N"; empty when it can, and for other devices."""
    if not device.startswith("cuda"):
        return ""
    try:
        nvml = _library()
        nvml.nvmlInit()
    except ImportError:
        return "nvidia-ml-py is not installed"
    except nvml.NVMLError as error:
        return f"NVML: {error}"
    return ""


def _library() -> ModuleType:
    import pynvml

    return pynvml  # type: ignore[no-any-return]


def _lost(name: str, why: str) -> str:
    return (
        f"{name} is lost: {why}. Look at `nvidia-smi` and `dmesg`, reset it or restart the machine, then `ralph loop`"
    )


def _used_bytes(nvml: ModuleType, handle: Any) -> int:
    """Without what the driver keeps for itself, where it says how much that is."""
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        return int(nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2).used)
    return int(nvml.nvmlDeviceGetMemoryInfo(handle).used)


def _reasons(nvml: ModuleType, handle: Any) -> int:
    ask = (
        getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    )
    return int(ask(handle))


def _named(nvml: ModuleType, mask: int, names: dict[str, str]) -> tuple[str, ...]:
    return tuple(said for name, said in names.items() if mask & getattr(nvml, f"nvmlClocksThrottleReason{name}", 0))
