"""`python -m ralph.adapters.agents.standby KIND API FD`: an agent of ours that has imported what it needs, and waits.

It stands in its final kill domain and sandbox. Until it is released, through the socket FD, it has read nothing of the
campaign: no brief, facts, code, configuration, seed or budget, and opened no device; its folder is empty. The release
brings its environment and its place; from there on it is the fresh process that it would have been, serves that one
brief and ends. The end of the socket instead of a release is its end.
"""

import array
import contextlib
import importlib
import json
import os
import socket
import sys
from typing import Any

from ralph.adapters.agents.contract import leave
from ralph.adapters.agents.tuner import limit_threads
from ralph.adapters.gateway import relay

# What each imports in the course of its work, in the order of its need; the models' SDKs import more at a rehearsal.
MODEL = (
    "ralph.adapters.agents.llm.__main__",
    "ralph.adapters.agents.llm.research",
    "ralph.adapters.agents.llm.rehearsal",
    "ralph.adapters.agents.llm.remembered",
    "httpcore2",
    "tenacity",
    "encodings.idna",
    "encodings.utf_16_le",
)
IMPORTS = {
    "tuner": ("ralph.adapters.agents.proposing", "optuna", "optuna.samplers._tpe.sampler"),
    "anthropic": ("anthropic", *MODEL),
    "openai": ("openai", *MODEL),
}
MOST_FDS = 1


def main(kind: str, api: str, fd: int) -> int:
    """Import, wait, become the agent; its exit status."""
    limit_threads()
    prepare(kind, api)
    released = _wait(fd)
    if released is None:
        return 1
    os.environ.update(released["env"])
    os.chdir(released["cwd"])
    if kind == "tuner":
        from ralph.adapters.agents import tuner

        return tuner.main()
    from ralph.adapters.agents.llm import __main__ as model

    return model.main(since_start_s=0.0)


def prepare(kind: str, api: str) -> None:
    """Whatever this kind of agent can do without an order."""
    for name in IMPORTS[kind]:
        importlib.import_module(name)
    if kind != "tuner":
        from ralph.adapters.agents.llm.rehearsal import rehearse

        with contextlib.suppress(Exception):  # of an SDK that does more than we know: the work may go well all the same
            rehearse(kind, api)


def _wait(fd: int) -> "dict[str, Any] | None":
    """The release; None if there is none any more. The door that comes with it is opened here."""
    with socket.socket(fileno=fd) as channel:
        data, fds = b"", array.array("i")
        while True:
            part, came, _, _ = socket.recv_fds(channel, 1 << 16, MOST_FDS)
            fds.extend(came)
            if not part:
                break
            data += part
    if not data:
        return None
    released: dict[str, Any] = json.loads(data)
    for latch in fds:
        relay.hand_out(released["port"], latch)
    return released


if __name__ == "__main__":
    leave(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
