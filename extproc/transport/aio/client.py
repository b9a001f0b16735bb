"""One gRPC call to a server, on a connection of its own: how a worker follows its control plane.

HTTP/2 is the `h2` library's here: a call that carries a message now and then need not be fast.
grpcio's client would do, but for 10 MB and seven threads more in every worker.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from extproc.framing import frame
from extproc.rpc import RpcError, StatusCode
from extproc.transport.address import UnixAddress, parse_address
from extproc.transport.grpc.messages import Reassembly
from extproc.transport.http2.frames import DEFAULT_WINDOW

STREAM: Final = 1
WINDOW: Final = 1 << 20
"""Bytes that the server may send ahead of what is read: 10 MiB then take ten round trips."""


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Sizes in bytes, times in seconds."""

    max_message: int = 64 << 20
    """Received. What is held of a call stays below this and `WINDOW`."""
    max_unsent: int = 16 << 20
    """Messages that wait for a server that does not read them."""
    connect_timeout: float = 20.0
    keepalive_interval: float = 30.0
    """A server that was silent for so long is asked whether it is there."""
    keepalive_timeout: float = 5.0


async def open_call(address: str, path: str, limits: ClientLimits) -> "ClientCall":
    """Connect to `host:port` or `unix:/path`, without TLS, and begin to call a method.

    Raises OSError where no server can be reached, ValueError for a bad address.
    """
    loop = asyncio.get_running_loop()
    where = parse_address(address)
    async with asyncio.timeout(limits.connect_timeout):
        if isinstance(where, UnixAddress):
            make = partial(ClientCall, "localhost", path, limits)
            return (await loop.create_unix_connection(make, where.path))[1]
        make = partial(ClientCall, str(where), path, limits)
        return (await loop.create_connection(make, where.host, where.port))[1]


class ClientCall(asyncio.Protocol):
    """Messages in both directions until either side ends the call. To be closed by its owner."""

    def __init__(self, authority: str, path: str, limits: ClientLimits) -> None:
        self._request = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        self._limits = limits
        self._http2 = H2Connection(H2Configuration())
        self._http2.local_settings = Settings(
            initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reassembly = Reassembly(gzip=False, limit=limits.max_message)
        self._messages: deque[bytes] = deque()
        self._uncredited = 0
        self._unsent = bytearray()
        self._end: RpcError | None = None
        """The call's status, OK among them."""
        self._news = asyncio.Event()

    # The owner's side.

    def send(self, message: bytes) -> None:
        """Send a message as soon as the server takes it; a call that has ended ignores it."""
        self._unsent += frame(message)
        if len(self._unsent) > self._limits.max_unsent:
            self._finish(StatusCode.RESOURCE_EXHAUSTED, "the server does not read what it is sent")
        self._flush()

    async def receive(self) -> bytes | None:
        """The next message; None when the server has ended the call well. Raises RpcError."""
        while not self._messages:
            if self._end is not None:
                if self._end.code is StatusCode.OK:
                    return None
                raise self._end
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        self._credit()
        self._flush()
        return message

    def close(self) -> None:
        """End the call, and the connection with it."""
        self._finish(StatusCode.CANCELLED, "closed")

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._http2.initiate_connection()
        self._http2.increment_flow_control_window(WINDOW - DEFAULT_WINDOW)
        self._http2.send_headers(STREAM, self._request)
        self._after(self._limits.keepalive_interval, self._ask)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._after(self._limits.keepalive_interval, self._ask)
        try:
            for event in self._http2.receive_data(data):
                self._on_event(event)
        except ProtocolError as error:
            self._finish(StatusCode.INTERNAL, f"HTTP/2: {error}")
        except RpcError as error:
            self._finish(error.code, error.details)
        self._flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self._finish(StatusCode.UNAVAILABLE, "the connection is lost")

    def pause_writing(self) -> None:
        """A server that reads no answers, to its PINGs for one, is not read from."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # In between.

    def _on_event(self, event: Event) -> None:
        match event:
            case DataReceived():
                self._messages.extend(self._reassembly.feed(event.data))
                self._uncredited += event.flow_controlled_length
                self._credit()
                self._news.set()
            case ResponseReceived() | TrailersReceived():
                self._on_headers(cast("Iterable[tuple[bytes, bytes]]", event.headers))
            case StreamEnded():
                self._finish(StatusCode.INTERNAL, "the call has ended without a status")
            case StreamReset():
                self._finish(StatusCode.UNAVAILABLE, "the server has reset the call")
            case ConnectionTerminated():
                self._finish(StatusCode.UNAVAILABLE, "the server is going away")

    def _on_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        found = dict(headers)
        status = found.get(b"grpc-status")
        if status is not None:
            known = {str(code.value).encode(): code for code in StatusCode}
            details = unquote(found.get(b"grpc-message", b"").decode("latin-1"))
            self._finish(known.get(status, StatusCode.UNKNOWN), details)
        elif found.get(b":status", b"200") != b"200":
            self._finish(StatusCode.UNAVAILABLE, f"HTTP status {found[b':status'].decode()}")

    def _credit(self) -> None:
        """Let the server send on while nothing complete waits to be read."""
        if not self._messages and self._end is None:
            self._http2.acknowledge_received_data(self._uncredited, STREAM)
            self._uncredited = 0

    def _flush(self) -> None:
        if self._transport is None or self._end is not None:
            return
        http2, unsent = self._http2, self._unsent
        while unsent and (window := http2.local_flow_control_window(STREAM)) > 0:
            size = min(len(unsent), window, http2.max_outbound_frame_size)
            http2.send_data(STREAM, bytes(unsent[:size]))
            del unsent[:size]
        self._transport.write(http2.data_to_send())

    def _ask(self) -> None:
        self._http2.ping(b"are you?")
        self._flush()
        self._after(self._limits.keepalive_timeout, self._give_up)

    def _give_up(self) -> None:
        self._finish(StatusCode.UNAVAILABLE, "the server has gone silent")

    def _after(self, delay: float, act: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, act)

    def _finish(self, code: StatusCode, details: str) -> None:
        """The call is over, and what ended it first is what `receive` tells."""
        if self._end is not None:
            return
        self._end = RpcError(code, details)
        self._news.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
