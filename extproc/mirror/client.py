"""Sends a copy of a request to Envoy, over HTTP/1.1 on a Unix socket."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from extproc.mirror.answer import Answer

if TYPE_CHECKING:
    import h11

MAX_HEAD: Final = 300 << 10
"""Bytes of the headers of a response: more than Envoy accepts from a model server."""

_CHUNK: Final = 1 << 16


class UnreachableError(Exception):
    """Envoy does not listen on the socket."""


class AnswerTooLargeError(Exception):
    """There is no room for the answer."""


class NoAnswerError(Exception):
    """The connection ended before the end of a valid response."""


class InvalidCopyError(Exception):
    """The request cannot be written in HTTP/1.1."""


Take = Callable[[int], bool]
"""Takes so many bytes of the answer from a budget; False if there is no room for them."""


async def send(
    socket: str,
    method: str,
    target: str,
    headers: Sequence[tuple[str, bytes]],
    body: bytes,
    take: Take,
) -> Answer:
    """Send a request with `host` in its headers, and return the whole answer.

    `socket`: the path of the socket. Raises UnreachableError, AnswerTooLargeError, NoAnswerError or
    InvalidCopyError.
    """
    import h11  # not every worker sends copies

    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
    try:
        events = (
            h11.Request(
                method=method,
                target=target,
                headers=[
                    *((name.encode("latin-1"), value) for name, value in headers),
                    (b"content-length", str(len(body)).encode()),
                    (b"connection", b"close"),
                ],
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        content = b"".join(connection.send(event) or b"" for event in events)
    except h11.LocalProtocolError as error:
        raise InvalidCopyError(str(error)) from error
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError as error:
        raise UnreachableError(str(error)) from error
    try:
        # Not drained first: Envoy may answer before it has read the whole body.
        writer.write(content)
        return await _receive(connection, reader, take)
    except (OSError, h11.RemoteProtocolError) as error:
        raise NoAnswerError(str(error)) from error
    finally:
        writer.transport.abort()


async def _receive(
    connection: "h11.Connection", reader: asyncio.StreamReader, take: Take
) -> Answer:
    import h11

    status, fields, parts = 0, dict[str, str](), list[bytes]()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Response):
            status = event.status_code
            fields = {name.decode(): value.decode("latin-1") for name, value in event.headers}
        elif isinstance(event, h11.Data):
            if not take(len(event.data)):
                raise AnswerTooLargeError
            parts.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, fields, b"".join(parts))
        elif isinstance(event, h11.ConnectionClosed):
            raise NoAnswerError("the connection was closed")
