"""Bodies that are not converted pass as they arrive."""

import queue
import threading
from collections.abc import Iterator

import grpc
import httpx
import pytest

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.contract.paths import OIP_GRPC_PREFIX
from tests.integration.bodies.servers import INFER, REQUEST
from tests.integration.gateway import Gateway
from tests.integration.raw_server import PATIENCE, Exchange, RawServer


@pytest.mark.parametrize(
    "head",
    [
        "200 OK\r\ncontent-type: text/event-stream",
        "200 OK\r\ncontent-type: application/x-ndjson",
        "200 OK",
        "503 Service Unavailable\r\ncontent-type: application/json",
        "206 Partial Content\r\ncontent-type: application/json",
    ],
)
def test_a_response_that_is_not_converted_is_streamed(
    server: RawServer, client: httpx.Client, head: str
) -> None:
    first_arrived = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.body()
        lines = f"HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        exchange.send(lines.encode() + b"5\r\none\n\n\r\n")
        if first_arrived.wait(PATIENCE):
            exchange.send(b"5\r\ntwo\n\n\r\n0\r\n\r\n")

    server.serve(script)
    with client.stream("POST", INFER, json=REQUEST) as response:
        received = response.iter_raw()
        assert next(received) == b"one\n\n"
        first_arrived.set()
        assert b"".join(received) == b"two\n\n"


def test_an_upload_that_is_not_converted_is_streamed(
    server: RawServer, client: httpx.Client
) -> None:
    first_arrived = threading.Event()
    received: list[bytes] = []

    def script(exchange: Exchange) -> None:
        received.append(exchange.chunk())
        first_arrived.set()
        received.append(exchange.chunk())
        received.append(exchange.chunk())
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")

    def upload() -> Iterator[bytes]:
        yield b"one"
        assert first_arrived.wait(PATIENCE)
        yield b"two"

    server.serve(script)
    response = client.post("/v2/models/plain/infer", content=upload())
    assert (response.text, received) == ("ok", [b"one", b"two", b""])


def test_messages_of_a_grpc_stream_pass_one_by_one(gateway: Gateway) -> None:
    """The client sends a message only after it has the response to the one before."""
    target = gateway.config["listener"]["address"]
    with grpc.insecure_channel(target) as channel:
        method = channel.stream_stream(
            f"{OIP_GRPC_PREFIX}ModelStreamInfer",
            ModelInferRequest.SerializeToString,
            ModelInferResponse.FromString,
        )
        requests: queue.Queue[ModelInferRequest | None] = queue.Queue()
        responses = method(
            iter(requests.get, None), metadata=[("x-model-name", "tensors")], timeout=PATIENCE
        )
        for number in ("1", "2", "3"):
            requests.put(ModelInferRequest(model_name="tensors", id=number))
            assert next(responses).id == number
        requests.put(None)
        assert list(responses) == []
