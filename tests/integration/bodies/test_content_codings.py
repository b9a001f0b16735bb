"""Content codings of requests and responses."""

import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import httpx
import pytest

from tests.integration.bodies.servers import ANSWER, INFER, JSON, REQUEST, Wsgi, reason, top_label
from tests.integration.raw_server import PATIENCE, RawServer
from tests.zstd import zstd


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
