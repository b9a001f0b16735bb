"""What the status shows of the traffic of versions, of breakers, and of those who report them."""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel

from sluice.config import GatewayConfig
from sluice.contract.names import cluster_name, split_cluster_name
from xds.envoys.observations import Observations, State
from xds.envoys.reporters import CLOSED_BREAKER, BreakerState, BreakerView, Comparison, SourceName

BREAKER_STATES: Final[Mapping[BreakerState, Literal["closed", "reduced", "open"]]] = {
    BreakerState.CLOSED: "closed",
    BreakerState.REDUCED: "reduced",
    BreakerState.OPEN: "open",
}

TRAFFIC_WINDOW: Final = 60.0
MAX_TRAFFIC: Final = 100
"""Versions in one status: each takes a window of the observations, which is a sum of buckets."""


class ComparisonStatus(BaseModel):
    """The answers of a version to copies of requests, compared with those that clients got.

    `agreement` (0 to 1) is None without copies. A copy that `failed` does not agree.
    """

    compared: int
    agreed: int
    failed: int
    dropped: int
    agreement: float | None
    max_difference: float
    max_relative_difference: float


class VersionTraffic(BaseModel):
    """What was seen of a version in the last `TRAFFIC_WINDOW` seconds.

    `source`: `worker` if workers have counted finished requests, `envoy` if Envoys have counted
    requests to endpoints. `state`: `stale` if a part of the traffic may be missing, because some
    reporter is silent. `error_rate` (0 to 1) is None without requests. `p50` and `p99` are
    latencies in seconds; None if the source reports none. `in_progress`: None if the source does
    not say. `age`: seconds since the latest report of the reporter that is behind most.
    `covered`: for how many seconds before now the counts are complete. `comparison` is None if the
    version got no copies of requests.
    """

    model: str
    version: str
    source: SourceName | None
    state: State
    requests: int
    errors: int
    error_rate: float | None
    p50: float | None
    p99: float | None
    in_progress: int | None
    age: float | None
    covered: float
    comparison: ComparisonStatus | None


class BreakerStatus(BaseModel):
    """The breaker of a version. `error_rate` (0 to 1) is None below the minimum volume.

    `requests` counts those in the window of the breaker.
    """

    model: str
    version: str
    state: Literal["closed", "reduced", "open"]
    error_rate: float | None
    requests: int


class BreakersStatus(BaseModel):
    """The breakers, as workers report them. If they are not `known`, no worker has reported lately.

    `closed` counts the others than those in `not_closed`. `unprotected` counts the versions without
    room for a breaker.
    """

    known: bool
    closed: int
    not_closed: list[BreakerStatus]
    unprotected: int


class Breakers(BaseModel):
    """All breakers, as workers report them. If they are not `known`, no worker has reported lately.

    `unprotected` counts the versions without room for a breaker. They are shown as `closed`.
    """

    known: bool
    breakers: list[BreakerStatus]
    unprotected: int


class ReporterStatus(BaseModel):
    """An Envoy or a worker that reports. `age`: seconds since its latest report; None before it."""

    source: SourceName
    node: str
    age: float | None


def version_traffic(observations: Observations, now: float) -> list[VersionTraffic]:
    """The versions with requests in the last `TRAFFIC_WINDOW` seconds, at most `MAX_TRAFFIC`."""
    busiest = observations.busiest(TRAFFIC_WINDOW, now, MAX_TRAFFIC)
    return [_version(observations, model, version, now) for model, version in busiest]


def _version(observations: Observations, model: str, version: str, now: float) -> VersionTraffic:
    window = observations.window(model, version, TRAFFIC_WINDOW, now)
    return VersionTraffic(
        model=model,
        version=version,
        source=window.source,
        state=window.state,
        requests=window.requests,
        errors=window.errors,
        error_rate=window.error_rate,
        p50=window.quantile(0.5),
        p99=window.quantile(0.99),
        in_progress=window.in_progress,
        age=window.age,
        covered=window.covered,
        comparison=_comparison(window.comparison),
    )


def _comparison(seen: Comparison) -> ComparisonStatus | None:
    if not seen.chosen:
        return None
    return ComparisonStatus(
        compared=seen.compared,
        agreed=seen.agreed,
        failed=seen.failed,
        dropped=seen.dropped,
        agreement=seen.agreement,
        max_difference=seen.max_difference,
        max_relative_difference=seen.max_relative_difference,
    )


def breakers_status(
    config: GatewayConfig, observations: Observations, now: float
) -> BreakersStatus:
    """The number of breakers, and those that are not closed."""
    found = observations.breakers(now)
    views = sorted((found or {}).items())
    not_closed = [
        _breaker(*split_cluster_name(cluster), view)
        for cluster, view in views
        if view.state is not BreakerState.CLOSED
    ]
    unprotected = observations.unprotected(now)
    versions = sum(len(each.versions) for each in config.models.values() if each.breaker.enabled)
    closed = 0 if found is None else max(0, versions - unprotected - len(not_closed))
    return BreakersStatus(
        known=found is not None, closed=closed, not_closed=not_closed, unprotected=unprotected
    )


def all_breakers(config: GatewayConfig, observations: Observations, now: float) -> Breakers:
    """The breaker of each version of the config."""
    found = observations.breakers(now)
    if found is None:
        return Breakers(known=False, breakers=[], unprotected=0)
    breakers = [
        _breaker(name, version, found.get(cluster_name(name, version), CLOSED_BREAKER))
        for name, model in config.models.items()
        if model.breaker.enabled
        for version in model.versions
    ]
    return Breakers(known=True, breakers=breakers, unprotected=observations.unprotected(now))


def _breaker(model: str, version: str, view: BreakerView) -> BreakerStatus:
    return BreakerStatus(
        model=model,
        version=version,
        state=BREAKER_STATES[view.state],
        error_rate=view.error_rate,
        requests=view.requests,
    )


def reporters_status(observations: Observations, now: float) -> list[ReporterStatus]:
    """The Envoys and workers that report now."""
    return [
        ReporterStatus(source=each.source, node=each.node, age=each.age(now))
        for each in sorted(observations.reporters, key=lambda each: (each.source, each.node))
    ]
