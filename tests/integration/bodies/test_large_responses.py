"""Responses and tensors around the limits of bodies."""

import gzip
import io
import zlib
from collections.abc import Callable

import brotli
import httpx
import pytest
from PIL import Image

from sluice.config.gateway import Requests
from tests.integration.bodies.servers import (
    ANSWER,
    DEFAULT,
    INFER,
    JSON,
    MAX_RESPONSE,
    MIB,
    REQUEST,
    GrpcServer,
    reason,
    top_label,
)
from tests.integration.gateway import REQUESTS_TO_OPEN, Gateway, eventually, reported_requests
from tests.integration.raw_server import Exchange, RawServer
from tests.zstd import zstd


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
