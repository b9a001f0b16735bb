"""Through a real Envoy: a gRPC server's failures open the breaker, its other answers do not."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Gateway,
    base_config,
    eventually,
    free_ports,
    reported_requests,
    running,
)

SERVICE = "inference.GRPCInferenceService"
SAID = ("x-sluice-reason", "x-sluice-other", "ratelimit", "ratelimit-policy", "x-own")
"""Trailers of every answer."""
MESSAGE = b"\0\0\0\0\0"

Code = grpc.StatusCode


class Obedient(grpc.GenericRpcHandler):
    """Ends every call with the status that its metadata ask for, before or after its headers."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        asked = {key: str(value) for key, value in details.invocation_metadata or ()}

        def answer(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.set_trailing_metadata([(name, "server") for name in SAID])
            time.sleep(float(asked.get("x-delay", "0")))
            if "x-headers-first" in asked:
                context.send_initial_metadata(())
            context.set_code(next(code for code in Code if code.name == asked["x-status"]))
            yield from ()

        return grpc.unary_stream_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A model for each test, all served by one server."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[Obedient()])
    (port,) = free_ports(1)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    settings = base_config()
    versions = {"v1": {"protocol": "grpc", "endpoints": [{"address": f"127.0.0.1:{port}"}]}}
    model = {
        "versions": versions,
        "access": {"public": True},
        "breaker": {"window": "60s", "min_volume": 20, "probe_interval": "60s"},
    }
    names = [f"{code.name}-{first}".lower() for code in Code for first in (0, 1)]
    settings["models"] = {
        name: {**model, "paths": [f"/own.{name}"]} for name in (*names, "late", "own")
    }
    try:
        with running(settings, demo=False) as started:
            yield started
    finally:
        server.stop(None)


def is_spared(
    gateway: Gateway,
    model: str,
    status: Code,
    *,
    path: str = f"/{SERVICE}/ServerLive",
    http2: bool = True,
    **headers: str,
) -> bool:
    """Whether the breaker refuses a model's calls after many that its server ended so."""
    given = {"x-model-name": model, "x-status": status.name, "content-type": "application/grpc"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    before = reported_requests(gateway, model)
    with gateway.client(http1=not http2, http2=http2) as client:

        def reason() -> str:
            return client.post(path, content=MESSAGE, headers=given).headers["x-sluice-reason"]

        assert {reason() for _ in range(REQUESTS_TO_OPEN)} <= {"stable", "breaker_open"}
        eventually(lambda: reported_requests(gateway, model) >= before + REQUESTS_TO_OPEN)
        return [reason() for _ in range(10)].count("breaker_open") >= 9


@pytest.mark.parametrize("first", [{}, {"x_headers_first": "yes"}], ids=["headers", "trailers"])
@pytest.mark.parametrize(
    "status",
    [Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS, Code.DEADLINE_EXCEEDED],
)
def test_a_version_that_fails_by_grpc_is_spared(
    gateway: Gateway, status: Code, first: dict[str, str]
) -> None:
    assert is_spared(gateway, f"{status.name}-{len(first)}".lower(), status, **first)


@pytest.mark.parametrize(
    "status",
    [Code.OK, Code.CANCELLED, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED,
     Code.UNIMPLEMENTED, Code.UNAUTHENTICATED],
)  # fmt: skip
@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
def test_a_version_that_says_what_is_wrong_with_a_call_is_not(
    gateway: Gateway, status: Code, http2: bool
) -> None:
    """To a client of HTTP/1.1, Envoy says 503 for each of them but OK."""
    model = f"{status.name}-0".lower()
    assert not is_spared(gateway, model, status, http2=http2, x_headers_first="yes")


def test_what_a_clients_own_deadline_brought_about_is_not_the_versions_failure(
    gateway: Gateway,
) -> None:
    late = {"grpc_timeout": "20m", "x_delay": "0.1"}
    assert not is_spared(gateway, "late", Code.OK, **late)


def test_a_server_that_cannot_read_a_call_of_its_own_service_has_not_failed(
    gateway: Gateway,
) -> None:
    assert not is_spared(gateway, "own", Code.INTERNAL, path="/own.own/Method")
    assert is_spared(gateway, "own", Code.UNAVAILABLE, path="/own.own/Method")


def test_a_server_says_nothing_in_the_gateways_name_in_trailers(gateway: Gateway) -> None:
    metadata = [("x-model-name", "ok-0"), ("x-status", "OK"), ("x-headers-first", "yes")]
    with grpc.insecure_channel(gateway.config["listener"]["address"]) as channel:
        call = channel.unary_stream(f"/{SERVICE}/ServerLive")(b"", metadata=metadata, timeout=10)
        assert not list(call)
        assert [(key, value) for key, value in call.trailing_metadata()] == [("x-own", "server")]
