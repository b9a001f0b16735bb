"""What no rule asks for passes through Envoy untouched: streams, upgrades, HTTP/2."""

import asyncio
import time

import httpx
import pytest
import websockets.sync.client

from tests.integration.gateway import Gateway


def test_a_websocket_echoes_frames(gateway: Gateway) -> None:
    address = gateway.config["listener"]["address"]
    with websockets.sync.client.connect(f"ws://{address}/v2/models/echo/ws") as socket:
        socket.send("hello")
        assert socket.recv(10) == "hello"
        socket.send(b"\x00\x01")
        assert socket.recv(10) == b"\x00\x01"


def test_a_websocket_to_a_model_without_is_refused(gateway: Gateway) -> None:
    address = gateway.config["listener"]["address"]
    with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
        websockets.sync.client.connect(f"ws://{address}/v2/models/private/ws")
    assert refused.value.response.status_code in (403, 405)


def test_a_response_streams_as_it_is_made(gateway: Gateway) -> None:
    path = "/v2/models/echo/generate_stream?events=3&interval_ms=300"
    with gateway.client() as client, client.stream("GET", path) as response:
        arrivals = [time.monotonic() for line in response.iter_lines() if line]
    assert len(arrivals) == 3
    assert arrivals[-1] - arrivals[0] > 0.3, "the events were held back and came together"


def test_a_request_body_streams_as_it_is_sent(gateway: Gateway) -> None:
    """The second chunk is sent only after the first came back: nothing may wait for the end."""

    async def talk() -> bytes:
        host, _, port = gateway.config["listener"]["address"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v2/models/echo/x?echo=body HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked"
        writer.write(head.encode() + b"\r\n\r\n3\r\none\r\n")
        received = await reader.readuntil(b"one")
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        received += await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return received

    async def in_time() -> bytes:
        return await asyncio.wait_for(talk(), 10)

    received = asyncio.run(in_time())
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.index(b"one") < received.index(b"two")


def test_http2_clients_are_served_with_many_streams_at_once(gateway: Gateway) -> None:
    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(
            base_url=gateway.url, http1=False, http2=True, timeout=30
        ) as client:
            return await asyncio.gather(*(client.get("/v2/models/echo/x") for _ in range(50)))

    answers = asyncio.run(ask())
    assert {(a.http_version, a.status_code) for a in answers} == {("HTTP/2", 200)}
