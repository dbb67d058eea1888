"""What this machine is and what it is doing, for the record and for `ralph check`."""

import contextlib
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import psutil

from ralph.errors import ConfigError
from ralph.model import JsonValue

PROBE = """
import torch
for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
    print("cuda", getattr(torch.cuda.get_device_properties(index), "uuid", ""))
"""
PROBE_S = 120.0


def resolve_device(wanted: str) -> str:
    """What `device` in arena.toml means here: "cpu", "cuda:N" or "none".

    "auto" asks torch in a process of its own, and only where an NVIDIA device node exists at all.

    Raises:
        ConfigError: when a CUDA device is asked for that torch cannot use.
    """
    if wanted in ("cpu", "none"):
        return wanted
    count = len(cuda_uuids())
    index = int(wanted.partition(":")[2] or 0)
    if count > index:
        return f"cuda:{index}"
    if wanted == "auto":
        return "cpu"
    raise ConfigError(f'run.device = "{wanted}", but torch sees {count} CUDA devices; see `nvidia-smi`, or set "auto"')


@functools.cache
def cuda_uuids() -> tuple[str, ...]:
    """UUIDs of the devices that torch can use, in its order; empty texts where it does not tell them."""
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return ()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(
            f"torch did not answer within {PROBE_S:.0f} s whether CUDA is there; try `nvidia-smi`"
        ) from None
    lines = [line.split(" ") for line in done.stdout.splitlines() if line.startswith("cuda ")]
    return tuple(line[1] for line in lines) if done.returncode == 0 else ()


def device_name(device: str) -> str:
    """A name that tells machines apart on which scores cannot be compared: the GPU's, or the CPU's with its cores."""
    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))[index : index + 1]:
            for line in information.read_text(errors="replace").splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
        return _nvidia_smi("name", index) or "CUDA device"
    return f"{_cpu_model()} × {len(os.sched_getaffinity(0))}"


def _nvidia_smi(field: str, index: int) -> str:
    if shutil.which("nvidia-smi") is None:
        return ""
    argv = ["nvidia-smi", f"--id={index}", f"--query-gpu={field}", "--format=csv,noheader"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
    except subprocess.TimeoutExpired:
        return ""


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def describe(device: str) -> dict[str, JsonValue]:
    """The machine as the ledger remembers it: versions, device, driver, cores and bytes of memory."""
    facts: dict[str, JsonValue] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "device": device,
        "device_name": device_name(device),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
    }
    for package in ("torch", "numpy", "optuna"):
        try:
            facts[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            facts[package] = None
    if device.startswith("cuda"):
        facts["driver"] = _nvidia_smi("driver_version", int(device.partition(":")[2] or 0))
    return facts


def compilers(device: str) -> str:
    """A name for all that compiled code depends on, but for the program: versions, the device and its driver."""
    facts = {k: v for k, v in describe(device).items() if k in ("python", "device_name", "torch", "driver")}
    with contextlib.suppress(metadata.PackageNotFoundError):
        facts["triton"] = metadata.version("triton")
    return hashlib.sha256(json.dumps(sorted(facts.items())).encode()).hexdigest()[:16]


def load_record() -> Mapping[str, JsonValue]:
    """What else the machine is doing at this moment: load average and, where the kernel tells, the clock in MHz."""
    megahertz = getattr(psutil.cpu_freq(), "current", None)  # None itself on machines that do not tell
    return {
        "load_1m": round(os.getloadavg()[0], 2),
        "cpu_mhz": round(megahertz) if megahertz else None,
        "memory_free_bytes": psutil.virtual_memory().available,
    }


def free_bytes(folder: Path) -> int:
    """Bytes free for us on the disk that holds `folder`."""
    return shutil.disk_usage(folder).free
