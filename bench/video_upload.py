"""Uploads a film to a gateway as fast as it takes it, and reads the events meanwhile."""

import json
import shutil
import socket
import threading
from dataclasses import dataclass
from typing import IO, Any

from bench.video_films import Film

TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Upload:
    """The events of an upload: latencies of results in ms, and the counts of the last event."""

    latencies: list[float]
    counts: dict[str, Any]


def upload(port: int, model: str, film: Film, query: str = "") -> Upload:
    """Send a film. Raises RuntimeError if the gateway refuses it, or ends it early."""
    head = (
        f"POST /v2/models/{model}/video?{query} HTTP/1.1\r\nHost: gateway.bench\r\n"
        f"Content-Type: {film.content_type}\r\nAccept: application/x-ndjson\r\n"
        f"Content-Length: {film.content.stat().st_size}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(head.encode())
        sender = threading.Thread(target=_send, args=(connection, film))
        sender.start()
        with connection.makefile("rb") as response:
            try:
                return _read(response, film.name)
            finally:
                connection.shutdown(socket.SHUT_RDWR)
                sender.join()


def _send(connection: socket.socket, film: Film) -> None:
    try:
        with film.content.open("rb") as content, connection.makefile("wb") as output:
            shutil.copyfileobj(content, output, 1 << 16)
    except OSError:
        pass  # the gateway has ended the upload, and its response says why


def _read(response: IO[bytes], name: str) -> Upload:
    status = response.readline()
    lines = (line.strip() for line in response)
    if b" 200 " not in status:
        raise RuntimeError(f"{name}: {status!r} {b' '.join(lines)[:1000]!r}")
    latencies: list[float] = []
    for line in lines:
        if not line.startswith(b"{"):
            continue  # a header, or the size of a chunk
        event = json.loads(line)
        if "end" in event:
            if event["end"].get("reason"):
                raise RuntimeError(f"{name}: {event['end']}")
            return Upload(latencies, event["end"]["counts"])
        if "inference" in event:
            latencies.append(event["timings"]["total"])
    raise RuntimeError(f"{name}: the response has no last event")
