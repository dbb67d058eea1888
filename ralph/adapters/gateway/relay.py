"""The door inside a sandbox without network: ``relay.py PORT FD PROGRAM ARGUMENTS…``, run by file path, then gone.

A socket belongs to the network it was made in, wherever it is used. So this program, inside the sandbox, listens at
PORT of the loopback there, hands that socket over FD to the gateway outside, and becomes PROGRAM. The agent's network
holds that one port and nothing else; no byte is copied on the way, and no process of ours stays inside.
"""

import _socket as socket  # the public one builds enums, for longer than all the rest takes
import os
import sys

BACKLOG = 64


def hand_out(port: int, fd: int) -> None:
    """Open the door: listen at the port, and hand that socket out over the descriptor, which is closed."""
    latch, listener = socket.socket(fileno=fd), socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    held = listener.fileno().to_bytes(4, sys.byteorder)
    latch.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, held)])
    latch.close()
    listener.close()


def main(port: int, fd: int, argv: list[str]) -> None:
    """Open the door, then become the agent. Status 127 if it cannot be started."""
    hand_out(port, fd)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"could not start {argv[0]!r}: {error}\n".encode())
        os._exit(127)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
