"""Bodies between clients and model servers: lengths, streams, content codings, large responses."""

import contextlib
import gzip
import io
import json
import queue
import struct
import threading
import wsgiref.simple_server
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import brotli
import grpc
import httpx
import pytest
from PIL import Image

from protos.inference_pb2 import ModelInferRequest, ModelInferResponse
from sluice.config.gateway import Requests
from sluice.contract.paths import OIP_GRPC_PREFIX
from tests.integration.gateway import (
    REQUESTS_TO_OPEN,
    Gateway,
    base_config,
    eventually,
    reported_requests,
    running,
)
from tests.integration.raw_server import PATIENCE, Exchange, RawServer, raw_server
from tests.zstd import zstd

INFER = "/v2/models/labelled/infer"
REQUEST = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}
RESPONSE = {
    "model_name": "labelled",
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.1, 0.9]}],
}
ANSWER = json.dumps(RESPONSE).encode()
JSON = "200 OK\r\ncontent-type: application/json"
MAX_RESPONSE = MIB = 1 << 20
DEFAULT = Requests().max_response


class Wsgi:
    """A WSGI model server: it reads as many bytes as `content-length` says, and no chunks."""

    def __init__(self) -> None:
        self.bodies: queue.Queue[bytes] = queue.Queue()
        self.server = wsgiref.simple_server.make_server("127.0.0.1", 0, self.application)
        self.thread = threading.Thread(target=self.server.serve_forever)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    def application(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        self.bodies.put(environ["wsgi.input"].read(length))
        start_response("200 OK", [("content-type", "application/json")])
        return [ANSWER]


@pytest.fixture(scope="module")
def wsgi() -> Iterator[Wsgi]:
    server = Wsgi()
    server.thread.start()
    yield server
    server.server.shutdown()
    server.thread.join(10)
    server.server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    with raw_server() as running_server:
        yield running_server


class GrpcServer:
    """A gRPC model server. ModelStreamInfer answers each message before the next arrives."""

    def __init__(self) -> None:
        self.response = ModelInferResponse(model_name="tensors")
        self.response.outputs.add(name="y", datatype="FP32", shape=[1, 2])
        self.response.raw_output_contents.append(struct.pack("<2f", 0.1, 0.9))
        serve = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(
                self.infer, ModelInferRequest.FromString, bytes
            ),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(
                self.stream, ModelInferRequest.FromString, bytes
            ),
        }
        handler = grpc.method_handlers_generic_handler(OIP_GRPC_PREFIX.strip("/"), serve)
        self.received = 0
        """Bytes of the tensors of the latest request."""
        self.server = grpc.server(
            futures.ThreadPoolExecutor(4),
            handlers=[handler],
            options=[("grpc.max_receive_message_length", -1)],
        )
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    @contextlib.contextmanager
    def responding(self, data: bytes) -> Iterator[None]:
        """Respond with a tensor of these bytes in a with block."""
        usual = self.response
        self.response = ModelInferResponse(model_name="tensors")
        self.response.outputs.add(name="z", datatype="INT8", shape=[len(data)])
        self.response.raw_output_contents.append(data)
        try:
            yield
        finally:
            self.response = usual

    def infer(self, request: ModelInferRequest, context: grpc.ServicerContext) -> bytes:
        self.received = sum(map(len, request.raw_input_contents))
        return self.response.SerializeToString()

    def stream(
        self, requests: Iterator[ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        for request in requests:
            yield ModelInferResponse(id=request.id).SerializeToString()


@pytest.fixture(scope="module")
def grpc_server() -> Iterator[GrpcServer]:
    server = GrpcServer()
    server.server.start()
    yield server
    server.server.stop(None)


@pytest.fixture(scope="module")
def gateway(server: RawServer, wsgi: Wsgi, grpc_server: GrpcServer) -> Iterator[Gateway]:
    """Models of `server`: `labelled` has labels, `unlabelled` has none, `plain` declares nothing.

    `retried` is `labelled` with retries. `wsgi` and `tensors` are `labelled` on the other servers,
    `large` is `tensors` with the default limit of responses, and `picture` with an image.
    """
    config = base_config()
    config["requests"]["max_response"] = MAX_RESPONSE
    common = {
        "access": {"public": True},
        "methods": ["GET", "HEAD", "POST"],
        "extra_paths": ["*"],
        "versions": {"v1": {"endpoints": [{"address": server.address}]}},
    }
    tensors = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "y", "labels": ["cat", "dog"]}],
    }
    config["models"] = {
        "labelled": {**common, **tensors},
        "unlabelled": {**common, "inputs": tensors["inputs"]},
        "plain": {**common, "content_types": ["*/*"]},
        "wsgi": {
            **common,
            **tensors,
            "versions": {"v1": {"endpoints": [{"address": wsgi.address}]}},
        },
    }
    config["models"]["tensors"] = {
        **config["models"]["labelled"],
        "methods": ["POST"],
        "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": grpc_server.address}]}},
    }
    config["models"]["large"] = {**config["models"]["tensors"], "max_response": DEFAULT}
    config["models"]["retried"] = {**config["models"]["labelled"], "retries": {"retry_on": ["5xx"]}}
    shape = {"width": 1000, "height": 1000, "layout": "NCHW"}
    config["models"]["picture"] = {
        **config["models"]["tensors"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 1000, 1000], "image": shape}],
    }
    config["callout"]["message_timeout"] = 20
    with running(config, demo=False) as started:
        yield started


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[httpx.Client]:
    http2 = request.param == "HTTP/2"
    with gateway.client(http1=not http2, http2=http2) as opened:
        yield opened


