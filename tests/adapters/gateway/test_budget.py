"""The call that could pass the allowance is not made."""

import threading

import pytest

from ralph.adapters.gateway.budget import Allowance, BudgetError
from ralph.adapters.gateway.usage import Usage

MOST = Usage(input=900, output=100)


def test_without_a_cap_everything_goes() -> None:
    free = Allowance(None, None)
    assert not free.capped
    for _ in range(10):
        free.settle(free.hold("m", None, Usage(input=10**9)), 1e9, 10**9)


def test_what_fits_exactly_is_allowed_and_a_hair_more_is_not() -> None:
    Allowance(0.5, None).hold("m", 0.5, MOST)
    Allowance(None, 1000).hold("m", None, MOST)
    with pytest.raises(BudgetError, match=r"\$0.5001 .*\$0.5000 left"):
        Allowance(0.5, None).hold("m", 0.5001, MOST)
    with pytest.raises(BudgetError, match=r"1000 tokens .* 999 left"):
        Allowance(None, 999).hold("m", None, MOST)


def test_the_next_call_sees_what_the_last_one_really_cost() -> None:
    allowance = Allowance(1.0, 2000)
    held = allowance.hold("m", 0.9, MOST)
    with pytest.raises(BudgetError):
        allowance.hold("m", 0.2, MOST)
    allowance.settle(held, 0.1, 50)
    allowance.hold("m", 0.9, MOST)


def test_a_call_that_cost_more_than_it_could_is_taken_in_full() -> None:
    allowance = Allowance(1.0, None)
    allowance.settle(allowance.hold("m", 0.5, MOST), 1.5, 0)
    with pytest.raises(BudgetError, match=r"\$0.0000 left"):
        allowance.hold("m", 0.001, MOST)


def test_an_unknown_price_is_kept_by_tokens_or_not_at_all() -> None:
    with pytest.raises(BudgetError, match="price of llama is not known"):
        Allowance(1.0, None).hold("llama", None, MOST)
    allowance = Allowance(1.0, 1500)
    allowance.hold("llama", None, MOST)
    with pytest.raises(BudgetError, match="tokens"):
        allowance.hold("llama", None, MOST)


def test_a_negative_rest_allows_nothing_but_what_is_free() -> None:
    allowance = Allowance(-1.0, None)
    with pytest.raises(BudgetError):
        allowance.hold("m", 0.0, MOST)


def test_calls_at_the_same_moment_cannot_pass_it_together() -> None:
    allowance, granted, start = Allowance(1.0, None), [], threading.Barrier(16)

    def attempt() -> None:
        start.wait()
        try:
            granted.append(allowance.hold("m", 0.3, MOST))
        except BudgetError:
            return

    threads = [threading.Thread(target=attempt) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 3
