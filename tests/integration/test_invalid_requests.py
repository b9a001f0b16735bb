"""With a real Envoy: a request that Envoy refuses gets a problem that names the cause."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice.cli import main
from tests import plain_http
from tests.integration.gateway import (
    Gateway,
    base_config,
    decided_by_placement,
    eventually,
    running,
)
from tests.integration.raw_server import RawServer
from tests.integration.test_telemetry import lines

GET = b"GET /v2/models/m/infer HTTP/1.1\r\n"
HOST = b"host: h\r\n"
END = b"\r\n"


@pytest.fixture(scope="module")
def gateway(placement: str, server: RawServer, directory: Path) -> Iterator[Gateway]:
    config = base_config(placement)
    config["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    config["models"] = {
        "m": {
            "versions": {"v1": {"endpoints": [{"address": server.address}]}},
            "access": {"public": True},
        }
    }
    with running(config, demo=False) as gateway:
        yield gateway


def answer(gateway: Gateway, request: bytes) -> tuple[int, dict[str, Any]]:
    """The status and the problem of a request, as bytes."""
    host, _, port = gateway.config["listener"]["address"].rpartition(":")
    with socket.create_connection((host, int(port)), 30) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        assert response.getheader("content-type") == "application/problem+json"
        return response.status, json.loads(response.read())


@pytest.mark.parametrize(
    ("request_", "status", "reason", "cause", "details"),
    [
        (GET + HOST + b"x_a: 1\r\n" + END, 400, "bad_request", "underscore",
         "http1.unexpected_underscore"),
        (GET + HOST + b"x-a: \x01\r\n" + END, 400, "bad_request", "character that HTTP does not",
         "http1.invalid_characters"),
        (GET + END, 400, "bad_request", "no Host header", "missing_host_header"),
        (GET + b"host: a/b\r\n" + END, 400, "bad_request", "host", "http.invalid_authority"),
        (b"GET /v2/models%2fm HTTP/1.1\r\n" + HOST + END, 400, "bad_request", "(%2F or %5C)",
         "path_normalization_failed"),
        (b"GET ftp://h/v2 HTTP/1.1\r\n" + HOST + END, 400, "bad_request", "scheme",
         "http1.invalid_scheme"),
        (GET + HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n" + END, 400,
         "bad_request", "send only one", "http1.content_length_and_chunked_not_allowed"),
        (GET + HOST + b"transfer-encoding: gzip\r\n" + END, 501, "not_implemented",
         "Transfer-Encoding", "http1.invalid_transfer_encoding"),
        (GET + HOST + b"".join(b"x-%d: v\r\n" % n for n in range(110)) + END, 431,
         "headers_too_large", "more than 100 headers", "http1.too_many_headers"),
        (GET + HOST + b"x-a: " + b"v" * 65_000 + b"\r\n" + END, 431, "headers_too_large",
         "larger than 60 KiB", "http1.headers_too_large"),
        (b"GET / HTTP/1.0\r\n" + HOST + END, 426, "upgrade_required", "HTTP/1.1", "low_version"),
        (GET + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n" + END, 403, "forbidden",
         "upgrade", "upgrade_failed"),
        (b"\x00\x01\r\n" + END, 400, "bad_request", "not valid HTTP", "http1.codec_error"),
    ],
)  # fmt: skip
def test_the_problem_names_the_cause_and_so_does_the_log(
    gateway: Gateway,
    directory: Path,
    request_: bytes,
    status: int,
    reason: str,
    cause: str,
    details: str,
) -> None:
    got, problem = answer(gateway, request_)
    assert (got, problem["status"], problem["reason"]) == (status, status, reason)
    assert cause in problem["detail"]

    def logged() -> bool:
        return any(
            line["status"] == status and line["reason"] == reason and line["details"] == details
            for line in lines(directory)
        )

    eventually(logged)


@pytest.mark.parametrize(
    ("headers", "reason", "details"),
    [
        ({"x_a": "1"}, "bad_request", "http2.unexpected_underscore"),
        ({f"x-{n}": "v" for n in range(110)}, "headers_too_large", "http2.too_many_headers"),
    ],
)
def test_over_http2_the_stream_is_reset_and_the_log_has_the_cause(
    gateway: Gateway, directory: Path, headers: dict[str, str], reason: str, details: str
) -> None:
    with gateway.client(http2=True, http1=False) as client, pytest.raises(httpx.ProtocolError):
        client.get("/v2/models/m/infer", headers=headers)

    def logged() -> bool:
        return any(
            line["reason"] == reason and line["details"] == details for line in lines(directory)
        )

    eventually(logged)


FORGED = ("x_sluice_subject", "x-sluice_subject", "x-sluice-a_b", "x_model_service",
          "x_forwarded_for", "x-forwarded_for", "x_request_id", "content_length")  # fmt: skip


@pytest.mark.parametrize(("action", "kept"), [("drop", False), ("allow", True)])
def test_headers_with_underscores_may_be_dropped_or_allowed(
    gateway: Gateway,
    server: RawServer,
    capsys: pytest.CaptureFixture[str],
    action: str,
    kept: bool,
) -> None:
    server.respond("200 OK")
    gateway.edit(lambda config: config["listener"].update(headers_with_underscores=action))
    headers = {"x_user": "1", "x_model": "2"} | dict.fromkeys(FORGED, "3")
    path = f"{gateway.url}/v2/models/m/infer"
    with decided_by_placement(gateway):
        assert plain_http.post(path, json={}, headers=headers).status_code == 200
    received = server.request().headers
    assert ("x_user" in received) == ("x_model" in received) == kept
    assert not received.keys() & set(FORGED)
    assert main(["explain", str(gateway.file), "-d", "{}", "-H", "x_user: 1",
                 "-H", "content-type: application/json", path]) == 0  # fmt: skip
    assert "underscore" not in capsys.readouterr().out
