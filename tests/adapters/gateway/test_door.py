"""The supervisor's end: what is told to whom, and that no gateway outlives its agent or its supervisor."""

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ralph.adapters.domains import Domains
from ralph.adapters.gateway.calls import read_calls
from ralph.adapters.gateway.door import Terms, open_door, start_gateway
from ralph.adapters.leftovers import holders
from ralph.adapters.process import ExitReason, become_subreaper
from ralph.adapters.sandbox import SandboxLevel
from tests.adapters.gateway.doors import BODY_MOST, REAL_KEY, Opened, begin, gateway, leave, upstream
from tests.adapters.keeping import as_supervisor, living, nothing_survives, open_files, until
from tests.provider import Fault, Provider, Reply, Usage


def test_the_agents_side_can_be_used_at_once(hostile: Path) -> None:
    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as opened:
        host, port = opened.url.removeprefix("http://").split(":")
        socket.create_connection((host, int(port)), timeout=1).close()
        assert host == "127.0.0.1"
        assert opened.door.prefix == ()
        assert opened.ask()[0] == 200


def test_no_secret_is_in_the_record_the_arguments_the_environment_or_the_agents_hands(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = "http://user:proxypassword@127.0.0.1:9"
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.setenv("ANTHROPIC_API_KEY", REAL_KEY)
    with Provider([Reply(text="the answer")]) as provider, gateway(hostile, provider.url) as opened:
        assert opened.ask(system="the prompt")[0] == 200
        processes = [pid for pid, _ in holders(opened.domain)]
        assert len(processes) == 2, "its shim and itself"
        seen = b"".join(Path(f"/proc/{pid}/{n}").read_bytes() for pid in processes for n in ("cmdline", "environ"))
        said = opened.record.read_bytes() + str(opened.door.env).encode()
        for secret in (REAL_KEY, "proxypassword"):
            assert secret.encode() not in seen + said
        assert opened.key.encode() not in seen + opened.record.read_bytes()
        for text in (b"the prompt", b"the answer"):
            assert text not in opened.record.read_bytes()
        assert opened.record.stat().st_mode & 0o077 == 0


def test_one_that_is_started_ahead_holds_no_key_and_no_door_before_its_orders(
    hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", REAL_KEY)
    become_subreaper()
    (domain := hostile / "gateway-1" / "domain").mkdir(parents=True)
    ahead = start_gateway(domain, os.environ)
    until(lambda: sleeping(server_of(domain, ahead.child.pid)), "its wait for orders")
    server = server_of(domain, ahead.child.pid)
    assert server is not None
    assert REAL_KEY.encode() not in memory(server)
    assert len(sockets(server)) == 1, "its channel"
    with Provider([Reply()]) as provider:
        terms = Terms(upstream=upstream(provider.url))
        door = open_door(ahead, record := domain.parent / "calls.jsonl", terms, SandboxLevel.NONE, os.environ)
        opened = Opened(door=door, domain=domain, record=record)
        assert opened.ask()[0] == 200
        assert server_of(domain, ahead.child.pid) == server
        assert provider.requests[0].headers["x-api-key"] == REAL_KEY
        assert REAL_KEY.encode() in memory(server), "where it is looked for, it is found"
        assert leave(door).ok


def test_one_that_is_started_ahead_ends_with_its_channel(hostile: Path) -> None:
    become_subreaper()
    ahead = start_gateway(hostile, os.environ)
    until(lambda: sleeping(server_of(hostile, ahead.child.pid)), "its wait for orders")
    ahead.channel.close()
    until(lambda: not ahead.lives(), "its end")
    exit_ = ahead.child.poll()
    ahead.child.close()
    assert exit_ is not None
    assert (exit_.ok, holders(hostile)) == (True, [])


def test_one_that_is_not_wanted_leaves_nothing(hostile: Path) -> None:
    become_subreaper()
    (domain := hostile / "gateway-1" / "domain").mkdir(parents=True)
    ahead = start_gateway(domain, os.environ)
    with nothing_survives(domain):
        ahead.dismiss()
    assert not domain.parent.exists()


def test_orders_that_do_not_fit_are_an_error_that_leaves_nothing(hostile: Path) -> None:
    become_subreaper()
    (domain := hostile / "gateway-1" / "domain").mkdir(parents=True)
    ahead = start_gateway(domain, os.environ)
    terms = Terms(upstream=upstream("http://127.0.0.1:9"))
    with nothing_survives(domain), pytest.raises(OSError, match="_PROXY"):
        open_door(ahead, hostile / "calls", terms, SandboxLevel.BWRAP, {"HTTP_PROXY": "x" * 200_000})
    assert not domain.parent.exists()


def test_nothing_is_left_of_one_ahead_whose_supervisor_is_killed(hostile: Path) -> None:
    become_subreaper()

    def supervisor() -> None:
        ahead = start_gateway(hostile, os.environ)
        until(lambda: sleeping(server_of(hostile, ahead.child.pid)), "its wait for orders")
        os.kill(os.getpid(), signal.SIGKILL)

    with nothing_survives(hostile, within_s=30):
        os.waitpid(as_supervisor(supervisor), 0)
        until(lambda: not holders(hostile), "its end")


def server_of(domain: Path, shim: int) -> int | None:
    """The gateway's own process, once it is that."""
    found = [pid for pid, _ in holders(domain) if pid != shim and b"gateway.server" in living().get(pid, b"")]
    return found[0] if found else None


def sleeping(pid: int | None) -> bool:
    """Whether it has done all it can without orders: it waits for a message at its socket."""
    if pid is None:
        return False
    number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return number in {"47", "212"}  # recvmsg, of x86-64 and of arm64


def memory(pid: int) -> bytes:
    """All that it may write to."""
    found = b""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            first, last = (int(each, 16) for each in span.split("-"))
            if rights.startswith("rw") and "[v" not in line:
                file.seek(first)
                found += file.read(last - first)
    return found


def sockets(pid: int) -> list[str]:
    """Those it holds."""
    return [name for name in open_files(pid) if name.startswith("socket:")]


def test_every_agent_has_a_key_of_its_own(hostile: Path) -> None:
    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as first:
        (hostile / "two").mkdir()
        with gateway(hostile / "two", provider.url) as second:
            assert first.key != second.key
            assert first.post("/v1/messages", {}, {"x-api-key": second.key})[0] == 401


def test_a_gateway_leaves_with_its_agent_and_records_what_was_under_way(hostile: Path) -> None:
    with Provider([Reply(fault=Fault.HANG_STREAM, usage=Usage(input=700, output=9))]) as provider:
        opened = begin(hostile, Terms(upstream=upstream(provider.url), usd_left=1.0))
        address = opened.url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), timeout=30) as agent:
            body = b'{"model": "claude-haiku-4-5", "max_tokens": 100, "stream": true, "messages": []}'
            head = f"POST /v1/messages HTTP/1.1\r\nx-api-key: {opened.key}\r\ncontent-length: {len(body)}\r\n\r\n"
            agent.sendall(head.encode() + body)
            seen = b""
            while b"input_tokens" not in seen:
                seen += agent.recv(4096)
            started = time.monotonic()
            exit_ = leave(opened.door)
        assert (exit_.reason, exit_.ok, time.monotonic() - started < 3.0) == (ExitReason.ENDED, True, True)
        assert holders(opened.domain) == []
        (call,) = opened.calls
        assert (call.input, call.estimated, call.error) == (700, True, "agent_gone")
        assert 0 < call.output <= 100


