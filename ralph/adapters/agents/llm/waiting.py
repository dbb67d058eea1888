"""What may go wrong with a call, and the waits between tries. tenacity owns every wait; the SDKs retry nothing.

Covered: limits and overloads with and without a stated wait, outages, cut and unfinished streams, waits that are absurd
or do not fit before the agent's own deadline. Not covered: a call that hangs, which the SDK's read timeout and the
deadline's alarm end.
"""

import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from random import Random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # the import takes a tenth of a second
    from tenacity import RetryCallState

MOST_STATED_S = 120.0  # a longer wait is better spent by the supervisor, which can let another agent work
FIRST_S, FACTOR, MOST_S = 0.5, 3.0, 45.0  # waits where none is stated
TRIES = 6
WORDS = 300  # characters of a provider's message that are passed on
_BILLING = re.compile(r"insufficient_quota|billing|credit balance", re.IGNORECASE)
_CONTEXT = re.compile(
    r"context_length_exceeded|exceed_context_size|prompt is too long|context (window|length|size|limit)"
    r"|request_too_large|maximum context|input is too long|too many (input )?tokens",
    re.IGNORECASE,
)

T = TypeVar("T")


class CallError(Exception):
    """A call gave no answer."""


class WeatherError(CallError):
    """Limit or outage: the same call may work later, in `retry_after_s` if stated; `final`: not within minutes."""

    def __init__(self, words: str, retry_after_s: float | None = None, *, final: bool = False) -> None:
        super().__init__(words)
        self.retry_after_s = retry_after_s
        self.final = final


class BudgetError(CallError):
    """The gateway would not make the call, since it could pass a budget."""


class ContextError(CallError):
    """The conversation does not fit into the model."""


class RejectedError(CallError):
    """The provider does not accept the request, now or later."""


def error_of(status: int, kind: str, words: str, headers: Mapping[str, str]) -> CallError:
    """What an error means. `status` is 200 inside a stream; `kind` is the provider's type and code."""
    told = f"{status if status != 200 else 'in its stream'} {kind}: {words}"[:WORDS]
    if "ralph_budget" in kind:
        return BudgetError(words[:WORDS])
    if status in (400, 413, 422, 500, 200) and _CONTEXT.search(f"{kind} {words}"):
        return ContextError(told)
    if status == 402 or _BILLING.search(f"{kind} {words if status in (400, 403, 429) else ''}"):
        return WeatherError(told, retry_after(headers), final=True)
    if status in (408, 409, 425, 429) or status >= 500:
        final = headers.get("x-should-retry", "").strip() == "false"
        return WeatherError(told, retry_after(headers), final=final)
    if status == 200 and not re.search(r"invalid|authentication|permission|not_found", kind):
        return WeatherError(told, retry_after(headers))
    return RejectedError(told)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the provider asks to wait, by number or by date; None for anything that is neither."""
    for name, unit in (("x-ralph-resume-in", 1.0), ("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) * unit
        except ValueError:
            continue
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


@dataclass(slots=True, kw_only=True)
class Patience:
    """Tries a call again while that is worth it. `remaining_s` says how long this agent still has.

    `trouble` is why the call in hand is being tried again, empty once it was answered.
    """

    remaining_s: Callable[[], float]
    random: Random = field(default_factory=Random)
    first_s: float = FIRST_S
    trouble: str = ""

    def answer(self, call: Callable[[], T]) -> T:
        """What `call` returns.

        Raises:
            WeatherError: when the next wait does not fit, is longer than `MOST_STATED_S`, or six tries were in vain.
            CallError: any other, at once.
        """
        import tenacity

        def give_up(state: "RetryCallState") -> bool:
            error = _weather(state)
            wait_s = state.upcoming_sleep
            return (
                error.final or state.attempt_number >= TRIES or wait_s > MOST_STATED_S or wait_s >= self.remaining_s()
            )

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(WeatherError),
            wait=lambda state: self._wait_s(_weather(state), state.attempt_number),
            stop=give_up,
            before_sleep=self._log,
            reraise=True,
        )
        answered = retrying(call)
        self.trouble = ""
        return answered

    def _wait_s(self, error: WeatherError, attempt: int) -> float:
        if error.retry_after_s is not None:
            return error.retry_after_s
        return float(min(MOST_S, self.first_s * FACTOR ** (attempt - 1)) * self.random.uniform(0.75, 1.25))

    def _log(self, state: "RetryCallState") -> None:
        self.trouble = str(_weather(state))
        left_s = self.remaining_s()
        sys.stderr.write(f"{self.trouble}; trying again in {state.upcoming_sleep:.1f} s, {left_s:.0f} s are left\n")


def _weather(state: "RetryCallState") -> WeatherError:
    """Why the last try failed; nothing else is tried again."""
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, WeatherError)
    return error
