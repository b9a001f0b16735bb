"""Injected failures and delays, to try out breakers, retries and timeouts."""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from .tensors import InvalidInputError

MAX_DELAY_MS = 60_000.0
FAIL_RATE_HEADER = "x-echo-fail-rate"
DELAY_HEADER = "x-echo-delay-ms"


class InjectedFaultError(Exception):
    """An injected failure (HTTP 503, gRPC UNAVAILABLE)."""


@dataclass(slots=True)
class Faults:
    """The fraction of inference calls that fail (0 to 1), and the delay of every call."""

    fail_rate: float = 0.0
    delay_ms: float = 0.0
    _calls: int = 0

    def set(self, values: Mapping[str, object]) -> None:
        """Sets `fail_rate`, `delay_ms` or both; raises InvalidInputError."""
        unknown = values.keys() - {"fail_rate", "delay_ms"}
        if unknown:
            raise InvalidInputError(
                f"unknown key {', '.join(sorted(unknown))}, expected fail_rate or delay_ms"
            )
        fail_rate = _number("fail_rate", values.get("fail_rate", self.fail_rate), 1.0)
        delay_ms = _number("delay_ms", values.get("delay_ms", self.delay_ms), MAX_DELAY_MS)
        self.fail_rate, self.delay_ms, self._calls = fail_rate, delay_ms, 0

    def set_json(self, body: bytes) -> None:
        """Sets the values of a JSON object; raises InvalidInputError."""
        try:
            values = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"invalid JSON: {error}") from None
        if not isinstance(values, dict):
            raise InvalidInputError("the body must be a JSON object")
        self.set(values)

    async def inject(self, headers: Mapping[str, str]) -> None:
        """Delays this call, and raises InjectedFaultError if it is to fail.

        The headers (or metadata) `x-echo-delay-ms` and `x-echo-fail-rate` override the settings for
        this call. Failures are spread evenly, not at random: with a rate of 0.3, exactly 3 of every
        10 calls fail.
        """
        rate = _number(FAIL_RATE_HEADER, headers.get(FAIL_RATE_HEADER, self.fail_rate), 1.0)
        delay = _number(DELAY_HEADER, headers.get(DELAY_HEADER, self.delay_ms), MAX_DELAY_MS)
        self._calls += 1
        fails = math.floor(self._calls * rate) > math.floor((self._calls - 1) * rate)
        if delay:
            await asyncio.sleep(delay / 1000)
        if fails:
            raise InjectedFaultError("injected failure")


def _number(name: str, value: object, maximum: float) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not 0 <= number <= maximum:  # also false for NaN
            raise ValueError
    except ValueError:
        raise InvalidInputError(f"{name} must be a number from 0 to {maximum:g}") from None
    return number
