"""gRPC client for one call on a separate connection. Workers subscribe to the policy with it.

The client uses the `h2` library, because a call with few messages need not be fast. grpcio's client
would cost every worker memory and several threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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
from h2.exceptions import FrameTooLargeError, ProtocolError
from h2.settings import SettingCodes, Settings

from extproc.framing import length_prefixed
from extproc.rpc import RpcError, StatusCode
from extproc.transport.address import UnixAddress, parse_address
from extproc.transport.grpc.message_decoder import MessageDecoder
from extproc.transport.http2.frames import DEFAULT_WINDOW, KEEPALIVE_PING
from sluice.tls import H2, NO_CREDENTIALS, ClientCredentials
from sluice.version import USER_AGENT

STREAM_ID: Final = 1
WINDOW: Final = 1 << 20
"""Flow-control window: bytes that the server may send ahead of the reader. A message of 10 MiB then
takes ten round trips."""

FRAME_HEADER: Final = 9
"""Bytes of a frame before its payload (RFC 9113 section 4.1)."""
MAX_FRAME: Final = 1 << 14
"""Maximum bytes of a payload: the client does not change SETTINGS_MAX_FRAME_SIZE."""

_STATUS_CODES: Final = {str(code.value).encode(): code for code in StatusCode}


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Sizes in bytes, times in seconds."""

    max_message: int = 64 << 20
    """Largest message received. A call buffers at most this plus `WINDOW`."""
    max_unsent: int = 16 << 20
    """Messages that wait for a server that does not read."""
    connect_timeout: float = 20.0
    keepalive_interval: float = 30.0
    """Time without data from the server after which a PING is sent."""
    keepalive_timeout: float = 5.0
    """Time for the server to acknowledge the PING."""


async def open_call(
    address: str, path: str, limits: ClientLimits, credentials: ClientCredentials = NO_CREDENTIALS
) -> "ClientCall":
    """Connect to `host:port` or `unix:/path`, and call the method at `path`.

    A Unix socket has no TLS. Raises OSError when no connection is possible, also for credentials
    that cannot be used, and ValueError for a bad address.
    """
    loop = asyncio.get_running_loop()
    target = parse_address(address)
    token = credentials.token()
    async with asyncio.timeout(limits.connect_timeout):
        if isinstance(target, UnixAddress):
            make_call = partial(ClientCall, "localhost", path, limits, token)
            return (await loop.create_unix_connection(make_call, target.path))[1]
        tls = credentials.context(H2)
        make_call = partial(ClientCall, str(target), path, limits, token, tls=tls is not None)
        connecting = loop.create_connection(
            make_call,
            target.host,
            target.port,
            ssl=tls,
            server_hostname=None if tls is None else credentials.server_name or target.host,
        )
        return (await connecting)[1]


