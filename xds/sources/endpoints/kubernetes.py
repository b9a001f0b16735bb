"""Endpoints from the EndpointSlices of Kubernetes services (discovery.k8s.io/v1).

Each namespace has one list and one watch, however many services are followed. The official client
blocks, so each watch has a thread. It comes with the optional extra `kubernetes`.
"""

import asyncio
import importlib
import json
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from threading import Event, Thread
from time import monotonic
from typing import Any, Final, TypeAlias

from sluice.config.addresses import join_host_port
from sluice.config.endpoints import Endpoint, EndpointsFrom, KubernetesEndpoints
from xds.sources.endpoints.source import Found, NoEndpoints, Report

log = logging.getLogger(__name__)

SERVICE_LABEL: Final = "kubernetes.io/service-name"
"""The label of an EndpointSlice with the name of its service."""

TIMEOUT: Final = 5.0
"""Seconds for the answer to a list."""

RESYNC: Final = 300
"""Seconds after which a watch ends, and everything is listed again."""

RETRY_INTERVAL, MAX_RETRY_INTERVAL = 1.0, 8.0
"""Seconds until the API server is asked again after an error. They double with each further one."""

KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""Seconds and probes after which a connection is closed whose other end is gone: a watch without
changes receives nothing for minutes."""

Api: TypeAlias = Any  # Any: kubernetes.client.DiscoveryV1Api, which has no type hints
Slices: TypeAlias = Mapping[str, Any]
"""EndpointSlices of a namespace, by name."""


def cluster_api() -> Api:
    """The API server of the cluster in which this process runs, or that of the kubeconfig.

    Raises ImportError without the extra, and the client's exceptions.
    """
    client, config = (
        importlib.import_module(f"kubernetes.{name}") for name in ("client", "config")
    )
    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        file = os.environ.get("KUBECONFIG")
        config.load_kube_config(config_file=file, client_configuration=settings)
    # The watch itself tries again. The client would block for longer, and log each attempt.
    settings.retries = False
    settings.socket_options = _socket_options()
    return client.DiscoveryV1Api(client.ApiClient(settings))


def _socket_options() -> list[tuple[int, int, int]]:
    known = [(name, value) for name, value in KEEPALIVE if hasattr(socket, name)]
    return [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in known),
    ]


class KubernetesServices:
    """Finds the endpoints of services. `connect` returns the API."""

    def __init__(self, connect: Callable[[], Api] = cluster_api) -> None:
        self._connect = connect
        self._origins: dict[str, list[EndpointsFrom]] = {}
        """By namespace."""
        self._watches: dict[str, _Watch] = {}
        self._changed = asyncio.Event()

    def handles(self, origin: EndpointsFrom) -> bool:
        """Whether the origin is a service."""
        return origin.kubernetes is not None

    def find(self, origin: EndpointsFrom) -> Found:
        """List the EndpointSlices of a service."""
        service = origin.kubernetes
        assert service is not None
        try:
            listed = _list(self._connect(), service.namespace, f"{SERVICE_LABEL}={service.service}")
        except Exception as error:
            return NoEndpoints(_text(service.namespace, error))
        return _endpoints(service, listed.items)

    def follow(self, origins: Collection[EndpointsFrom]) -> None:
        """Watch the namespaces of these services."""
        self._origins = {}
        for origin in origins:
            if origin.kubernetes is not None:
                self._origins.setdefault(origin.kubernetes.namespace, []).append(origin)
        self._changed.set()

    async def run(self, report: Report) -> None:
        """Report each change of an EndpointSlice."""
        loop = asyncio.get_running_loop()

        def on_slices(namespace: str, slices: Slices | NoEndpoints) -> None:
            loop.call_soon_threadsafe(self._on_slices, namespace, slices, report)

        try:
            while True:
                self._changed.clear()
                for gone in self._watches.keys() - self._origins.keys():
                    self._watches.pop(gone).stop()
                for namespace in self._origins.keys() - self._watches.keys():
                    watch = self._watches[namespace] = _Watch(self._connect, namespace, on_slices)
                    watch.start()
                await self._changed.wait()
        finally:
            for watch in self._watches.values():
                watch.stop()

    def _on_slices(self, namespace: str, slices: Slices | NoEndpoints, report: Report) -> None:
        for origin in self._origins.get(namespace, ()):
            assert origin.kubernetes is not None
            if isinstance(slices, NoEndpoints):
                report(origin, slices)
            else:
                report(origin, _endpoints(origin.kubernetes, slices.values()))


class _Watch:
    """Lists and watches the EndpointSlices of a namespace, in a thread of its own.

    The thread is a daemon: it waits for the API server when the process ends.
    """

    def __init__(
        self,
        connect: Callable[[], Api],
        namespace: str,
        report: Callable[[str, Slices | NoEndpoints], None],
    ) -> None:
        self._connect = connect
        self._namespace = namespace
        self._report = report
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Report nothing more."""
        self._stopped.set()

    def _run(self) -> None:
        pause = RETRY_INTERVAL
        while not self._stopped.is_set():
            began = monotonic()
            try:
                self._list_and_watch()
            except Exception as error:
                # 410: the watch is too far behind, and everything must be listed again.
                if getattr(error, "status", None) != 410:
                    self._send(NoEndpoints(_text(self._namespace, error)))
                if monotonic() - began > MAX_RETRY_INTERVAL:
                    pause = RETRY_INTERVAL
                self._stopped.wait(pause)
                pause = min(2 * pause, MAX_RETRY_INTERVAL)

    def _list_and_watch(self) -> None:
        api = self._connect()
        listed = _list(api, self._namespace, SERVICE_LABEL)
        slices = {each.metadata.name: each for each in listed.items}
        self._send(dict(slices))
        events = importlib.import_module("kubernetes.watch").Watch().stream(
            api.list_namespaced_endpoint_slice, self._namespace, label_selector=SERVICE_LABEL,
            resource_version=listed.metadata.resource_version, timeout_seconds=RESYNC,
            _request_timeout=RESYNC + TIMEOUT,
        )  # fmt: skip
        for event in events:
            if self._stopped.is_set():
                return
            changed = event["object"]
            if event["type"] == "DELETED":
                slices.pop(changed.metadata.name, None)
            else:
                slices[changed.metadata.name] = changed
            self._send(dict(slices))

    def _send(self, slices: Slices | NoEndpoints) -> None:
        if not self._stopped.is_set():
            self._report(self._namespace, slices)


