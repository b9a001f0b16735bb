"""Status of the callout: its workers, and the state of all breakers and key sets.

The states of breakers and key sets come from the gauges that the workers publish. No worker is
asked, so a worker that hangs does not delay the status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from extproc.breaker import BreakerState
from extproc.counter_table import CounterTable
from extproc.telemetry import catalog
from extproc.telemetry.exposition import find_series
from sluice.supervision.worker_status import WorkerStatus

_GAUGES = (
    catalog.BREAKER_STATE,
    catalog.BREAKER_ERROR_RATIO,
    catalog.BREAKER_REQUESTS,
    catalog.BREAKER_UNPROTECTED,
    catalog.JWKS_USABLE,
    catalog.JWKS_AGE,
    catalog.JWKS_FETCH_FAILING,
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
class KeySetStatus:
    """State of an issuer's key set from a `jwks_uri`, in the worker with the oldest.

    `usable`: it has been fetched and has not expired. `age`: seconds since the last successful
    fetch; None before the first. `failures`: why the latest fetch of some workers has failed.
    """

    issuer: str
    usable: bool
    age: int | None
    failures: list[str]


@dataclass(frozen=True, slots=True)
class CalloutStatus:
    """Body of `GET /v1/status`. `unprotected` counts the versions without room for a breaker."""

    breakers: list[BreakerStatus]
    unprotected: int
    workers: list[WorkerStatus] = field(default_factory=list)
    key_sets: list[KeySetStatus] = field(default_factory=list)


def read_status(table: CounterTable, workers: Iterable[WorkerStatus] = ()) -> CalloutStatus:
    """Return the status of these workers, and of breakers and key sets as last published."""
    found = find_series(table, _GAUGES)
    states, error_rates, requests, unprotected, usable, ages, failing = (
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
    key_sets = [
        KeySetStatus(
            labels[0],
            bool(value),
            None if age is None else int(age),
            _causes(failing, labels[0]),
        )
        for labels, value in sorted(usable.items())
        if value is not None
        for age in (ages.get(labels),)
    ]
    return CalloutStatus(breakers, int(unprotected.get(()) or 0), list(workers), key_sets)


def _causes(failing: Mapping[tuple[str, ...], float | None], issuer: str) -> list[str]:
    """The causes for which fetches of the issuer's key set fail now."""
    return sorted(labels[1] for labels, value in failing.items() if value and labels[0] == issuer)
