"""What a payload can see, write and reach: drawn by bubblewrap around its command line, or by Landlock in its place.

Covered at level bwrap: no write outside the writable folders; hidden folders look empty; no process outside is seen or
signalled, and none of the payload's outlives its first; without network nothing but the loopback inside; the sockets by
which a program could have itself started outside (tmux, D-Bus, Docker: under /tmp and /run) are out of sight; device
nodes are the harmless ones and those of accelerators; no capabilities, even as root.
Not covered: processor time; with network, abstract Unix sockets and everything on the network; Unix sockets in visible
folders other than /tmp and /run, such as a home that is not hidden.

What level landlock covers is said in `ralph.adapters.landlock`: less, and what it hides can still be stat'ed. There is
no /tmp then, but the TMPDIR of the payload's own. Memory, processes and disk are the business of limits, at any level.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import assert_never

import ralph
from ralph.adapters import landlock
from ralph.errors import RalphError

TMP = Path("/tmp")
ALWAYS_HIDDEN = (Path("/run"), Path("/var/tmp"))  # and /tmp, which is replaced
# What of /run programs live in or need: NixOS, systemd-resolved, resolvconf, the daemon of NVIDIA's driver.
RUN_VISIBLE = ("current-system", "opengl-driver", "systemd/resolve", "resolvconf", "nvidia-persistenced")
# Of /proc: what steers the machine. Root may write there without any capability (a core_pattern is a command that the
# kernel runs, outside), and bubblewrap (0.8) covers only what it finds writable as a folder.
KNOBS = tuple(
    Path("/proc") / name for name in ("sys", "sysrq-trigger", "fs", "scsi", "driver", "acpi", "mtrr", "asound")
)
ACCELERATORS = ("nvidia*", "dri", "kfd", "infiniband")
HARMLESS = ("null", "zero", "full", "random", "urandom", "tty")
SHARED_MEMORY = Path("/dev/shm")
PROBE_TIMEOUT_S = 10.0
MOST_LINKS = 40  # as many as the kernel follows

Parts = tuple[str, ...]  # of a path


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
        port: without network at level landlock, where a loopback of its own cannot be had: the one TCP port, on any
            host, that it may connect to.
        tmp: folder that it finds as /tmp; None is a fresh one in memory. Level landlock has no /tmp.
    """

    read_only: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    network: bool = False
    port: int | None = None
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
            return (sys.executable, "-I", "-S", _landlock_program(), *_landlock_options(policy), "--", *argv)
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
    reasons: list[str] = []
    for level in SandboxLevel:
        if list(SandboxLevel).index(level) < list(SandboxLevel).index(wanted):
            continue
        reason = _why_not(level)
        if not reason:
            return Probe(level=level, reason="; ".join(reasons))
        reasons.append(reason)
    raise AssertionError("level none is always reached")


def _why_not(level: SandboxLevel) -> str:
    match level:
        case SandboxLevel.BWRAP:
            return _why_not_bubblewrap()
        case SandboxLevel.LANDLOCK:
            return _why_not_landlock()
        case SandboxLevel.NONE:
            return ""
        case _:
            assert_never(level)


def _isolation(policy: Policy) -> list[str]:
    # Without --cap-drop root would keep them all, and could mount the folders writable again.
    options = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL"]
    return options if policy.network else [*options, "--unshare-net"]


def _mounts(policy: Policy) -> list[str]:
    """The file system: outer mounts before inner ones, so that an inner path has the last word."""
    hidden = [path.resolve() for path in (*ALWAYS_HIDDEN, *policy.hidden) if path.exists()]
    writable, visible = _existing(policy.writable), _kept_visible(policy)
    covered = {path.parts for path in (*hidden, TMP, *writable)}
    shown = {path.parts for path in visible} - {path.parts for path in writable}
    mounts = {path: _hide(path) for path in hidden}
    mounts[TMP] = _bind("--bind", policy.tmp.resolve(), TMP) if policy.tmp else ["--tmpfs", str(TMP)]
    mounts |= {path: _bind("--ro-bind", path, path) for path in visible if _is_covered(path.parts, covered, shown)}
    mounts |= {path: _bind("--bind", path, path) for path in writable}
    options = ["--ro-bind", "/", "/", "--dev", "/dev"]
    for device in accelerators(Path("/dev")):
        options += _bind("--dev-bind", device, device)
    options += ["--proc", "/proc"]
    for knob in KNOBS:
        if knob.exists():
            options += _bind("--ro-bind", knob, knob)
    for path in sorted(mounts, key=lambda path: len(path.parts)):
        options += mounts[path]
    for path in hidden:
        if path.is_dir() and path != TMP and mounts[path] == _hide(path):
            options += ["--remount-ro", str(path)]  # a hidden folder is memory: nobody should fill it
    return options


