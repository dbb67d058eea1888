"""A systemd user manager in namespaces of its own: units can be tested on a machine that booted otherwise."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
START_S = 20.0
# What systemd wants to find: a /run that says it booted the machine, and a cgroup to keep units in.
SCRIPT = """
set -e
mount -t tmpfs run /run && mkdir -p /run/systemd/system
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p "/sys/fs/cgroup/$1/manager"
echo $$ > "/sys/fs/cgroup/$1/manager/cgroup.procs"
# as the first process of a namespace it would take itself for the one of the machine
/lib/systemd/systemd --user --unit=basic.target &
wait
"""


def missing() -> str:
    """Why there can be no such manager here; empty when there can."""
    if os.geteuid() != 0:
        return "needs root for namespaces and a cgroup"
    if not SYSTEMD.exists() or shutil.which("unshare") is None or shutil.which("systemctl") is None:
        return "there is no systemd here"
    if "cgroup2" not in Path("/proc/filesystems").read_text():
        return "there is no cgroup2 here"
    return ""


@dataclass(frozen=True, kw_only=True)
class UserManager:
    """One that runs. What wants to talk to it has to be inside, since it asks the kernel who is speaking."""

    pid: int
    environment: Mapping[str, str]

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside."""
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--wdns=/", "--", *argv]
        return subprocess.run(
            inside, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=90, check=False
        )


@contextlib.contextmanager
def user_manager() -> Iterator[UserManager]:
    """Start one; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="um", dir="/tmp"))  # short: the path of a socket has 107 bytes
    group = f"ralph-test-{os.getpid()}-{folder.name}"
    environment = {
        "XDG_RUNTIME_DIR": str(folder / "run"),
        "HOME": str(folder / "home"),
        "XDG_CONFIG_HOME": str(folder / "home/.config"),
    }
    for name in ("run", "home"):
        (folder / name).mkdir(mode=0o700)
    with (folder / "log").open("wb") as log:
        manager = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT, "sh", group],
            env={**os.environ, **environment, "SYSTEMD_LOG_TARGET": "console"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not (folder / "run/systemd/private").exists():
            assert manager.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        first = Path(f"/proc/{manager.pid}/task/{manager.pid}/children").read_text().split()[0]
        yield UserManager(pid=int(first), environment=environment)
    finally:
        manager.send_signal(signal.SIGKILL)  # and with it, by --kill-child, the first process of the namespace
        manager.wait()
        _remove_group(group)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_group(group: str) -> None:
    deadline = time.monotonic() + START_S
    for top in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        while (top / group).is_dir() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(top / group, topdown=False):
                with contextlib.suppress(OSError):  # its last process is still on its way out
                    Path(folder).rmdir()
            time.sleep(0.02)
