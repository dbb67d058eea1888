"""The supervisor's half of a standby (`standby`): one process, started for an order that is expected, released once."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ralph.adapters.domains import Domains, Start
from ralph.adapters.files import remove_tree
from ralph.adapters.gateway.door import Waiting, start_gateway
from ralph.adapters.process import Child
from ralph.config import AgentEntry
from ralph.layout import Layout
from ralph.ports import AgentOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A process that waits for its release. `seen` are the files that it will read, as they were when it started.

    The `gateway` of one that calls a provider waits beside it, for its orders.
    """

    order: AgentOrder
    folder: Path
    tree: Path
    seen: Mapping[Path, int]
    child: Child
    channel: socket.socket
    gateway: Waiting | None = None

    def serves(self, order: AgentOrder) -> bool:
        """Whether it was started for this very order, still lives, and sees the same files that others would.

        A sandbox shows a file as it was when it was mounted, even after another one has taken its name.
        """
        expected = (order.id, order.attempt, order.agent, order.tree)
        return (
            expected == (self.order.id, self.order.attempt, self.order.agent, self.order.tree)
            and self.child.poll() is None
            and self.seen == {path: inode(path) for path in self.seen}
        )

    def release(self, start: Start, deadline_s: float) -> None:
        """Let it go, once, with what is this order's own. If it has just died, its end will say so."""
        told = json.dumps({"env": start.env, "cwd": str(start.cwd), "port": start.port}).encode()
        with self.channel, contextlib.suppress(OSError):
            sent = socket.send_fds(self.channel, [told], list(start.pass_fds))
            self.channel.sendall(told[sent:])
        self.child.set_deadline(deadline_s)

    def abandon(self) -> None:
        """End it, since its agent could not be started. Returns when it is gone, or is stuck in the kernel."""
        if self.gateway is not None and self.gateway.lives():
            self.gateway.dismiss()
        self.channel.close()
        self.child.end("its agent could not be started")

    def dismiss(self) -> None:
        """End it, and take away what was made for it. Returns when it is gone, or is stuck in the kernel."""
        if self.gateway is not None:
            self.gateway.dismiss()
        self.channel.close()
        self.child.end("it was ready for an order that did not come")
        with contextlib.suppress(OSError):  # the folder's next use makes it fresh, or fails
            remove_tree(self.folder)
            self.folder.parent.rmdir()  # of the experiment, if it has nothing else
        with contextlib.suppress(OSError):  # a worktree by now
            self.tree.rmdir()


def stand_by(
    domains: Domains, layout: Layout, order: AgentOrder, entry: AgentEntry, files: Sequence[Path], grace_s: float
) -> Ready:
    """Start the agent of this entry for an order that has no brief yet, and its gateway if it will need one.

    `files` are those of the campaign that it may read.

    Raises:
        OSError: it cannot be started.
    """
    folder, tree = layout.agent(order.id, order.attempt), layout.tree(order.tree)
    domains.fresh(folder)
    tree.mkdir(parents=True)
    seen = {path: inode(path) for path in files}
    child, channel = _started(domains, folder, tree, entry, files, grace_s)
    ready = Ready(order=order, folder=folder, tree=tree, seen=seen, child=child, channel=channel)
    if not entry.behind_gateway:
        return ready
    place = layout.gateway(order.id, order.attempt)
    try:
        gateway = start_gateway(domains.fresh(place), os.environ)
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(place.parent)
        ready.dismiss()
        raise
    return replace(ready, gateway=gateway)


def _started(
    domains: Domains, folder: Path, tree: Path, entry: AgentEntry, files: Sequence[Path], grace_s: float
) -> tuple[Child, socket.socket]:
    """The process, and the end of its channel that is ours."""
    here, there = socket.socketpair()
    with there:
        program = (sys.executable, "-P", "-m", "ralph.adapters.agents.standby")
        try:
            child = domains.start(
                Start(
                    folder=folder,
                    argv=(*program, entry.kind, entry.api, str(there.fileno())),
                    cwd=tree,
                    writable=(tree,),
                    visible=(folder, *files),
                    pass_fds=(there.fileno(),),
                    grace_s=grace_s,
                )
            )
        except BaseException:
            here.close()
            raise
    return child, here


def inode(path: Path) -> int:
    """Which file has this name; 0 if none has."""
    try:
        return os.stat(path).st_ino  # noqa: PTH116 - beside the exception it is all there is
    except OSError:
        return 0