def _is_covered(path: Parts, covered: AbstractSet[Parts], shown: AbstractSet[Parts]) -> bool:
    """Whether a path has to be shown anew: of what is mounted on the way to it, the innermost shows something else.

    One below another that is shown needs no mount of its own, and each takes bubblewrap some 0.2 ms.
    """
    above = (path[:depth] for depth in range(len(path) - 1, 0, -1))
    at = next((place for place in above if place in covered or place in shown), None)
    return path in covered or (at in covered and at not in shown)


def accelerators(devices: Path) -> list[Path]:
    """Device nodes of GPUs and what goes with them, in the order of their names."""
    return sorted(path for pattern in ACCELERATORS for path in devices.glob(pattern))


def _kept_visible(policy: Policy) -> list[Path]:
    """Read-only paths: the policy's, parts of /run, and the interpreter and package that run us, wherever they are."""
    run = [path for name in RUN_VISIBLE if (path := Path("/run") / name).exists()]
    ours = [Path(sys.prefix), Path(sys.base_prefix), Path(ralph.__file__).parent]
    shown = [path.resolve() for path in (*run, *ours)] + _existing(policy.read_only)
    links = [link for link in _links(Path(sys.executable)) if not any(link.is_relative_to(path) for path in shown)]
    return shown + links


def _links(path: Path) -> list[Path]:
    """Where a path leads, link by link: a virtual environment's python may be one to ~/.local/bin, and that another."""
    found: list[Path] = []
    while path.is_symlink() and len(found) < MOST_LINKS:
        path = Path(os.path.abspath(path.parent / path.readlink()))  # noqa: PTH100 - which leaves links as they are
        found.append(path)
    return found


def _existing(paths: tuple[Path, ...]) -> list[Path]:
    for path in paths:
        if not path.exists():
            raise SandboxError(f"the sandbox should show {path}, which does not exist; make it before the start")
    return [path.resolve() for path in paths]


def _hide(path: Path) -> list[str]:
    return ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]


def _bind(option: str, source: Path, target: Path) -> list[str]:
    return [option, str(source), str(target)]


def _landlock_options(policy: Policy) -> list[str]:
    """The policy as the launcher is told it; of the same path the last option counts."""
    hidden = [TMP, Path("/dev"), *ALWAYS_HIDDEN, *policy.hidden]
    devices = [*(Path("/dev") / name for name in HARMLESS), *accelerators(Path("/dev"))]
    tmp = () if policy.tmp is None else (policy.tmp,)
    named = {
        "--hide": [path.resolve() for path in hidden if path.exists()],
        "--read": _kept_visible(policy),
        "--device": [path.resolve() for path in devices if path.exists()],
        "--write": _existing((*policy.writable, *tmp, *([SHARED_MEMORY] if SHARED_MEMORY.is_dir() else []))),
    }
    options = [word for option, paths in named.items() for path in paths for word in (option, str(path))]
    options += ["--package", str(Path(ralph.__file__).parent.resolve())]
    options += ["--network"] if policy.network else []
    return options + ([] if policy.port is None or policy.network else ["--port", str(policy.port)])


def _landlock_program() -> str:
    """The launcher's bytecode if this interpreter has left it on disk, which spares compiling it, else its source."""
    compiled = landlock.__spec__.cached
    return compiled if compiled is not None and Path(compiled).exists() else landlock.__file__


def _why_not_landlock() -> str:
    """Empty if Landlock does what `wrap` asks of it, else the reason in one line."""
    if landlock.abi() < 1:
        return "the kernel has no Landlock (Linux 5.13, CONFIG_SECURITY_LANDLOCK, and in its list of modules)"
    if landlock.architecture() is None:
        return (
            "the system calls of this architecture are not known to ralph, so that Landlock alone leaves networks open"
        )
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        for folder in ("secret", "open"):
            (place / folder).mkdir()
        (place / "secret" / "key").write_text("sesame")
        policy = Policy(hidden=(place / "secret",), read_only=(place,), writable=(place / "open",))
        script = 'cd "$0" && echo x > open/file && ! cat secret/key && ! echo x > file && echo kept in'
        reason = _tried(wrap(SandboxLevel.LANDLOCK, policy, ("/bin/sh", "-c", script, name)), "kept in\n")
    return reason and f"Landlock does not work: {reason}"


def _tried(command: tuple[str, ...], answer: str) -> str:
    """Empty if a command ends well and says so, else why not."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{Path(command[0]).name} does not run: {error}"
    if (done.returncode, done.stdout) == (0, answer):
        return ""
    return (done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"])[0]


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
    said = _tried(command, "")
    advice = "; on Ubuntu, AppArmor needs a profile for it; in a container, it needs leave to make namespaces"
    return said + (advice if any(word in said for word in ("uid map", "namespace", "Operation not permitted")) else "")
