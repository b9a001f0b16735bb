"""Events at a real web server: confirmed by 2xx, repeated after anything else."""

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway import free_ports
from tests.redis_tls import make_files, tls_in_front_of
from tests.trickle import trickle
from tests.video.sinks.events import delivered, event, failing, running, until
from tests.video.sinks.web_server import WebServer, web_server
from video.sinks import http_connection
from video.sinks.delivery import Sink
from video.sinks.transport import DeliveryError, StoredEvent
from video.sinks.webhook import WebhookTransport


def config(url: str, **more: Any) -> dict[str, Any]:
    return {"webhook": {"url": url, **more}}


def put(sink: Sink, *numbers: int) -> None:
    for number in numbers:
        sink.put(event(number), None)


def error_of(server: WebServer | str, status: int = 0, **headers: str) -> DeliveryError:
    """The error of one attempt."""
    if isinstance(server, WebServer):
        server.answers.append((status, headers))
    url = server.url if isinstance(server, WebServer) else server

    async def run() -> None:
        transport = WebhookTransport(url, {}, 10, 0.5)
        try:
            await transport.send([StoredEvent("a", b'{"frame":0}\n')])
        finally:
            await transport.close()

    with pytest.raises(DeliveryError) as failed:
        asyncio.run(run())
    return failed.value


def test_events_arrive_in_order_over_one_connection() -> None:
    async def run(server: WebServer) -> None:
        async with running(config(server.url, max_events=10)) as sink:
            put(sink, *range(35))

    with web_server() as server:
        asyncio.run(run(server))
    assert [number for each in server.requests for number in each.frames] == list(range(35))
    assert [len(each.frames) for each in server.requests] == [10, 10, 10, 5]
    assert len({each.connection for each in server.requests}) == 1
    first = server.requests[0]
    assert first.path == "/events?tenant=7"
    assert first.headers["content-type"] == "application/x-ndjson"
    assert first.headers["host"] == f"127.0.0.1:{server.port}"
    assert first.headers["user-agent"].startswith("sluice")


def test_a_repeated_batch_has_the_same_key_and_another_batch_another_one() -> None:
    async def run(server: WebServer) -> None:
        async with running(config(server.url, max_events=1)) as sink:
            put(sink, 0, 1)

    with web_server() as server:
        server.answers.append((500, {}))
        asyncio.run(run(server))
    first, repeated, second = server.requests
    assert first.body == repeated.body != second.body
    keys = [each.headers["idempotency-key"] for each in server.requests]
    assert keys[0] == keys[1] != keys[2]


def test_secrets_are_sent_as_headers() -> None:
    async def run(server: WebServer) -> None:
        secrets = {"sinks.0.webhook.headers_from_secret.authorization": b"Bearer abc"}
        headers = {"authorization": {"env": "UNUSED", "prefix": "Bearer "}}
        async with running(config(server.url, headers_from_secret=headers), secrets) as sink:
            put(sink, 0)

    with web_server() as server:
        asyncio.run(run(server))
    assert server.requests[0].headers["authorization"] == "Bearer abc"


def test_a_secret_that_is_no_header_value_is_an_error_without_the_value() -> None:
    async def run() -> None:
        transport = WebhookTransport("http://127.0.0.1:9", {"x": b"hunter2\nevil: 1"}, 10, 0.5)
        transport_error = transport.send([StoredEvent("a", b"{}\n")])
        with pytest.raises(DeliveryError) as failed:
            await transport_error
        assert "hunter2" not in str(failed.value)
        assert "headers_from_secret" in str(failed.value)

    with web_server() as server:
        asyncio.run(run())
    assert server.requests == []


@pytest.mark.parametrize("status", [302, 400, 401, 404, 413, 429, 500, 503])
def test_every_status_but_2xx_is_repeated_and_shown(status: int) -> None:
    async def run(server: WebServer) -> str:
        async with running(config(server.url)) as sink:
            put(sink, 0)
            error = await failing(sink)
            await delivered(sink, 1)
            return error

    with web_server() as server:
        server.answers.append((status, {"location": server.url}))
        error = asyncio.run(run(server))
    assert error == f"127.0.0.1:{server.port}: answered {status}"
    assert [each.frames for each in server.requests] == [[0], [0]]


