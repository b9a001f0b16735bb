"""The endpoints of Kubernetes services, from an API server that lists and watches."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes.client import DiscoveryV1Api

from sluice.config.endpoints import Endpoint, EndpointsFrom
from tests.integration.gateway import free_ports
from xds.sources.endpoints.kubernetes import KubernetesServices, cluster_api
from xds.sources.endpoints.source import Found, NoEndpoints

PATH = "/apis/discovery.k8s.io/v1/namespaces/ml/endpointslices"


def origin(service: str = "models", port: object = "http") -> EndpointsFrom:
    named = {"service": service, "namespace": "ml", "port": port}
    return EndpointsFrom.model_validate({"kubernetes": named})


def endpoint_slice(name: str, *pods: tuple[str, dict[str, bool]], service: str = "models") -> Any:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}],
        "endpoints": [{"addresses": [address], "conditions": state} for address, state in pods],
    }


def refusal(code: int) -> Any:
    """The answer of a real API server that refuses, also as the object of an event `ERROR`."""
    reason, message = {
        403: ("Forbidden", "endpointslices.discovery.k8s.io is forbidden"),
        410: ("Expired", "too old resource version: 1 (7)"),
    }[code]
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**status, "code": code, "reason": reason, "message": message}


@contextmanager
def kubeconfig(server: str) -> Iterator[None]:
    """A kubeconfig with an API server."""
    settings = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "kubeconfig"
        file.write_text(json.dumps(settings))
        patch.setenv("KUBECONFIG", str(file))
        yield


READY = {"ready": True}
ENDING = {"ready": False, "serving": True, "terminating": True}
STARTING = {"ready": False, "serving": False, "terminating": False}


class ApiServer:
    """Lists `slices`, and sends the watch whatever is put into `events`; None ends the watch."""

    def __init__(self) -> None:
        self.slices: list[Any] = []
        self.events: Queue[Any] = Queue()
        self.status = self.watch_status = 200
        self.selectors: list[str] = []

    @contextmanager
    def running(self) -> Iterator[Callable[[], DiscoveryV1Api]]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            with kubeconfig(f"http://127.0.0.1:{server.server_port}"):
                yield cluster_api
        finally:
            self.events.put(None)
            server.shutdown()
            thread.join()
            server.server_close()

    def _handler(api) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                url = urlsplit(self.path)
                assert url.path == PATH
                query = parse_qs(url.query)
                api.selectors += query["labelSelector"]
                status = api.watch_status if "watch" in query else api.status
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                if status != 200:
                    self.send(refusal(status))
                elif "watch" in query:
                    assert query["resourceVersion"] == ["7"]
                    while (event := api.events.get()) is not None:
                        self.send(event)
                else:
                    self.send({"metadata": {"resourceVersion": "7"}, "items": api.slices})
                self.wfile.write(b"0\r\n\r\n")

            def send(self, document: Any) -> None:
                line = json.dumps(document).encode() + b"\n"
                self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


def endpoint(address: str, *, drain: bool = False) -> Endpoint:
    return Endpoint(address=address, drain=drain)


@pytest.mark.parametrize("port", ["http", 8000])
def test_ready_pods_are_endpoints_and_ending_ones_drain(port: object) -> None:
    api = ApiServer()
    api.slices = [
        endpoint_slice("one", ("10.0.0.2", READY), ("10.0.0.1", ENDING), ("10.0.0.3", STARTING)),
        endpoint_slice("two", ("10.0.0.4", {}), ("10.0.0.2", READY)),
        {**endpoint_slice("named", ("models.test", READY)), "addressType": "FQDN"},
    ]
    with api.running() as connect:
        found = KubernetesServices(connect).find(origin(port=port))
    assert found == (
        endpoint("10.0.0.1:8000", drain=True), endpoint("10.0.0.2:8000"), endpoint("10.0.0.4:8000")
    )  # fmt: skip
    assert api.selectors == ["kubernetes.io/service-name=models"]


def test_an_api_server_that_refuses_is_no_empty_service() -> None:
    api = ApiServer()
    api.status = 403
    with api.running() as connect:
        found = KubernetesServices(connect).find(origin())
    assert isinstance(found, NoEndpoints)
    assert found.error == (
        "EndpointSlices of the namespace ml: the API server answers 403 Forbidden: "
        "endpointslices.discovery.k8s.io is forbidden"
    )
    assert len(api.selectors) == 1


def test_an_api_server_that_does_not_answer_is_asked_once() -> None:
    with kubeconfig(f"http://127.0.0.1:{free_ports(1)[0]}"):
        found = KubernetesServices().find(origin())
    assert isinstance(found, NoEndpoints)
    assert "the API server does not answer: NewConnectionError: " in found.error
    assert "Connection refused" in found.error


def test_a_missing_kubeconfig_is_named() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", "/none")
        found = KubernetesServices().find(origin())
    assert isinstance(found, NoEndpoints)
    assert "no account of a pod, and no usable kubeconfig: " in found.error


def test_an_account_that_may_not_watch_gets_the_list_and_a_reason() -> None:
    api = ApiServer()
    api.slices = [endpoint_slice("one", ("10.0.0.1", READY))]
    api.watch_status = 403

    async def run(connect: Callable[[], DiscoveryV1Api]) -> None:
        reported: asyncio.Queue[Found] = asyncio.Queue()
        services = KubernetesServices(connect)
        services.follow([origin()])
        task = asyncio.create_task(services.run(lambda _, found: reported.put_nowait(found)))
        assert await asyncio.wait_for(reported.get(), 20) == (endpoint("10.0.0.1:8000"),)
        refused = await asyncio.wait_for(reported.get(), 20)
        assert isinstance(refused, NoEndpoints)
        assert "answers 403 Forbidden" in refused.error
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with api.running() as connect:
        asyncio.run(run(connect))


def test_changes_are_watched_and_everything_is_listed_again_after_a_gap() -> None:
    api = ApiServer()
    api.slices = [endpoint_slice("one", ("10.0.0.1", READY))]
    first, other = (endpoint("10.0.0.1:8000"),), origin("other")

    async def run(connect: Callable[[], DiscoveryV1Api]) -> None:
        reported: asyncio.Queue[tuple[EndpointsFrom, Found]] = asyncio.Queue()
        services = KubernetesServices(connect)
        services.follow([origin(), other])
        task = asyncio.create_task(services.run(lambda *found: reported.put_nowait(found)))

        async def expect(expected: Found, of_other: Found = ()) -> None:
            got = dict([await asyncio.wait_for(reported.get(), 20) for _ in range(2)])
            assert got == {origin(): expected, other: of_other}

        await expect(first)
        two = endpoint_slice("two", ("10.0.0.9", READY), service="other")
        api.events.put({"type": "ADDED", "object": two})
        await expect(first, (endpoint("10.0.0.9:8000"),))
        api.events.put({"type": "DELETED", "object": two})
        await expect(first)
        moved = endpoint_slice("one", ("10.0.0.2", READY))
        api.events.put({"type": "MODIFIED", "object": moved})
        await expect((endpoint("10.0.0.2:8000"),))
        # The watch is too old: what has happened since is only in the list.
        api.slices = [endpoint_slice("one", ("10.0.0.3", READY))]
        api.events.put({"type": "ERROR", "object": refusal(410)})
        api.events.put(None)
        await expect((endpoint("10.0.0.3:8000"),))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    with api.running() as connect:
        asyncio.run(run(connect))