def _list(api: Api, namespace: str, selector: str) -> Any:
    return api.list_namespaced_endpoint_slice(
        namespace, label_selector=selector, _request_timeout=TIMEOUT
    )


def _endpoints(service: KubernetesEndpoints, slices: Iterable[Any]) -> tuple[Endpoint, ...]:
    """The endpoints of a service: those that are ready, and those that drain."""
    found: dict[str, Endpoint] = {}
    for each in slices:
        # Envoy accepts no names here.
        if each.metadata.labels.get(SERVICE_LABEL) != service.service or _has_names(each):
            continue
        ports = [p.port for p in each.ports or () if service.port in (p.name, p.port)]
        for endpoint in each.endpoints or ():
            draining = _is_draining(endpoint.conditions)
            if draining is None:
                continue
            for host in endpoint.addresses:
                for port in ports:
                    address = join_host_port(host, port)
                    found[address] = Endpoint(address=address, drain=draining)
    return tuple(found[address] for address in sorted(found))


def _has_names(each: Any) -> bool:
    return bool(each.address_type == "FQDN")


def _is_draining(conditions: Any) -> bool | None:
    """Whether an endpoint serves only open requests; None if it serves none.

    A pod that ends is not ready, and serves until it has ended.
    """
    if conditions is None or conditions.ready in (None, True):
        return False
    return True if conditions.serving and conditions.terminating else None


def _text(namespace: str, error: Exception) -> str:
    if isinstance(error, ImportError):
        return "Kubernetes needs the extra: pip install 'sluice-gateway[kubernetes]'"
    return f"EndpointSlices of the namespace {namespace}: {_why(error)}"


def _why(error: Exception) -> str:
    status, reason = getattr(error, "status", None), getattr(error, "reason", None)
    if status:
        return f"the API server answers {status} {_message(error) or reason}"
    if type(error).__name__ == "ConfigException":
        return f"no account of a pod, and no usable kubeconfig: {error}"
    return f"the API server does not answer: {type(error).__name__}: {reason or error}"


def _message(error: Exception) -> str | None:
    """What the API server says, such as which role is missing."""
    try:
        status = json.loads(getattr(error, "body", None) or "")
        return f"{status['reason']}: {status['message']}"
    except (ValueError, TypeError, KeyError):
        return None