def top_label(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    label: str = response.json()["outputs"][0]["top_k"][0][0]["label"]
    return label


def reason(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["reason"]


def chunks() -> Iterator[bytes]:
    """A request body of unknown length."""
    body = json.dumps(REQUEST).encode()
    yield body[:10]
    yield body[10:]


# Lengths


@pytest.mark.parametrize("model", ["labelled", "unlabelled"])
@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_a_converted_request_has_its_length(
    server: RawServer, client: httpx.Client, model: str, v1: bool, measured: bool
) -> None:
    received: queue.Queue[bytes] = queue.Queue()

    def script(exchange: Exchange) -> None:
        received.put(exchange.body())
        exchange.send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    server.serve(script)
    body = json.dumps({"instances": [1]} if v1 else REQUEST).encode()
    client.post(
        f"/v2/models/{model}/infer",
        content=body if measured else iter((body[:5], body[5:])),
        headers={"content-type": "application/json"},
    )
    assert json.loads(received.get(timeout=PATIENCE))["inputs"]
    assert "transfer-encoding" not in server.request().headers


@pytest.mark.parametrize("measured", [False, True])
def test_a_retried_request_has_its_length(
    server: RawServer, client: httpx.Client, measured: bool
) -> None:
    received: list[bytes] = []

    def script(exchange: Exchange) -> None:
        received.append(exchange.body())
        status = "503 Service Unavailable" if len(received) == 1 else JSON
        head = f"HTTP/1.1 {status}\r\ncontent-length: {len(ANSWER)}\r\nconnection: close\r\n\r\n"
        exchange.send(head.encode() + ANSWER)

    server.serve(script)
    response = client.post(
        "/v2/models/retried/infer",
        content=json.dumps(REQUEST).encode() if measured else chunks(),
        headers={"content-type": "application/json"},
    )
    assert top_label(response) == "dog"
    assert [json.loads(body) for body in received] == [REQUEST, REQUEST]


def test_a_wsgi_server_gets_a_converted_body(wsgi: Wsgi, client: httpx.Client) -> None:
    for body in (json.dumps(REQUEST).encode(), chunks()):
        response = client.post(
            "/v2/models/wsgi/infer", content=body, headers={"content-type": "application/json"}
        )
        assert json.loads(wsgi.bodies.get(timeout=PATIENCE)) == REQUEST
        assert top_label(response) == "dog"


def test_a_converted_response_has_its_length(server: RawServer, client: httpx.Client) -> None:
    server.respond(JSON, ANSWER)
    response = client.post(INFER, json=REQUEST)
    assert response.headers["content-length"] == str(len(response.content))
    assert top_label(response) == "dog"


def test_a_converted_grpc_response_has_its_length(client: httpx.Client) -> None:
    response = client.post("/v2/models/tensors/infer", json=REQUEST)
    assert response.headers["content-length"] == str(len(response.content))
    assert top_label(response) == "dog"


def test_the_response_to_head_keeps_its_length(server: RawServer, client: httpx.Client) -> None:
    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
        exchange.send(b"content-length: 77\r\nconnection: close\r\n\r\n")

    server.serve(script)
    response = client.request("HEAD", INFER, json=REQUEST)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "77"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_a_response_without_a_body_gets_no_length(
    server: RawServer, client: httpx.Client, status: str
) -> None:
    def script(exchange: Exchange) -> None:
        exchange.body()
        exchange.send(f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n".encode())
        exchange.send(b"connection: close\r\n\r\n")

    server.serve(script)
    response = client.post(INFER, json=REQUEST)
    assert (response.status_code, response.content) == (int(status[:3]), b"")
    assert "content-length" not in response.headers


# Streams


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


# Content codings


def twice(body: bytes) -> bytes:
    return brotli.compress(gzip.compress(body))


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("br", brotli.compress),
    ("zstd", zstd.compress),
    ("gzip, br", twice),
    ("identity", bytes),
]


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_a_response_that_is_compressed_unasked_is_converted(
    server: RawServer, client: httpx.Client, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    described = '\r\netag: "1"\r\nvary: accept-encoding\r\nvary: origin'
    server.respond(f"{JSON}{described}\r\ncontent-encoding: {coding}", compress(ANSWER))
    response = client.post(INFER, json=REQUEST, headers={"accept-encoding": "gzip;q=0.5"})
    assert top_label(response) == "dog"
    assert server.request().headers["accept-encoding"] == "identity"
    assert not {"content-encoding", "etag"} & response.headers.keys()
    assert response.headers["vary"] == "origin"
    assert response.headers["content-length"] == str(len(response.content))


def test_a_compressed_response_without_labels_is_decompressed_all_the_same(
    server: RawServer, client: httpx.Client
) -> None:
    answer = ANSWER.replace(b'"y"', b'"z"')
    server.respond(f"{JSON};v=1\r\ncontent-encoding: gzip", gzip.compress(answer))
    response = client.post(INFER, json=REQUEST, headers={"accept-encoding": "identity"})
    assert (response.status_code, response.content) == (200, answer)
    assert response.headers["content-type"] == "application/json;v=1"
    assert "content-encoding" not in response.headers


@pytest.mark.parametrize("path", ["/v2/models/unlabelled/infer", "/v2/models/plain/infer"])
def test_client_and_server_negotiate_the_coding_of_a_response_that_is_not_read(
    server: RawServer, client: httpx.Client, path: str
) -> None:
    compressed = gzip.compress(ANSWER)
    server.respond(f"{JSON}\r\ncontent-encoding: gzip\r\netag: 1\r\nvary: x", compressed)
    headers = {"accept-encoding": "gzip;q=0.5", "content-type": "application/json"}
    with client.stream("POST", path, content=json.dumps(REQUEST), headers=headers) as response:
        assert b"".join(response.iter_raw()) == compressed
    assert (response.headers["etag"], response.headers["vary"]) == ("1", "x")
    assert server.request().headers["accept-encoding"] == "gzip;q=0.5"


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip, gzip"])
def test_a_response_with_an_unknown_coding_is_refused(
    server: RawServer, client: httpx.Client, coding: str
) -> None:
    server.respond(f"{JSON}\r\ncontent-encoding: {coding}", ANSWER)
    response = client.post(INFER, json=REQUEST)
    assert reason(response) == (502, "unknown_response_coding")
    assert "content-encoding" in response.json()["detail"]


@pytest.mark.parametrize(("coding", "compress"), CODINGS)
def test_a_compressed_request_is_converted(
    wsgi: Wsgi, client: httpx.Client, coding: str, compress: Callable[[bytes], bytes]
) -> None:
    headers = {"content-encoding": coding, "content-type": "application/json"}
    body = compress(json.dumps(REQUEST).encode())
    response = client.post("/v2/models/wsgi/infer", content=body, headers=headers)
    assert top_label(response) == "dog"
    assert json.loads(wsgi.bodies.get(timeout=PATIENCE)) == REQUEST


@pytest.mark.parametrize("coding", ["compress", "gzip, gzip, gzip"])
def test_a_refused_content_coding_names_those_that_are_accepted(
    client: httpx.Client, coding: str
) -> None:
    response = client.post(INFER, json=REQUEST, headers={"content-encoding": coding})
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "gzip, deflate, br, zstd"


# Large responses


def padded(size: int) -> bytes:
    """A response of this many bytes."""
    return ANSWER + b" " * (size - len(ANSWER))


def chunked(server: RawServer, body: bytes, lines: str = JSON) -> None:
    """Let the server send this body without its length."""

    def script(exchange: Exchange) -> None:
        exchange.body()
        head = f"HTTP/1.1 {lines}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        exchange.send(head.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")

    server.serve(script)


@pytest.mark.parametrize("measured", [True, False])
def test_a_response_up_to_the_limit_is_converted(
    server: RawServer, client: httpx.Client, measured: bool
) -> None:
    if measured:
        server.respond(JSON, padded(MAX_RESPONSE))
    else:
        chunked(server, padded(MAX_RESPONSE))
    assert top_label(client.post(INFER, json=REQUEST)) == "dog"


@pytest.mark.parametrize("size", [MAX_RESPONSE + 1, 20 * MIB])
@pytest.mark.parametrize("measured", [True, False])
def test_a_response_over_the_limit_is_refused(
    server: RawServer, client: httpx.Client, measured: bool, size: int
) -> None:
    if measured:
        server.respond(JSON, padded(size))
    else:
        chunked(server, padded(size))
    assert reason(client.post(INFER, json=REQUEST)) == (502, "response_too_large")


@pytest.mark.parametrize("measured", [True, False])
def test_a_small_request_may_become_a_tensor_over_the_limit_of_requests(
    grpc_server: GrpcServer, client: httpx.Client, measured: bool
) -> None:
    """An image of more than Envoy reads at once, whose tensor exceeds `max_body`."""
    noise = Image.effect_noise((1000, 1000), 90)
    written = io.BytesIO()
    noise.save(written, "PNG")
    image = written.getvalue()
    assert 1 << 18 < len(image) < Requests().max_body < 12_000_000
    response = client.post(
        "/v2/models/picture/infer",
        content=image if measured else iter([image[: 1 << 17], image[1 << 17 :]]),
        headers={"content-type": "image/png"},
    )
    assert response.status_code == 200, response.text[:500]
    assert grpc_server.received == 12_000_000


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, brotli.compress, zstd.compress])
def test_a_decompression_bomb_is_refused(
    server: RawServer, client: httpx.Client, compress: Callable[[bytes], bytes]
) -> None:
    coding = {gzip.compress: "gzip", zlib.compress: "deflate", brotli.compress: "br"}
    bomb = compress(padded(64 * MIB))
    assert len(bomb) < MAX_RESPONSE
    server.respond(f"{JSON}\r\ncontent-encoding: {coding.get(compress, 'zstd')}", bomb)
    assert reason(client.post(INFER, json=REQUEST)) == (502, "response_too_large")


