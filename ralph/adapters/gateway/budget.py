"""The allowance of one agent: a call is made only if the most it can cost fits into what is left.

Covered: calls at the same moment (each holds its share until its true cost is known) and costs above what was held.
Not covered: what is spent past this gateway, by another agent of the same campaign at the same time.
"""

import threading
from dataclasses import dataclass

from ralph.adapters.gateway.usage import Usage


class BudgetError(Exception):
    """The call could pass the allowance; the message says by what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What one call in flight holds of the allowance."""

    usd: float
    tokens: int


class Allowance:
    """What is left, in dollars and in tokens; None is no cap."""

    def __init__(self, usd: float | None, tokens: int | None) -> None:
        self._usd, self._tokens = usd, tokens
        self._lock = threading.Lock()

    @property
    def capped(self) -> bool:
        """Whether there is a budget to keep."""
        return self._usd is not None or self._tokens is not None

    def hold(self, model: str, usd: float | None, most: Usage) -> Held:
        """Take the most that a call can cost out of what is left.

        Raises:
            BudgetError: it does not fit, or there is no way to tell.
        """
        tokens = most.input + most.output
        with self._lock:
            if usd is None and self._usd is not None and self._tokens is None:
                raise BudgetError(
                    f"the price of {model} is not known, so dollars cannot be kept; give the agent a price "
                    f"([read, written] in dollars per million tokens) or max_tokens in arena.toml"
                )
            if usd is not None and self._usd is not None and usd > self._usd:
                raise BudgetError(f"a call of up to ${usd:.4f} could pass the budget: ${max(0.0, self._usd):.4f} left")
            if self._tokens is not None and tokens > self._tokens:
                raise BudgetError(f"a call of up to {tokens} tokens could pass the budget: {max(0, self._tokens)} left")
            held = Held(usd=usd or 0.0, tokens=tokens)
            self._add(held, -1)
            return held

    def settle(self, held: Held, usd: float | None, tokens: int) -> None:
        """Give back what was held and take what it really was."""
        with self._lock:
            self._add(held, 1)
            self._add(Held(usd=usd or 0.0, tokens=tokens), -1)

    def _add(self, amount: Held, sign: int) -> None:
        if self._usd is not None:
            self._usd += sign * amount.usd
        if self._tokens is not None:
            self._tokens += sign * amount.tokens
