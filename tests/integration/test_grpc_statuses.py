"""Only gRPC statuses that mean a failure of the model server open the breaker.

The callout decides all gRPC calls, so `placement` makes no difference.
"""

import threading
from collections.abc import Callable, Iterator
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
TRAILERS = ("x-sluice-reason", "x-sluice-other", "ratelimit", "ratelimit-policy", "x-own")
"""Trailers that the server sends with every response."""
EMPTY_MESSAGE = b"\0\0\0\0\0"
"""An empty message with its gRPC frame header."""

Code = grpc.StatusCode


class StatusServer(grpc.GenericRpcHandler):
    """Ends every call with the status named in the metadata `x-status`.

    `x-send` selects what it sends first: `headers`, or headers and an empty `message`.
    `x-wait` makes it wait until the call has been cancelled, as a deadline does.
    """

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        metadata = {key: str(value) for key, value in details.invocation_metadata or ()}

        def respond(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            context.set_trailing_metadata([(name, "server") for name in TRAILERS])
            if "x-wait" in metadata:
                cancelled = threading.Event()
                if context.add_callback(cancelled.set):
                    cancelled.wait()
            if metadata.get("x-send") == "headers":
                context.send_initial_metadata(())
            if metadata.get("x-send") == "message":
                yield b""
            context.set_code(next(code for code in Code if code.name == metadata["x-status"]))

        return grpc.unary_stream_rpc_method_handler(respond)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with a model for each test. One server serves all models."""
    server = grpc.server(ThreadPoolExecutor(4), handlers=[StatusServer()])
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
    names = [f"{code.name}-{sent}".lower() for code in Code for sent in ("nothing", "headers")]
    settings["models"] = {
        name: {**model, "paths": [f"/own.{name}"]} for name in (*names, "late", "own")
    }
    try:
        with running(settings, demo=False) as started:
            yield started
    finally:
        server.stop(None)


def send_failures(
    gateway: Gateway,
    model: str,
    status: Code,
    *,
    path: str = f"/{SERVICE}/ServerLive",
    http2: bool = True,
    **headers: str,
) -> Callable[[], bool]:
    """Sends calls that the server ends with this status, and waits for their reports.

    The result says whether the breaker refuses calls. Each worker finds that out for itself.
    """
    sent = {"x-model-name": model, "x-status": status.name, "content-type": "application/grpc"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    before = reported_requests(gateway, model)

    def reasons(count: int) -> list[str]:
        with gateway.client(http1=not http2, http2=http2) as client:
            answers = [client.post(path, content=EMPTY_MESSAGE, headers=sent) for _ in range(count)]
        return [answer.headers["x-sluice-reason"] for answer in answers]

    assert set(reasons(REQUESTS_TO_OPEN)) <= {"stable", "breaker_open"}
    eventually(lambda: reported_requests(gateway, model) >= before + REQUESTS_TO_OPEN)
    return lambda: reasons(10).count("breaker_open") >= 9


@pytest.mark.parametrize("sent", ["nothing", "headers"])
@pytest.mark.parametrize(
    "status",
    [Code.UNKNOWN, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS, Code.DEADLINE_EXCEEDED],
)
def test_a_status_that_means_a_server_failure_opens_the_breaker(
    gateway: Gateway, status: Code, sent: str
) -> None:
    model = f"{status.name}-{sent}".lower()
    eventually(send_failures(gateway, model, status, x_send=sent))
    assert reported_requests(gateway, model, status="2xx") == 0


@pytest.mark.parametrize(
    "status",
    [Code.OK, Code.CANCELLED, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED,
     Code.UNIMPLEMENTED, Code.UNAUTHENTICATED],
)  # fmt: skip
@pytest.mark.parametrize("http2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
def test_a_status_that_means_an_error_of_the_call_does_not_open_the_breaker(
    gateway: Gateway, status: Code, http2: bool
) -> None:
    """Envoy responds 503 to a client of HTTP/1.1 for each of these statuses except OK."""
    model = f"{status.name}-nothing".lower()
    assert not send_failures(gateway, model, status, http2=http2, x_send="headers")()


def test_a_deadline_that_the_client_set_does_not_open_the_breaker(gateway: Gateway) -> None:
    assert not send_failures(gateway, "late", Code.OK, grpc_timeout="20m", x_wait="yes")()


def test_internal_does_not_open_the_breaker_for_a_method_outside_the_protocol(
    gateway: Gateway,
) -> None:
    """The gateway cannot check the message of such a call, so a client alone can cause INTERNAL."""
    assert not send_failures(gateway, "own", Code.INTERNAL, path="/own.own/Method")()
    eventually(send_failures(gateway, "own", Code.UNAVAILABLE, path="/own.own/Method"))


def test_trailers_that_only_the_gateway_may_set_are_removed(gateway: Gateway) -> None:
    # Without a message the server may send headers and trailers as one frame.
    metadata = [("x-model-name", "ok-nothing"), ("x-status", "OK"), ("x-send", "message")]
    with grpc.insecure_channel(gateway.config["listener"]["address"]) as channel:
        call = channel.unary_stream(f"/{SERVICE}/ServerLive")(b"", metadata=metadata, timeout=10)
        assert list(call) == [b""]
        assert [(key, value) for key, value in call.trailing_metadata()] == [("x-own", "server")]
