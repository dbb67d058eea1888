"""What a call costs: by the price in arena.toml, else by genai-prices, which knows the providers' lists offline."""

import contextlib

from ralph.adapters.gateway.usage import Usage

PER = 1_000_000  # prices are per million tokens
READ_SHARE, WRITE_SHARE, WRITE_1H_SHARE = 0.1, 1.25, 2.0  # of the price of reading, as Anthropic has it


class Prices:
    """Prices of one provider.

    A configured price holds for every model; reading from a cache then costs what reading costs, except with
    Anthropic, whose shares are the same for all its models.
    """

    def __init__(self, provider: str, base_url: str, configured: tuple[float, float] | None) -> None:
        self._provider, self._base_url, self._configured = provider, base_url, configured

    def cost(self, model: str, usage: Usage) -> float | None:
        """Dollars; None when the model's price is not known."""
        if self._configured is not None:
            return self._by_configuration(self._configured, usage)
        from genai_prices import Usage as Counted
        from genai_prices import calc_price

        counted = Counted(
            input_tokens=usage.input,
            output_tokens=usage.output,
            cache_read_tokens=usage.cached or None,
            cache_write_tokens=usage.written or None,
            cache_write_1h_tokens=usage.written_1h or None,
        )
        if self._base_url:
            with contextlib.suppress(LookupError):
                return float(calc_price(counted, model, provider_api_url=self._base_url).total_price)
        with contextlib.suppress(LookupError):
            return float(calc_price(counted, model, provider_id=self._provider).total_price)
        return None

    def _by_configuration(self, price: tuple[float, float], usage: Usage) -> float:
        read, wrote = price
        if self._provider != "anthropic":
            return (usage.input * read + usage.output * wrote) / PER
        shares = (
            (usage.input - usage.cached - usage.written)
            + usage.cached * READ_SHARE
            + (usage.written - usage.written_1h) * WRITE_SHARE
            + usage.written_1h * WRITE_1H_SHARE
        )
        return (shares * read + usage.output * wrote) / PER


def load() -> None:
    """Read the price lists, which takes a quarter of a second, ahead of the first question."""
    Prices("openai", "", None).cost("gpt-4o", Usage(input=1, output=1))  # any that has a price
