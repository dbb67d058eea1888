"""Prices: the providers' lists, or the arena's word."""

import pytest

from ralph.adapters.gateway.prices import Prices
from ralph.adapters.gateway.usage import Usage

MILLION = 1_000_000


def test_a_known_model_costs_what_its_provider_lists() -> None:
    usage = Usage(input=MILLION // 10, output=MILLION // 100)
    assert Prices("anthropic", "", None).cost("claude-haiku-4-5-20251001", usage) == pytest.approx(0.10 + 0.05)
    assert Prices("openai", "", None).cost("gpt-5", usage) == pytest.approx(0.125 + 0.10)
    assert Prices("google", "", None).cost("gemini-2.5-flash", usage) == pytest.approx(0.03 + 0.025)


def test_caches_cost_less_to_read_and_more_to_write() -> None:
    prices = Prices("anthropic", "", None)
    usage = Usage(input=10_000, cached=4_000, written=3_000, written_1h=1_000)
    expected = (3_000 * 1.0 + 4_000 * 0.1 + 2_000 * 1.25 + 1_000 * 2.0) / MILLION
    assert prices.cost("claude-haiku-4-5", usage) == pytest.approx(expected)
    assert Prices("anthropic", "", (1.0, 5.0)).cost("anything", usage) == pytest.approx(expected)
    cached = Usage(input=1000, cached=800)
    assert Prices("openai", "", None).cost("gpt-5", cached) == pytest.approx((200 * 1.25 + 800 * 0.125) / MILLION)


def test_a_configured_price_wins_and_may_be_nothing() -> None:
    usage = Usage(input=MILLION, output=MILLION, cached=MILLION // 2)
    assert Prices("openai", "", (2.0, 3.0)).cost("gpt-5", usage) == 5.0
    assert Prices("openai", "", (0.0, 0.0)).cost("my-own", usage) == 0.0


def test_an_unknown_model_has_no_price() -> None:
    for base in ("", "http://127.0.0.1:8000/v1"):
        assert Prices("openai", base, None).cost("my-own-model-70b", Usage(input=10)) is None


def test_another_provider_behind_the_same_api_has_its_own_list() -> None:
    usage = Usage(input=MILLION // 10)
    assert Prices("openai", "https://api.deepseek.com/v1", None).cost("deepseek-chat", usage) is not None
    assert Prices("openai", "", None).cost("deepseek-chat", usage) is None