@pytest.mark.slow
def test_a_proxy_is_used_but_for_addresses_that_need_none(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Terms(upstream=upstream("http://provider.invalid"))
    with Provider([Reply()]) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        opened = begin(hostile, elsewhere, name="proxied")
        assert opened.ask()[0] == 404
        assert proxy.others == ["POST http://provider.invalid/v1/messages"]
        leave(opened.door)
        with gateway(hostile, proxy.url) as opened:
            assert opened.ask()[0] == 200, "this machine's own addresses need none"
        monkeypatch.setenv("no_proxy", "provider.invalid")
        opened = begin(hostile, elsewhere, name="unproxied")
        assert opened.ask()[0] == 502
        leave(opened.door)
        assert len(proxy.others) == 1


def test_a_call_that_cannot_be_recorded_is_not_made(hostile: Path) -> None:
    with Provider([Reply()]) as provider, gateway(hostile, provider.url) as opened:
        assert opened.ask()[0] == 200
        server = next(pid for pid, _ in holders(opened.domain) if pid != opened.door.pid)
        size = opened.record.stat().st_size
        resource.prlimit(server, resource.RLIMIT_FSIZE, (size, size))  # as good as a full disk
        status, answer = opened.ask()
        assert (status, answer["error"]["type"]) == (503, "ralph_gateway")
        assert len(provider.requests) == 1


@pytest.mark.slow
def test_a_gateway_that_does_not_leave_is_ended(hostile: Path) -> None:
    with Provider([Reply()]) as provider:
        opened = begin(hostile, Terms(upstream=upstream(provider.url)))
        assert opened.ask()[0] == 200
        for pid, _ in holders(opened.domain):
            if pid != opened.door.pid:
                os.kill(pid, signal.SIGSTOP)
        assert leave(opened.door).reason is ExitReason.DEADLINE
        assert holders(opened.domain) == []


def test_an_attempt_goes_on_with_what_an_earlier_gateway_of_it_left(hostile: Path) -> None:
    terms = Terms(tokens_left=BODY_MOST + 1050, upstream=upstream(""))
    with Provider([Reply(usage=Usage(input=1000, output=50))]) as provider:
        terms = replace(terms, upstream=upstream(provider.url))
        for name, statuses in (("first", [200]), ("second", [200, 402])):
            opened = begin(hostile, terms, name=name)
            assert [opened.ask()[0] for _ in statuses] == statuses
            leave(opened.door)
    assert (opened.spent.calls, opened.spent.tokens) == (2, 2100)


def test_no_gateway_outlives_a_supervisor_that_is_killed(hostile: Path) -> None:
    become_subreaper()
    domain, record = hostile / "gateway-1" / "domain", hostile / "gateway-1" / "calls.jsonl"
    reader, writer = os.pipe()

    def supervisor() -> None:
        url = os.read(reader, 200).decode()
        begin(hostile, Terms(upstream=upstream(url))).ask()

    pid = as_supervisor(supervisor)  # before the provider's threads are there, which a fork would lose
    with Provider([Reply(fault=Fault.HANG)]) as provider:
        os.write(writer, provider.url.encode())
        until(lambda: provider.requests, "a call")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        until(lambda: not holders(domain), "the end of its gateway")
    os.close(reader)
    os.close(writer)
    (call,) = read_calls(record)
    assert call.error in ("unfinished", "agent_gone"), "killed by its shim, or faster in leaving by itself"
    assert (0 < call.output <= 100, call.estimated) == (True, True)
    Domains(SandboxLevel.NONE, visible=(), hidden=()).fresh(domain)
    assert read_calls(record) == (call,), "the record is not part of the domain"


def test_what_a_killed_supervisor_and_a_killed_shim_left_goes_when_the_domain_is_used_again(hostile: Path) -> None:
    become_subreaper()
    domain = hostile / "gateway-1" / "domain"
    reader, writer = os.pipe()

    def supervisor() -> None:
        opened = begin(hostile, Terms(upstream=upstream("http://127.0.0.1:9")))
        assert opened.ask()[0] == 502
        server = next(pid for pid, _ in holders(opened.domain) if pid != opened.door.pid)
        os.kill(server, signal.SIGSTOP)  # so that it does not see its lifeline end
        os.kill(opened.door.pid, signal.SIGKILL)
        os.write(writer, str(server).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(as_supervisor(supervisor), 0)
    server = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    assert server in [pid for pid, _ in holders(domain)]
    Domains(SandboxLevel.NONE, visible=(), hidden=()).fresh(domain)
    assert holders(domain) == []


def test_the_supervisors_half_needs_none_of_the_heavy_packages() -> None:
    program = (
        "import sys, ralph.adapters.gateway.door, ralph.adapters.gateway.upstream;"
        "print([m for m in ('httpx2', 'genai_prices', 'http.client', 'anthropic', 'openai') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
