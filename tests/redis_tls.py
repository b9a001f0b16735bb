"""TLS with client certificates in front of a Redis, for builds of Redis without TLS."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sluice.certificates import Part, make_certificates
from sluice.tls import TlsFiles, server_context

PARTS = (Part("redis", "redis", True), Part("sluice-client", "client", False))


def make_files(folder: Path) -> None:
    """Certificates of a new authority in `folder`: of the server and of a client."""
    list(make_certificates(folder, PARTS, [], 3, datetime.now(UTC), new_authority=True))


@contextlib.contextmanager
def tls_in_front_of(port: int, folder: Path, *, optional: bool = False) -> Iterator[int]:
    """The port of a server that demands a certificate of the authority in `folder`.

    `optional`: a client may also have none.
    """
    files = TlsFiles(folder / "redis.crt", folder / "redis.key", folder / "ca.crt")
    context = server_context(files, optional=optional)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, redis_writer), pipe(redis_reader, writer))

    async def start() -> asyncio.Server:
        return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
