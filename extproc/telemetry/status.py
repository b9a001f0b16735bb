"""How the breakers stand, for `sluice status`: read from what workers show of them as metrics."""

from dataclasses import dataclass

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable
from extproc.telemetry import catalog
from extproc.telemetry.exposition import series_in

_SHOWN = (
    catalog.BREAKER_STATE,
    catalog.BREAKER_ERRORS,
    catalog.BREAKER_REQUESTS,
    catalog.BREAKER_UNPROTECTED,
)


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """One version's breaker. `state` is `closed`, `reduced` or `open`.

    `error_rate` (0 to 1) is None below the minimum volume; `requests` are those in the window.
    """

    model: str
    version: str
    state: str
    error_rate: float | None
    requests: int


@dataclass(frozen=True, slots=True)
class CalloutStatus:
    """`GET /v1/status`. Of each version that has a breaker; how many have found no room for one."""

    breakers: list[BreakerStatus]
    unprotected: int


def read_status(table: CounterTable) -> CalloutStatus:
    """The state now, as workers have said it in the last half second."""
    found = series_in(table, _SHOWN)
    states, errors, requests, unprotected = (
        {labels: family.of(table.values(column)) for labels, column in found[family.name]}
        for family in _SHOWN
    )
    breakers = [
        BreakerStatus(
            model=labels[0],
            version=labels[1],
            state=BreakerState(int(state)).name.lower(),
            error_rate=errors.get(labels),
            requests=int(requests.get(labels) or 0),
        )
        for labels, state in sorted(states.items())
        if state is not None
    ]
    return CalloutStatus(breakers, int(unprotected.get(()) or 0))
