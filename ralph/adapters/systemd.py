"""A systemd user unit for one folder, and the few words with the manager that it takes (man 5 systemd.service).

The unit starts `/bin/sh`, which changes the folder and becomes the loop. The reason is names: systemd refuses programs
whose path has quotes or backslashes, and its WorkingDirectory= has no way to write a leading blank or a newline; a
quoted argument can be anything but a zero byte.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ralph.errors import ExitStatus

NAME_LETTERS = 40
WATCHDOG_S = 300  # the longest turn of a loop waits 30 s for what an earlier one left, then removes its folder
SYSTEMCTL_S = 60.0
RESTARTS, RESTARTS_WITHIN_S, RESTART_S = 5, 3600, 30
MARK = "# Written by `ralph service install`. What you want to add goes to `systemctl --user edit`, not in here."
SCRIPT = f'cd -- "$1" || exit {ExitStatus.CONFIG}; shift; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What a unit says. `stop_s` is how long the run in hand may take to end; `environment` is set for the loop."""

    root: Path
    program: Sequence[str]
    stop_s: int
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Told from the folder: its last name for people, a hash of its path for the machine."""
        letters = re.sub(r"[^a-z0-9]+", "-", self.root.name.lower()).strip("-")[:NAME_LETTERS].strip("-")
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]
        return "-".join(part for part in ("ralph", letters, digest) if part) + ".service"

    def text(self) -> str:
        """The unit file."""
        words = ("ralph", str(self.root), *self.program)
        command = " ".join(quoted(word) for word in ("-c", SCRIPT, *words))
        parked, wrong = ExitStatus.PARKED.value, ExitStatus.CONFIG.value
        return "\n".join(
            (
                MARK,
                "[Unit]",
                f"Description=ralph in {_described(self.root)} (research loop)",
                f"StartLimitIntervalSec={RESTARTS_WITHIN_S}",
                f"StartLimitBurst={RESTARTS}",
                "",
                "[Service]",
                "Type=notify",
                f"ExecStart=:/bin/sh {command}",
                *(f"Environment={quoted(f'{name}={value}')}" for name, value in self.environment.items()),
                "# the data of a first start may take long to prepare",
                "TimeoutStartSec=infinity",
                f"WatchdogSec={WATCHDOG_S}",
                "# TERM goes to the loop alone, which finishes the run in hand; KILL to whatever is left then",
                "KillMode=mixed",
                f"TimeoutStopSec={self.stop_s}",
                "# 0 is a limit or a wish, 2 a wrong configuration, 3 a loop that needs its human: none is mended by a",
                "# restart. Anything else is a bug, and the next life goes on where the last one ended.",
                "Restart=on-failure",
                f"RestartPreventExitStatus={wrong} {parked}",
                f"RestartSec={RESTART_S}",
                "",
                "[Install]",
                "WantedBy=default.target",
                "",
            )
        )


def quoted(word: str) -> str:
    r"""One word of a unit file: in quotes, C escapes, and no specifiers.

    >>> print(quoted('a "b" \\ 100%\n$HOME'))
    "a \"b\" \\ 100%%\n$HOME"
    """
    return '"' + "".join(_escaped(c) for c in word) + '"'


def _escaped(c: str) -> str:
    match c:
        case "%":
            return "%%"
        case "\\" | '"':
            return f"\\{c}"
        case "\n":
            return "\\n"
        case _ if c < " " or c == "\x7f":
            return f"\\x{ord(c):02x}"
        case _ if "\udc80" <= c <= "\udcff":  # a byte of a name that is not UTF-8
            return f"\\x{ord(c) - 0xDC00:02x}"
        case _:
            return c


def _described(root: Path) -> str:
    """A name for people: Description= knows neither quotes nor escapes."""
    text = str(root).encode(errors="replace").decode()
    return "".join(c if c.isprintable() and c != "\\" else "?" for c in text).replace("%", "%%")


def unit_folder(environment: Mapping[str, str]) -> Path:
    """Where the units of a user are."""
    config = environment.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".config"
    return base / "systemd" / "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What systemctl said; `ok` is its exit status 0."""

    ok: bool
    text: str


def systemctl(*words: str, timeout_s: float = SYSTEMCTL_S) -> Answer:
    """`systemctl --user WORDS`; not ok where there is no systemctl, or no manager of this user."""
    program = shutil.which("systemctl")
    if program is None:
        return Answer(ok=False, text="there is no systemctl here")
    try:
        done = subprocess.run(
            [program, "--user", *words], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(ok=False, text=f"systemctl did not answer within {timeout_s:.0f} s")
    said = done.stdout.strip() if done.returncode == 0 else (done.stderr or done.stdout).strip()
    return Answer(ok=done.returncode == 0, text=said)
