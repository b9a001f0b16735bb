"""Reads the state of all breakers from the gauges that the workers publish."""

from dataclasses import dataclass

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable
from extproc.telemetry import catalog
from extproc.telemetry.exposition import find_series

_GAUGES = (
    catalog.BREAKER_STATE,
    catalog.BREAKER_ERROR_RATIO,
    catalog.BREAKER_REQUESTS,
    catalog.BREAKER_UNPROTECTED,
)


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """State of one version's breaker: `closed`, `reduced` or `open`.

    `error_rate` (0 to 1) is None below the minimum volume. `requests` counts those in the window.
    """

    model: str
    version: str
    state: str
    error_rate: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class CalloutStatus:
    """Body of `GET /v1/status`. `unprotected` counts the versions without room for a breaker."""

    breakers: list[BreakerStatus]
    unprotected: int


def read_status(table: CounterTable) -> CalloutStatus:
    """Return the status, as of the workers' latest publication."""
    found = find_series(table, _GAUGES)
    states, error_rates, requests, unprotected = (
        {labels: family.aggregate(table.values(column)) for labels, column in found[family.name]}
        for family in _GAUGES
    )
    breakers = [
        BreakerStatus(
            model=labels[0],
            version=labels[1],
            state=BreakerState(int(state)).name.lower(),
            error_rate=error_rates.get(labels),
            requests=int(requests.get(labels) or 0),
        )
        for labels, state in sorted(states.items())
        if state is not None
    ]
    return CalloutStatus(breakers, int(unprotected.get(()) or 0))
