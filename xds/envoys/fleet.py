"""The states of all endpoints of the config, as the Envoys see them, and a log of their changes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from typing import get_args

from sluice.config import GatewayConfig
from sluice.contract.names import CALLOUT_CLUSTER, cluster_name
from sluice.state_changes import StateChange, StateChanges
from xds.envoys.endpoint_state import (
    ClusterHosts,
    Connections,
    EndpointState,
    absent_state,
    endpoint_state,
)
from xds.envoys.source import NoObservation, Observation
from xds.events import Events

log = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds in which a new endpoint may be unhealthy without a line in the log: it may start."""

MIN_LOG_INTERVAL = 5.0
"""Minimum seconds between two lines about one endpoint."""

SILENT_AFTER = 5.0
"""Seconds without an answer after which the log says that an Envoy does not answer. When a whole
gateway stops, its Envoy stops first."""


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of a cluster, as one Envoy sees it.

    `cluster` is `MODEL/VERSION`, or `sluice-callout` for a worker of the callout. `why` says why
    the endpoint is not healthy. `since`: Unix time at which the control plane saw the state first.
    `weight` is that of the config.
    """

    cluster: str
    address: str
    state: EndpointState
    why: str
    since: float
    weight: int = 1


@dataclass(slots=True)
class EnvoyView:
    """What one Envoy sees. `source` is the place where it was asked.

    `node` is the id of the Envoy; None before its first answer. `error` says why it does not answer
    now; None if it does. `answered_at` is the Unix time of its latest answer, to which `endpoints`
    belong.
    """

    source: str
    node: str | None = None
    error: str | None = None
    answered_at: float | None = None
    endpoints: list[EndpointView] = field(default_factory=list)


class Fleet:
    """Receives the reports of a source. `config` returns the config in force.

    `now` returns Unix seconds. `events` gets the changes that are logged.
    """

    def __init__(
        self,
        config: Callable[[], GatewayConfig],
        now: Callable[[], float],
        events: Events | None = None,
    ) -> None:
        self._events = events or Events(now)
        self._config = config
        self._now = now
        self._views: dict[str, EnvoyView] = {}
        self._connections: dict[_Key, Connections] = {}
        self._endpoints = StateChanges[EndpointState](
            "healthy", grace=GRACE, interval=MIN_LOG_INTERVAL
        )
        self._keys: dict[str, set[_Key]] = {}
        self._answers = StateChanges("answers", grace=GRACE, interval=MIN_LOG_INTERVAL)

    @property
    def envoys(self) -> list[EnvoyView]:
        """What each Envoy sees, as last reported."""
        return list(self._views.values())

    def endpoint_count(self) -> int:
        """Number of endpoints of the config in force."""
        return sum(1 for _ in _configured(self._config()))

    def report(self, source: str, found: Observation | NoObservation) -> None:
        """Take note of what a source has learned, and log the changes."""
        view, now = self._views.setdefault(source, EnvoyView(source)), self._now()
        if isinstance(found, NoObservation):
            view.error = found.error
        else:
            view.node, view.error, view.answered_at = found.node, None, now
            view.endpoints = list(self._observe(now, source, found))
        self._log_answer(view, now)

    def _log_answer(self, view: EnvoyView, now: float) -> None:
        silent = view.answered_at is None or now - view.answered_at >= SILENT_AFTER
        change = self._answers.observe(now, view.source, "silent" if silent else "answers")
        if change is None:
            return
        if not silent:
            log.info("Envoy at %s answers again after %.0f s", view.source, change.after)
        elif view.answered_at is None:
            log.info(
                "the health of endpoints is not known: no Envoy answers at %s: %s",
                view.source, view.error,
            )  # fmt: skip
        else:
            log.warning("Envoy at %s does not answer: %s", view.source, view.error)

    def _observe(self, now: float, source: str, found: Observation) -> Iterator[EndpointView]:
        weights = {(source, *key): weight for key, weight in _configured(self._config())}
        configured = list(weights)
        self._forget_others(source, set(configured))
        for cluster, keys in groupby(configured, itemgetter(1)):
            hosts = found.clusters.get(cluster)
            by_address = None if hosts is None else ClusterHosts(hosts)
            for key in keys:
                view = self._view(now, found.node, key, by_address)
                yield replace(view, weight=weights[key]) if weights[key] > 1 else view

    def _view(self, now: float, node: str, key: "_Key", hosts: ClusterHosts | None) -> EndpointView:
        _, cluster, address = key
        state, why = self._state(key, hosts)
        if state == "unknown":
            # An endpoint that Envoy does not have yet has no state.
            return EndpointView(cluster, address, state, why, now)
        change = self._endpoints.observe(now, key, state)
        if change is not None:
            _log_change(node, cluster, address, why, change)
            self._events.emit(
                "endpoint", cluster=cluster, address=address, state=state, why=why, node=node
            )
        return EndpointView(cluster, address, state, why, self._endpoints.since(key))

    def _forget_others(self, source: str, keys: "set[_Key]") -> None:
        """Forget the endpoints of a source that the config no longer has."""
        for gone in self._keys.get(source, set()) - keys:
            self._endpoints.forget(gone)
            self._connections.pop(gone, None)
        self._keys[source] = keys

    def _state(self, key: "_Key", hosts: ClusterHosts | None) -> tuple[EndpointState, str]:
        """The state of an endpoint, and why it is not healthy."""
        _, _, address = key
        if hosts is None:
            return "unknown", "Envoy does not have the cluster yet"
        own = hosts.of(address)
        if not own:
            return absent_state(address)
        connections = self._connections.setdefault(key, Connections())
        connections.observe(own)
        return endpoint_state(own, connections)


_Key = tuple[str, str, str]
"""Source, cluster and address of an endpoint."""


def _log_change(
    node: str, cluster: str, address: str, why: str, change: StateChange[EndpointState]
) -> None:
    level = logging.INFO if change.new in ("healthy", "draining") else logging.WARNING
    reason = f" ({why})" if why else ""
    log.log(
        level,
        "endpoint %s of %s: %s -> %s%s after %.0f s, as node %s sees it",
        address, cluster, change.old or "new", change.new, reason, change.after, node,
    )  # fmt: skip


def _configured(config: GatewayConfig) -> Iterator[tuple[tuple[str, str], int]]:
    """Cluster and address of every endpoint and of every worker of the callout, with its weight."""
    for name, model in config.models.items():
        for version_name, version in model.versions.items():
            for _, endpoint in version.named():
                yield (cluster_name(name, version_name), endpoint.address), endpoint.weight
    for address in config.callout.addresses():
        yield (CALLOUT_CLUSTER, address), 1


def count_states(views: Iterable[EnvoyView]) -> Mapping[str, int]:
    """Number of endpoints of models in each state, over all Envoys."""
    counts: dict[str, int] = dict.fromkeys(get_args(EndpointState), 0)
    for view in views:
        for endpoint in view.endpoints:
            if endpoint.cluster != CALLOUT_CLUSTER:
                counts[endpoint.state if view.error is None else "unknown"] += 1
    return counts
