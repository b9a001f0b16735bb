"""Faults on demand, so that a breaker, a retry or a timeout can be watched at work."""

import asyncio
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from .tensors import InvalidInputError

MAX_DELAY_MS = 60_000.0


class InjectedFaultError(Exception):
    """The failure that was asked for (HTTP 503, UNAVAILABLE)."""


@dataclass(slots=True)
class Faults:
    """The share of inference calls to fail, 0..1, and the delay of each, in milliseconds."""

    fail_rate: float = 0.0
    delay_ms: float = 0.0
    _calls: int = 0

    def set(self, values: Mapping[str, object]) -> None:
        """Takes `fail_rate` and `delay_ms`, either or both; raises InvalidInputError."""
        unknown = values.keys() - {"fail_rate", "delay_ms"}
        if unknown:
            raise InvalidInputError(
                f"unknown {', '.join(sorted(unknown))}; expected fail_rate, delay_ms"
            )
        fail_rate = _number("fail_rate", values.get("fail_rate", self.fail_rate), 1.0)
        delay_ms = _number("delay_ms", values.get("delay_ms", self.delay_ms), MAX_DELAY_MS)
        self.fail_rate, self.delay_ms, self._calls = fail_rate, delay_ms, 0

    def set_json(self, body: bytes) -> None:
        """`set` from a JSON object; raises InvalidInputError."""
        try:
            values = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"the body is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise InvalidInputError("the body must be a JSON object")
        self.set(values)

    async def strike(self, asked: Mapping[str, str]) -> None:
        """Delays this call and perhaps raises InjectedFaultError.

        `asked` is the call's headers or metadata: `x-echo-delay-ms` and `x-echo-fail-rate` stand
        for this call instead of what was set. Failures are spread evenly and not at random: at a
        rate of 0.3, exactly 3 of every 10 calls fail.
        """
        rate = _number("x-echo-fail-rate", asked.get("x-echo-fail-rate", self.fail_rate), 1.0)
        delay = _number(
            "x-echo-delay-ms", asked.get("x-echo-delay-ms", self.delay_ms), MAX_DELAY_MS
        )
        self._calls += 1
        fails = math.floor(self._calls * rate) > math.floor((self._calls - 1) * rate)
        if delay:
            await asyncio.sleep(delay / 1000)
        if fails:
            raise InjectedFaultError("a failure was asked for")


def _number(name: str, value: object, most: float) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        number = float(value)
        if not 0 <= number <= most:  # also false for NaN
            raise ValueError
    except ValueError:
        raise InvalidInputError(f"{name} must be a number from 0 to {most:g}") from None
    return number
