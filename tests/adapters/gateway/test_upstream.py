"""Where calls go and with which key, by what arena.toml says."""

import os
import socket
import sys
from dataclasses import replace
from typing import Any

import pytest

from ralph.adapters.gateway.orders import Orders, Provider, Upstream, give, take
from ralph.adapters.gateway.upstream import key_name, provider_of, require_keys, upstream_of
from ralph.config import AgentEntry, parse
from ralph.errors import ConfigError

KEYS = {"ANTHROPIC_API_KEY": "sk-a", "OPENAI_API_KEY": "sk-o", "GEMINI_API_KEY": "g", "MINE": " sk-m\n"}


def entry(kind: str = "command", **more: Any) -> AgentEntry:
    model = {"model": "m"} if kind in ("anthropic", "openai") else {}
    return AgentEntry.model_validate({"kind": kind, **model, **more})


@pytest.mark.parametrize(
    ("given", "provider", "variable"),
    [
        (entry("anthropic"), Provider.ANTHROPIC, "ANTHROPIC_API_KEY"),
        (entry("openai"), Provider.OPENAI, "OPENAI_API_KEY"),
        (entry("openai", key="MINE"), Provider.OPENAI, "MINE"),
        (entry(preset="claude"), Provider.ANTHROPIC, "ANTHROPIC_API_KEY"),
        (entry(preset="codex"), Provider.OPENAI, "OPENAI_API_KEY"),
        (entry(preset="gemini"), Provider.GEMINI, "GEMINI_API_KEY"),
        (entry(preset="aider", key="ANTHROPIC_API_KEY"), Provider.ANTHROPIC, "ANTHROPIC_API_KEY"),
        (entry(preset="opencode"), Provider.OPENAI, "OPENAI_API_KEY"),
        (entry(preset="pi", key="MINE"), Provider.OPENAI, "MINE"),
    ],
)
def test_the_provider_follows_from_kind_preset_and_key(given: AgentEntry, provider: Provider, variable: str) -> None:
    assert (provider_of(given), key_name(given)) == (provider, variable)


@pytest.mark.parametrize(
    ("base", "address"),
    [
        ("", "https://api.openai.com/v1/responses"),
        ("http://localhost:8000", "http://localhost:8000/v1/responses"),
        ("http://localhost:8000/", "http://localhost:8000/v1/responses"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/responses"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1/responses"),
        ("https://example.org/api/paas/v4", "https://example.org/api/paas/v4/responses"),
    ],
)
def test_openais_base_address_may_have_its_version_or_not(base: str, address: str) -> None:
    assert upstream_of("a", entry("openai", base_url=base), KEYS).address("/v1/responses") == address


@pytest.mark.parametrize("base", ["https://example.org/anthropic", "https://example.org/anthropic/v1/"])
def test_anthropics_may_too(base: str) -> None:
    found = upstream_of("a", entry("anthropic", base_url=base), KEYS)
    assert found.address("/v1/messages") == "https://example.org/anthropic/v1/messages"
    assert not found.official


def test_keys_are_signed_as_the_provider_wants_them() -> None:
    assert upstream_of("a", entry("anthropic"), KEYS).signature() == {"x-api-key": "sk-a"}
    assert upstream_of("a", entry("openai", key="MINE"), KEYS).signature() == {"authorization": "Bearer sk-m"}
    assert upstream_of("a", entry(preset="gemini"), KEYS).signature() == {"x-goog-api-key": "g"}
    token = entry("anthropic", key="ANTHROPIC_AUTH_TOKEN")
    bearer = upstream_of("a", token, {"ANTHROPIC_AUTH_TOKEN": "t"}).signature()
    assert bearer == {"authorization": "Bearer t"}


def test_a_missing_key_is_named_with_what_to_do() -> None:
    for ambient in ({}, {"OPENAI_API_KEY": "  "}):
        with pytest.raises(ConfigError, match=r"'gpt' .* OPENAI_API_KEY, .*`export OPENAI_API_KEY=…`.*\[agents.gpt"):
            upstream_of("gpt", entry("openai"), ambient)
    with pytest.raises(ConfigError, match="MINE"):
        upstream_of("own", entry("openai", base_url="http://localhost:1/v1", key="MINE"), {})


def test_a_server_of_ones_own_needs_no_key() -> None:
    found = upstream_of("own", entry("openai", base_url="http://localhost:11434"), {})
    assert (found.key, found.signature()) == ("", {})


def test_an_address_that_is_none_is_refused() -> None:
    for base in ("localhost:8000", "file:///etc/passwd", "ftp://example.org"):
        with pytest.raises(ConfigError, match="base_url"):
            upstream_of("a", entry("openai", base_url=base), KEYS)


def test_keys_are_required_of_the_agents_in_use_alone() -> None:
    agents = {
        "claude": {"kind": "anthropic", "model": "m"},
        "gpt": {"kind": "openai", "model": "m"},
        "own": {"kind": "command", "preset": "codex", "login": "subscription"},
    }
    require_keys(parse({"agents": agents}), {})
    require_keys(parse({"agents": agents, "agent": {"use": "own"}}), {})
    mixed = parse({"agents": agents, "agent": {"mix": {"tuner": 1, "claude": 1, "gpt": 0}}})
    require_keys(mixed, {"ANTHROPIC_API_KEY": "sk"})
    with pytest.raises(ConfigError, match="'claude' needs"):
        require_keys(mixed, {"OPENAI_API_KEY": "sk"})


def test_orders_can_be_read_once_and_their_words_hide_the_keys() -> None:
    orders = Orders(
        upstream=Upstream(provider=Provider.OPENAI, base="http://x", key="sk-secret"),
        dummy="ralph-dummy-1",
        calls="/c",
        door=sys.stderr.fileno(),
        price=(1.0, 2.0),
        proxies={"https_proxy": "http://user:hidden@proxy"},
    )
    for secret in ("sk-secret", "ralph-dummy-1", "hidden"):
        assert secret not in repr(orders)
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with ours, theirs:
        give(ours, orders)
        copy = theirs.dup()
        taken = take(theirs)
        assert taken is not None
        assert replace(taken, door=orders.door) == orders
        assert os.fstat(taken.door) == os.fstat(orders.door)
        os.close(taken.door)
        with copy, pytest.raises(BlockingIOError):
            copy.recv(1, socket.MSG_DONTWAIT)
        ours.close()
        assert take(theirs) is None
