"""Envoy forwards WebSockets, streams and HTTP/2 without buffering."""

import asyncio

import httpx
import pytest
import websockets.sync.client

from tests.integration.gateway import Gateway


def test_websocket_frames_are_forwarded_in_both_directions(gateway: Gateway) -> None:
    address = gateway.config["listener"]["address"]
    with websockets.sync.client.connect(f"ws://{address}/v2/models/echo/ws") as socket:
        socket.send("hello")
        assert socket.recv(10) == "hello"
        socket.send(b"\x00\x01")
        assert socket.recv(10) == b"\x00\x01"


def test_a_websocket_to_a_model_that_does_not_allow_it_is_refused(gateway: Gateway) -> None:
    address = gateway.config["listener"]["address"]
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        websockets.sync.client.connect(f"ws://{address}/v2/models/private/ws")
    assert refused.value.response.status_code in (403, 405)


def test_a_response_is_streamed(gateway: Gateway) -> None:
    """The server sends the second event later than the timeout of the client."""
    path = "/v2/models/echo/generate_stream?events=2&interval_ms=10000"
    with gateway.client() as client, client.stream("GET", path, timeout=8) as response:
        assert '"index": 0' in next(response.iter_lines())


def test_a_request_body_is_streamed(gateway: Gateway) -> None:
    """The client sends the second chunk only after the server has returned the first."""

    async def exchange() -> bytes:
        host, _, port = gateway.config["listener"]["address"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v2/models/echo/x?echo=body HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked"
        async with asyncio.timeout(60):
            writer.write(head.encode() + b"\r\n\r\n3\r\none\r\n")
            received = await reader.readuntil(b"one")
            writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
            received += await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return received

    received = asyncio.run(exchange())
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.index(b"one") < received.index(b"two")


def test_concurrent_http2_streams_of_one_connection_are_served(gateway: Gateway) -> None:
    async def send() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=gateway.url, http1=False, http2=True, timeout=30
        ) as client:
            return await asyncio.gather(*(client.get("/v2/models/echo/x") for _ in range(50)))

    responses = asyncio.run(send())
    assert {(each.http_version, each.status_code) for each in responses} == {("HTTP/2", 200)}
