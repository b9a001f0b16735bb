"""A broker that speaks as much of MQTT 3.1.1 as a publisher with QoS 1 needs."""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

CONNECT, PUBLISH, PINGREQ, DISCONNECT = 1, 3, 12, 14
CONNACK, PUBACK, PINGRESP = 0x20, 0x40, 0xD0
BAD_CREDENTIALS = 4


@dataclass
class Broker:
    """`messages`: topic and payload of each PUBLISH, also of repeated ones."""

    port: int = 0
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    password: bytes | None = None
    acknowledge: int | None = None
    """How many more messages are acknowledged; None for all. Then it closes the connection."""
    silent: bool = False
    """Whether it accepts connections and says nothing."""


@contextlib.contextmanager
def mqtt_broker(port: int = 0) -> Iterator[Broker]:
    broker = Broker()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await _session(broker, reader, writer)
        finally:
            writer.close()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", port)

    async def stop() -> None:
        server.close()
        sessions = asyncio.all_tasks() - {asyncio.current_task()}
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _session(
    broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while True:
        kind, body = await _packet(reader)
        if broker.silent:
            continue
        if kind >> 4 == CONNECT:
            accepted = _accepted(broker, body)
            writer.write(bytes([CONNACK, 2, 0, 0 if accepted else BAD_CREDENTIALS]))
        elif kind >> 4 == PUBLISH:
            length = int.from_bytes(body[:2])
            identifier, payload = body[2 + length : 4 + length], body[4 + length :]
            broker.messages.append((body[2 : 2 + length].decode(), payload))
            if broker.acknowledge == 0:
                broker.acknowledge = None
                return
            if broker.acknowledge is not None:
                broker.acknowledge -= 1
            writer.write(bytes([PUBACK, 2]) + identifier)
        elif kind >> 4 == PINGREQ:
            writer.write(bytes([PINGRESP, 0]))
        elif kind >> 4 == DISCONNECT:
            return
        await writer.drain()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    (kind,) = await reader.readexactly(1)
    length = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)


def _accepted(broker: Broker, body: bytes) -> bool:
    texts, position = [], 10
    while position < len(body):
        (length,) = struct.unpack_from(">H", body, position)
        texts.append(body[position + 2 : position + 2 + length])
        position += 2 + length
    broker.clients.append(texts[0].decode())
    return broker.password is None or texts[-1] == broker.password
