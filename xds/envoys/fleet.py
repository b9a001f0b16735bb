"""The states of all endpoints of the config, as the Envoys see them, and a log of their changes."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, get_args

from sluice.config import GatewayConfig
from sluice.config.values import LOOPBACK_HOSTS, is_ip, is_localhost, split_host_port
from sluice.contract.names import CALLOUT_CLUSTER, cluster_name
from sluice.state_changes import StateChange, StateChanges
from xds.envoys.observation import Host, NoObservation, Observation

log = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds in which a new endpoint may be unhealthy without a line in the log: it may start."""

MIN_LOG_INTERVAL = 5.0
"""Minimum seconds between two lines about one endpoint."""

SILENT_AFTER = 5.0
"""Seconds without an answer after which the log says that an Envoy does not answer. When a whole
gateway stops, its Envoy stops first."""

EndpointState = Literal["healthy", "unhealthy", "ejected", "unreachable", "unresolved", "unknown"]


@dataclass(frozen=True, slots=True)
class EndpointView:
    """One endpoint of a cluster, as one Envoy sees it.

    `healthy`: Envoy sends it requests. `unhealthy`: its health check fails. `ejected`: after
    failures in a row. `unreachable`: Envoy sends it requests, but the latest connections have
    failed. `unresolved`: Envoy has no address for the host name. `unknown`: Envoy does not have the
    endpoint yet, or has not checked it yet. `since`: Unix time at which the control plane saw the
    state first.
    """

    cluster: str
    address: str
    state: EndpointState
    why: str
    since: float


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

    `now` returns Unix seconds.
    """

    def __init__(self, config: Callable[[], GatewayConfig], now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._views: dict[str, EnvoyView] = {}
        self._connections: dict[_Key, _Connections] = {}
        self._endpoints = StateChanges[EndpointState](
            "healthy", grace=GRACE, interval=MIN_LOG_INTERVAL
        )
        self._keys: dict[str, set[_Key]] = {}
        self._answers = StateChanges("answers", grace=GRACE, interval=MIN_LOG_INTERVAL)

    @property
    def envoys(self) -> list[EnvoyView]:
        """What each Envoy sees, as last reported."""
        return list(self._views.values())

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
        keys = [(source, *endpoint) for endpoint in _configured(self._config())]
        self._forget_others(source, set(keys))
        for key in keys:
            _, cluster, address = key
            state, why = self._state(key, found.clusters.get(cluster))
            since = now
            # An endpoint that Envoy does not have yet has no state.
            if state != "unknown":
                change = self._endpoints.observe(now, key, state)
                since = self._endpoints.since(key)
                if change is not None:
                    _log_change(found.node, cluster, address, why, change)
            yield EndpointView(cluster, address, state, why, since)

    def _forget_others(self, source: str, keys: "set[_Key]") -> None:
        """Forget the endpoints of a source that the config no longer has."""
        for gone in self._keys.get(source, set()) - keys:
            self._endpoints.forget(gone)
            self._connections.pop(gone, None)
        self._keys[source] = keys

    def _state(self, key: "_Key", hosts: tuple[Host, ...] | None) -> tuple[EndpointState, str]:
        """The state of an endpoint, and why it is not healthy."""
        _, _, address = key
        if hosts is None:
            return "unknown", "Envoy does not have the cluster yet"
        own = [host for host in hosts if _belongs(host, address)]
        if not own:
            if _has_name(address):
                return "unresolved", "Envoy has no address for the host name"
            return "unknown", "Envoy does not have the endpoint yet"
        failing = self._connections.setdefault(key, _Connections()).failing(own)
        problems = [problem for host in own for problem in host.problems]
        used = sum(not host.problems and not host.checking for host in own)
        if used and failing:
            return "unreachable", "connections to it fail"
        if used:
            return "healthy", f"Envoy uses {used} of its {len(own)} addresses" if problems else ""
        if not problems:
            return "unknown", "its first health check has not ended"
        state: EndpointState = "ejected" if any(host.ejected for host in own) else "unhealthy"
        return state, ", ".join(dict.fromkeys(problems))


_Key = tuple[str, str, str]
"""Source, cluster and address of an endpoint."""


@dataclass(slots=True)
class _Connections:
    """Whether the latest connections to an endpoint have failed."""

    made: int | None = None
    failed: int = 0
    succeeded: int = 0
    is_failing: bool = False

    def failing(self, hosts: Iterable[Host]) -> bool:
        """Compare the counts of the endpoint's hosts with those of the previous observation."""
        made = failed = succeeded = 0
        for host in hosts:
            made += host.connections
            failed += host.failed_connections
            succeeded += host.successful_requests
        if self.made is None or made < self.made:
            self.is_failing = False
        elif failed > self.failed:
            self.is_failing = succeeded == self.succeeded
        elif made > self.made or succeeded > self.succeeded:
            self.is_failing = False
        self.made, self.failed, self.succeeded = made, failed, succeeded
        return self.is_failing


def _log_change(
    node: str, cluster: str, address: str, why: str, change: StateChange[EndpointState]
) -> None:
    level = logging.INFO if change.new == "healthy" else logging.WARNING
    reason = f" ({why})" if why else ""
    log.log(
        level,
        "endpoint %s of %s: %s -> %s%s after %.0f s, as node %s sees it",
        address, cluster, change.old or "new", change.new, reason, change.after, node,
    )  # fmt: skip


def _configured(config: GatewayConfig) -> Iterator[tuple[str, str]]:
    """Cluster and address of every endpoint, and of every worker of the callout."""
    for name, model in config.models.items():
        for version_name, version in model.versions.items():
            for endpoint in version.endpoints:
                yield cluster_name(name, version_name), endpoint.address
    for address in config.callout.addresses():
        yield CALLOUT_CLUSTER, address


def _belongs(host: Host, address: str) -> bool:
    """Whether a host is (one of) the address, which may have a name that Envoy resolves."""
    if host.address == address:
        return True
    if address.startswith("unix:"):
        return False
    name, port = split_host_port(address)
    own, own_port = split_host_port(host.address)
    if is_localhost(name):
        return port == own_port and own in LOOPBACK_HOSTS
    return port == own_port and (name == host.hostname or _same_ip(name, own))


def _same_ip(one: str, other: str) -> bool:
    return is_ip(one) and is_ip(other) and ip_address(one) == ip_address(other)


def _has_name(address: str) -> bool:
    """Whether Envoy must resolve the host of an address."""
    host, _ = split_host_port(address)
    return not (address.startswith("unix:") or is_ip(host) or is_localhost(host))


def count_states(views: Iterable[EnvoyView]) -> Mapping[str, int]:
    """Number of endpoints of models in each state, over all Envoys."""
    counts: dict[str, int] = dict.fromkeys(get_args(EndpointState), 0)
    for view in views:
        for endpoint in view.endpoints:
            if endpoint.cluster != CALLOUT_CLUSTER:
                counts[endpoint.state if view.error is None else "unknown"] += 1
    return counts