class ClientCall(asyncio.Protocol):
    """A bidirectional stream of messages. The owner must close it."""

    def __init__(
        self,
        authority: str,
        path: str,
        limits: ClientLimits,
        token: str | None = None,
        *,
        tls: bool = False,
    ) -> None:
        self._request = [
            (":method", "POST"),
            (":scheme", "https" if tls else "http"),
            (":path", path),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", USER_AGENT),
        ]
        if token is not None:
            self._request.append(("authorization", f"Bearer {token}"))
        self._limits = limits
        self._http2 = H2Connection(H2Configuration())
        self._http2.local_settings = Settings(
            initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW}
        )
        self._transport: asyncio.Transport | None = None
        self._keepalive_timer: asyncio.TimerHandle | None = None
        self._decoder = MessageDecoder(gzip=False, max_message=limits.max_message)
        self._messages: deque[bytes] = deque()
        self._uncredited_size = 0
        """Received bytes that no WINDOW_UPDATE has returned to the window yet."""
        self._received = bytearray()
        """The beginning of a frame."""
        self._unsent = bytearray()
        self._status: tuple[StatusCode, str] | None = None
        """None until the call has ended."""
        self._changed = asyncio.Event()
        """Set when a message has arrived or the call has ended."""

    # Called by the owner.

    def send(self, message: bytes) -> None:
        """Send a message as soon as flow control allows. Ignored after the call ended."""
        self._unsent += length_prefixed(message)
        if len(self._unsent) > self._limits.max_unsent:
            self._finish(StatusCode.RESOURCE_EXHAUSTED, "the server does not read its messages")
        self._flush()

    async def receive(self) -> bytes | None:
        """The next message; None when the call has ended with OK. Raises RpcError."""
        while not self._messages:
            if self._status is not None:
                code, details = self._status
                if code is StatusCode.OK:
                    return None
                raise RpcError(code, details)
            self._changed.clear()
            await self._changed.wait()
        message = self._messages.popleft()
        self._update_window()
        self._flush()
        return message

    def close(self) -> None:
        """Cancel the call and close the connection."""
        self._finish(StatusCode.CANCELLED, "closed")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._http2.initiate_connection()
        self._http2.increment_flow_control_window(WINDOW - DEFAULT_WINDOW)
        self._http2.send_headers(STREAM_ID, self._request)
        self._restart_timer(self._limits.keepalive_interval, self._send_keepalive)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._restart_timer(self._limits.keepalive_interval, self._send_keepalive)
        try:
            for frame in self._frames(data):
                for event in self._http2.receive_data(frame):
                    self._handle_event(event)
        except ProtocolError as error:
            self._finish(StatusCode.INTERNAL, f"HTTP/2 protocol error: {error}")
        except RpcError as error:
            self._finish(error.code, error.details)
        self._flush()

    def _frames(self, data: bytes) -> Iterator[bytes]:
        """The received frames, one by one.

        h2 refuses every frame after a GOAWAY, and then returns no event of the frames that came
        with it. gRPC servers send GOAWAY and PING together when they stop. h2 also buffers a frame
        that is too large before it refuses it.
        """
        self._received += data
        while len(self._received) >= FRAME_HEADER:
            length = int.from_bytes(self._received[:3])
            if length > MAX_FRAME:
                raise FrameTooLargeError(f"a frame of {length} bytes")
            end = FRAME_HEADER + length
            if len(self._received) < end:
                return
            frame = bytes(self._received[:end])
            del self._received[:end]
            yield frame

    def connection_lost(self, _error: Exception | None) -> None:
        self._finish(StatusCode.UNAVAILABLE, "connection lost")

    def pause_writing(self) -> None:
        """Stop reading while the server does not read: responses to its PINGs would accumulate."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    # HTTP/2

    def _handle_event(self, event: Event) -> None:
        match event:
            case DataReceived():
                self._decoder.feed(event.data)
                while (message := self._decoder.next_message()) is not None:
                    self._messages.append(message)
                self._uncredited_size += event.flow_controlled_length
                self._update_window()
                self._changed.set()
            case ResponseReceived() | TrailersReceived():
                self._handle_headers(cast("Iterable[tuple[bytes, bytes]]", event.headers))
            case StreamEnded():
                self._finish(StatusCode.INTERNAL, "the server ended the call without a status")
            case StreamReset():
                self._finish(StatusCode.UNAVAILABLE, "the server reset the stream")
            case ConnectionTerminated():
                self._finish(StatusCode.UNAVAILABLE, "the server sent GOAWAY")

    def _handle_headers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        fields = dict(headers)
        status = fields.get(b"grpc-status")
        if status is not None:
            details = unquote(fields.get(b"grpc-message", b"").decode("latin-1"))
            self._finish(_STATUS_CODES.get(status, StatusCode.UNKNOWN), details)
        elif fields.get(b":status", b"200") != b"200":
            self._finish(StatusCode.UNAVAILABLE, f"HTTP status {fields[b':status'].decode()}")

    def _update_window(self) -> None:
        """Return received bytes to the windows while no complete message waits for the reader."""
        if not self._messages and self._status is None:
            self._http2.acknowledge_received_data(self._uncredited_size, STREAM_ID)
            self._uncredited_size = 0

    def _flush(self) -> None:
        if self._transport is None or self._status is not None:
            return
        http2, unsent = self._http2, self._unsent
        while unsent and (window := http2.local_flow_control_window(STREAM_ID)) > 0:
            size = min(len(unsent), window, http2.max_outbound_frame_size)
            http2.send_data(STREAM_ID, bytes(unsent[:size]))
            del unsent[:size]
        self._transport.write(http2.data_to_send())

    # Keepalive

    def _send_keepalive(self) -> None:
        self._http2.ping(KEEPALIVE_PING)
        self._flush()
        self._restart_timer(self._limits.keepalive_timeout, self._on_keepalive_timeout)

    def _on_keepalive_timeout(self) -> None:
        self._finish(StatusCode.UNAVAILABLE, "the server did not respond to a keepalive PING")

    def _restart_timer(self, delay: float, callback: Callable[[], None]) -> None:
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
        self._keepalive_timer = asyncio.get_running_loop().call_later(delay, callback)

    def _finish(self, code: StatusCode, details: str) -> None:
        """Set the call's status and abort the connection. Only the first status counts."""
        if self._status is not None:
            return
        self._status = (code, details)
        self._changed.set()
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
        if self._transport is not None:
            self._transport.abort()