@pytest.mark.parametrize("size", [1 << 18, 1 << 19, 4 * MIB, 20 * MIB])
def test_grpc_responses_have_the_same_limit(
    grpc_server: GrpcServer, client: httpx.Client, size: int
) -> None:
    with grpc_server.responding(bytes(range(256)) * (size // 256)):
        response = client.post("/v2/models/tensors/infer", json=REQUEST)
    if size < MAX_RESPONSE:
        assert len(response.json()["outputs"][0]["data"]) == size
        assert response.headers["content-length"] == str(len(response.content))
    else:
        assert reason(response) == (502, "response_too_large")


def test_the_longest_text_of_a_response_within_the_default_limit_is_sent(
    grpc_server: GrpcServer, client: httpx.Client
) -> None:
    """A worker that copied it often would be silent for so long that Envoy left it."""
    size = DEFAULT - 100
    with grpc_server.responding(b"\x80" * size):
        response = client.post("/v2/models/large/infer", json=REQUEST)
    assert response.status_code == 200, response.text[:500]
    assert response.content.count(b"-128") == size


@pytest.mark.parametrize("head", ["200 OK\r\ncontent-type: text/csv", f"400 No{JSON[6:]}"])
def test_a_large_response_that_is_not_converted_passes(
    server: RawServer, client: httpx.Client, head: str
) -> None:
    chunked(server, padded(32 * MIB), head)
    assert client.post(INFER, json=REQUEST).content == padded(32 * MIB)


def test_responses_that_the_gateway_cannot_read_do_not_open_the_breaker(
    gateway: Gateway, server: RawServer, client: httpx.Client
) -> None:
    before = reported_requests(gateway, "labelled")
    for number in range(REQUESTS_TO_OPEN):
        if number % 3 == 0:
            server.respond(JSON, padded(MAX_RESPONSE + 1))
        elif number % 3 == 1:
            chunked(server, padded(2 * MIB))
        else:
            server.respond(f"{JSON}\r\ncontent-encoding: compress", ANSWER)
        assert client.post(INFER, json=REQUEST).status_code == 502
    eventually(lambda: reported_requests(gateway, "labelled") >= before + REQUESTS_TO_OPEN)
    server.respond(JSON, ANSWER)
    assert top_label(client.post(INFER, json=REQUEST)) == "dog"
