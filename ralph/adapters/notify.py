"""What a service manager wants to hear: sd_notify, which is one datagram of NAME=value lines (man 3 sd_notify)."""

import contextlib
import math
import os
import socket
from collections.abc import MutableMapping
from typing import Self

PATIENCE_S = 0.25  # a queue holds ten datagrams; a manager that does not read them is no reason to wait for ever
VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Speaks to one socket. `watchdog_s` is how long the manager waits for a sign of life; infinite without one."""

    def __init__(self, address: str, watchdog_s: float = math.inf) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address  # Linux's abstract sockets
        self.heard = address.startswith(("/", "@"))
        self.watchdog_s = watchdog_s

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> Self:
        """What the environment says, which loses it: agents and runs must not speak in the loop's name."""
        address, usec, pid = (environment.pop(name, "") for name in VARIABLES)
        ours = usec.isdigit() and int(usec) > 0 and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if ours else math.inf)

    def send(self, *lines: str) -> None:
        """Say it; a manager that cannot hear does not stop the loop."""
        if not self.heard:
            return
        text = "\n".join(" ".join(line.split()) for line in lines)
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            ours.settimeout(PATIENCE_S)
            ours.sendto(text.encode(errors="replace"), self._address)
