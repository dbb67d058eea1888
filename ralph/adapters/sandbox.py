"""What a payload can see, write and reach, drawn by bubblewrap around its command line.

Covered at level bwrap: no write outside the writable folders; hidden folders look empty; no process outside is seen or
signalled, and none of the payload's outlives its first; without network nothing but the loopback inside; the sockets by
which a program could have itself started outside (tmux, D-Bus, Docker: under /tmp and /run) are out of sight; device
nodes are the harmless ones and those of accelerators; no capabilities, even as root.
Not covered: memory, processor time and disk space; with network, abstract Unix sockets and everything on the network;
Unix sockets in visible folders other than /tmp and /run, such as a home that is not hidden.

Landlock is part of the closed set but not built yet: asking for it reaches `none`, and says so.
"""

import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import assert_never

import ralph
from ralph.errors import RalphError

TMP = Path("/tmp")
ALWAYS_HIDDEN = (Path("/run"), Path("/var/tmp"))  # and /tmp, which is replaced
# What of /run programs live in or need: NixOS, systemd-resolved, resolvconf, the daemon of NVIDIA's driver.
RUN_VISIBLE = ("current-system", "opengl-driver", "systemd/resolve", "resolvconf", "nvidia-persistenced")
ACCELERATORS = ("nvidia*", "dri", "kfd", "infiniband")
PROBE_TIMEOUT_S = 10.0


class SandboxError(RalphError):
    """A policy that cannot be carried out."""


class SandboxLevel(StrEnum):
    """How a payload is kept in, strongest first."""

    BWRAP = "bwrap"
    LANDLOCK = "landlock"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a payload may do. Everything not named is visible, read-only.

    Of two paths, one below the other, the inner one decides about what is below it.

    Attributes:
        read_only: paths that stay visible below a hidden one, or become read-only below a writable one.
        writable: folders (or files) it may write; they must exist.
        hidden: folders that look empty and files that cannot be read; what does not exist needs no hiding.
        network: the network of the machine, or a loopback of its own.
        tmp: folder that it finds as /tmp; None is a fresh one in memory.
    """

    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: bool = False
    tmp: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The level that this machine reaches, and why it is not the one that was wanted (empty if it is)."""

    level: SandboxLevel
    reason: str = ""


def wrap(level: SandboxLevel, policy: Policy, argv: tuple[str, ...]) -> tuple[str, ...]:
    """The command line that runs `argv` under `policy`, at a level that `reached` has answered.

    Raises:
        SandboxError: bubblewrap is gone, a path of the policy does not exist, or the level is not available.
    """
    match level:
        case SandboxLevel.NONE:
            return argv
        case SandboxLevel.LANDLOCK:
            raise SandboxError("the landlock level is not available in this version; use bwrap or none")
        case SandboxLevel.BWRAP:
            program = shutil.which("bwrap")
            if program is None:
                raise SandboxError("bwrap is not installed (any more); install bubblewrap, or set [sandbox] level")
            return (program, *_isolation(policy), *_mounts(policy), "--", *argv)
        case _:
            assert_never(level)


@cache
def reached(wanted: SandboxLevel) -> Probe:
    """The strongest level that works here, up to the wanted one; really tried, once in the life of this process."""
    match wanted:
        case SandboxLevel.NONE:
            return Probe(level=SandboxLevel.NONE)
        case SandboxLevel.LANDLOCK:
            return Probe(level=SandboxLevel.NONE, reason="the landlock level is not available in this version")
        case SandboxLevel.BWRAP:
            reason = _why_not_bubblewrap()
            return Probe(level=SandboxLevel.NONE if reason else SandboxLevel.BWRAP, reason=reason)
        case _:
            assert_never(wanted)


def _isolation(policy: Policy) -> list[str]:
    # Without --cap-drop root would keep them all, and could mount the folders writable again.
    options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL"]
    return options if policy.network else [*options, "--unshare-net"]


def _mounts(policy: Policy) -> list[str]:
    """The file system: outer mounts before inner ones, so that an inner path has the last word."""
    hidden = [path.resolve() for path in (*ALWAYS_HIDDEN, *policy.hidden) if path.exists()]
    shadows = [*hidden, TMP, *_existing(policy.writable)]
    kept = [path for path in _kept_visible(policy) if any(path.is_relative_to(shadow) for shadow in shadows)]
    mounts = {path: _hide(path) for path in hidden}
    mounts[TMP] = _bind("--bind", policy.tmp.resolve(), TMP) if policy.tmp else ["--tmpfs", str(TMP)]
    mounts |= {path: _bind("--ro-bind", path, path) for path in kept}
    mounts |= {path: _bind("--bind", path, path) for path in _existing(policy.writable)}
    options = ["--ro-bind", "/", "/", "--dev", "/dev"]
    for device in accelerators(Path("/dev")):
        options += _bind("--dev-bind", device, device)
    options += ["--proc", "/proc"]
    for path in sorted(mounts, key=lambda path: len(path.parts)):
        options += mounts[path]
    for path in hidden:
        if path.is_dir() and path != TMP and mounts[path] == _hide(path):
            options += ["--remount-ro", str(path)]  # a hidden folder is memory: nobody should fill it
    return options


def accelerators(devices: Path) -> list[Path]:
    """Device nodes of GPUs and what goes with them, in the order of their names."""
    return sorted(path for pattern in ACCELERATORS for path in devices.glob(pattern))


def _kept_visible(policy: Policy) -> list[Path]:
    """Read-only paths: the policy's, parts of /run, and the interpreter and package that run us, wherever they are."""
    run = [path for name in RUN_VISIBLE if (path := Path("/run") / name).exists()]
    ours = [Path(sys.prefix), Path(sys.base_prefix), Path(ralph.__file__).parent]
    return [path.resolve() for path in (*run, *ours)] + _existing(policy.read_only)


def _existing(paths: tuple[Path, ...]) -> list[Path]:
    for path in paths:
        if not path.exists():
            raise SandboxError(f"the sandbox should show {path}, which does not exist; make it before the start")
    return [path.resolve() for path in paths]


def _hide(path: Path) -> list[str]:
    return ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]


def _bind(option: str, source: Path, target: Path) -> list[str]:
    return [option, str(source), str(target)]


def _why_not_bubblewrap() -> str:
    """Empty if bubblewrap does all that `wrap` asks of it, else the reason in one line."""
    program = shutil.which("bwrap")
    if program is None:
        return "bwrap is not installed; install the package bubblewrap"
    if Path(program).stat().st_mode & stat.S_ISUID:
        return (
            f"{program} is set-uid, which payloads may not use; take the bit away (chmod u-s) if user namespaces work"
        )
    command = wrap(SandboxLevel.BWRAP, Policy(), ("true",))
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap does not run: {error}"
    if done.returncode == 0:
        return ""
    said = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
    advice = "; on Ubuntu, AppArmor needs a profile for it; in a container, it needs leave to make namespaces"
    return said[0] + (
        advice if any(word in said[0] for word in ("uid map", "namespace", "Operation not permitted")) else ""
    )
