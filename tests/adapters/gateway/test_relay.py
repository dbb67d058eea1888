"""Under bubblewrap an agent reaches its gateway, and nothing else of any network."""

import json
import os
import socket
import sys
from pathlib import Path

import pytest

from ralph.adapters.domains import Domains, Start, read_log
from ralph.adapters.gateway.door import INSIDE_PORT, Terms
from ralph.adapters.process import Exit, become_subreaper
from ralph.adapters.sandbox import SandboxLevel, reached
from tests.adapters.gateway.doors import Opened, begin, leave, upstream
from tests.adapters.keeping import end_of
from tests.provider import Provider, Reply, Usage

pytestmark = pytest.mark.skipif(
    reached(SandboxLevel.BWRAP).level is not SandboxLevel.BWRAP, reason=reached(SandboxLevel.BWRAP).reason or "bwrap"
)

AGENT = """
import http.client, json, os, socket, sys
key, address = os.environ["RALPH_GATEWAY_KEY"], os.environ["RALPH_GATEWAY"].removeprefix("http://")
def reaches(family, where):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(2)
        try:
            one.connect(where)
            return one.getsockname() != one.getpeername()  # a port of its own choice may happen to be the one it tries
        except OSError:
            return False
body = json.dumps({"model": "claude-haiku-4-5", "max_tokens": 9, "messages": []})
statuses = []
for _ in range(2):
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("POST", "/v1/messages", body, {"x-api-key": key})
    statuses.append(connection.getresponse().status)
    connection.close()
ports = [port for port in range(1, 65536) if reaches(socket.AF_INET, ("127.0.0.1", port))]
outside = [reaches(socket.AF_INET, where) for where in (("192.0.2.1", 80), ("10.0.0.1", 80), (sys.argv[1], 80))]
links = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(64) if os.path.islink(f"/proc/self/fd/{fd}")]
told = {"statuses": statuses, "ports": ports, "outside": outside, "links": links, "stdin": sys.stdin.read()}
print(json.dumps(told))
sys.exit(7)
"""


def agent(folder: Path, opened: Opened, argv: tuple[str, ...]) -> tuple[Exit, str]:
    """Start an agent behind a door, as the launcher does, and wait for its end."""
    domains = Domains(SandboxLevel.BWRAP, visible=(folder,), hidden=())
    domain = domains.fresh(folder / "agent-1")
    brief = folder / "brief.md"
    brief.write_text("the brief")
    door = opened.door
    child = domains.start(
        Start(folder=domain, argv=(*door.prefix, *argv), cwd=domain, env=door.env, stdin=brief, pass_fds=door.pass_fds)
    )
    door.started()
    exit_ = end_of(child)
    return exit_, read_log(domain)


def test_an_agent_reaches_its_gateway_and_nothing_else(hostile: Path) -> None:
    become_subreaper()
    own = socket.gethostbyname(socket.gethostname())
    with Provider([Reply(usage=Usage(input=10, output=5))]) as provider:
        opened = begin(hostile, Terms(upstream=upstream(provider.url)), SandboxLevel.BWRAP)
        exit_, log = agent(hostile, opened, (sys.executable, "-c", AGENT, own))
        assert leave(opened.door).ok
    assert exit_.status == 7, log
    told = json.loads(log)
    assert told["statuses"] == [200, 200]
    assert (told["ports"], told["outside"]) == ([INSIDE_PORT], [False, False, False])
    assert told["stdin"] == "the brief"
    assert not [link for link in told["links"] if link.startswith("socket:")], "the latch does not reach the agent"
    assert opened.spent.tokens == 30


def test_the_relay_is_gone_and_the_agents_end_is_its_own(hostile: Path) -> None:
    become_subreaper()
    with Provider([Reply()]) as provider:
        opened = begin(hostile, Terms(upstream=upstream(provider.url)), SandboxLevel.BWRAP)
        exit_, log = agent(hostile, opened, ("/bin/sh", "-c", "tr '\\0' ' ' < /proc/$$/cmdline; exit 3"))
        assert leave(opened.door).ok
    assert exit_.status == 3
    assert log.startswith("/bin/sh -c")
    assert "relay" not in log


def test_a_program_that_is_not_there_has_status_127_and_says_so(hostile: Path) -> None:
    become_subreaper()
    with Provider([Reply()]) as provider:
        opened = begin(hostile, Terms(upstream=upstream(provider.url)), SandboxLevel.BWRAP)
        exit_, log = agent(hostile, opened, ("no-such-agent",))
        assert leave(opened.door).ok
    assert (exit_.status, "could not start 'no-such-agent'" in log) == (127, True)


def test_a_sandbox_that_never_began_leaves_no_gateway(hostile: Path) -> None:
    become_subreaper()
    with Provider([Reply()]) as provider:
        opened = begin(hostile, Terms(upstream=upstream(provider.url)), SandboxLevel.BWRAP)
        opened.door.started()
        assert leave(opened.door).ok
        assert not os.path.exists(opened.record) or opened.calls == ()  # noqa: PTH110