def test_retry_after_is_seconds_or_a_date_and_only_of_429_and_503() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    with web_server() as server:
        assert error_of(server, 429, **{"retry-after": "7"}).retry_after == 7
        assert 90 < error_of(server, 503, **{"retry-after": date}).retry_after <= 100
        assert error_of(server, 503, **{"retry-after": "soon"}).retry_after == 0
        assert error_of(server, 503, **{"retry-after": "9" * 400}).retry_after < 1e9
        far = "Mon, 01 Jan 9999999999999999999999 00:00:00 GMT"
        assert error_of(server, 503, **{"retry-after": far}).retry_after == 0
        assert error_of(server, 400, **{"retry-after": "7"}).retry_after == 0


def test_events_wait_for_a_server_that_is_down() -> None:
    (port,) = free_ports(1)

    async def run() -> list[int]:
        async with running(config(f"http://127.0.0.1:{port}/")) as sink:
            put(sink, 0)
            assert await failing(sink)
            put(sink, 1)
            with web_server(port) as server:
                await delivered(sink, 2)
            return server.frames

    assert asyncio.run(run()) == [0, 1]


def test_a_connection_that_the_server_has_closed_is_opened_again_without_an_error() -> None:
    async def run(server: WebServer) -> None:
        async with running(config(server.url)) as sink:
            for number in range(3):
                put(sink, number)
                await until(lambda: sink.status().error or not sink.status().waiting)
                assert sink.status().error == ""

    with web_server() as server:
        server.closes = True
        asyncio.run(run(server))
    assert [each.frames for each in server.requests] == [[0], [1], [2]]
    assert len({each.connection for each in server.requests}) == 3


def test_a_server_that_does_not_answer_is_an_error_after_the_timeout() -> None:
    with web_server() as server:
        server.silent.set()
        assert "no answer within 0.5 s" in str(error_of(server.url))


def test_headers_that_never_end_are_an_error_after_the_timeout() -> None:
    with trickle(b"HTTP/1.1 200 OK\r\nx: ") as (address, left):
        assert "no answer within 0.5 s" in str(error_of(f"http://{address}/"))
        assert left.wait(10)


def test_the_headers_of_a_response_are_bounded() -> None:
    with trickle(b"HTTP/1.1 200 OK\r\nx: " + b"a" * (1 << 20)) as (address, left):
        assert "the response is not HTTP" in str(error_of(f"http://{address}/"))
        assert left.wait(10)


def test_a_body_that_never_ends_does_not_hold_up_what_the_status_confirms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connection, "_BODY_TIMEOUT", 0.05)

    async def run(address: str) -> None:
        async with running(config(f"http://{address}/")) as sink:
            put(sink, 0)
            await delivered(sink, 1)
            put(sink, 1)
            await delivered(sink, 2)

    with trickle(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n") as (address, left):
        asyncio.run(run(address))
        assert left.wait(10)


def test_a_large_body_is_not_read() -> None:
    async def run(server: WebServer) -> None:
        async with running(config(server.url)) as sink:
            for number in range(3):
                put(sink, number)
                await delivered(sink, number + 1)

    with web_server() as server:
        server.body = bytes(4 << 20)
        server.answers += [(200, {})] * 3
        asyncio.run(run(server))
    assert len({each.connection for each in server.requests}) == 3


def test_what_is_not_http_is_an_error() -> None:
    with trickle(b"SSH-2.0-OpenSSH\r\n\r\n") as (address, _):
        assert "the response is not HTTP" in str(error_of(f"http://{address}/"))


def test_endless_informational_responses_are_an_error() -> None:
    with trickle(b"HTTP/1.1 103 Early\r\n\r\n" * 100) as (address, _):
        assert "the response is not HTTP" in str(error_of(f"http://{address}/"))


def test_an_error_does_not_show_the_path_of_the_url() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "token" not in str(error_of(f"http://127.0.0.1:{port}/hook/token?key=token"))


def test_the_certificate_of_the_server_is_checked(tmp_path: Path) -> None:
    make_files(tmp_path)

    async def run(port: int, **more: str) -> str:
        url = f"https://localhost:{port}/"
        async with running(config(url, **more), seconds=0) as sink:
            put(sink, 0)
            await until(lambda: sink.status().error or sink.status().delivered)
            return sink.status().error

    with (
        web_server() as server,
        tls_in_front_of(server.port, tmp_path, optional=True) as port,
    ):
        assert asyncio.run(run(port, ca=str(tmp_path / "ca.crt"))) == ""
        assert "the certificate is not valid" in asyncio.run(run(port))
    assert server.frames == [0]
