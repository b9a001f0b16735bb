"""The connection to a camera: connects, sends requests, receives responses and packets.

Every wait is bounded, and ends soon after `close` from another thread.
"""

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

from sluice.contract.video import VideoReason
from video.source import SourceError
from video.sources.rtsp.authentication import Authorizer
from video.sources.rtsp.lookup import Address, Lookup
from video.sources.rtsp.messages import (
    Interleaved,
    Response,
    RtspError,
    RtspParser,
    encode_interleaved,
    encode_request,
)

LOOKUP_TIMEOUT: Final = 5.0
CONNECT_TIMEOUT: Final = 5.0
RESPONSE_TIMEOUT: Final = 10.0
"""Seconds for the addresses of the host, for a connection, and for the answer to a request."""

MAX_HELD_BYTES: Final = 8 << 20
"""Bytes of the packets that may come before the answer to a request."""

_PACKET_OVERHEAD: Final = 200
"""Bytes that a packet takes in addition to its data."""

_MAX_DATAGRAMS: Final = 1000
"""Datagrams that are read at a time, so that a flood does not hold up `close`."""

_POLL_SECONDS: Final = 0.5
_RECEIVE_BYTES: Final = 256 << 10
_BUFFER_BYTES: Final = 2 << 20
"""Receive buffer of UDP: a key frame of high resolution arrives at once."""


class Closed(Exception):  # noqa: N818
    """The source was closed."""


class Connection:
    """A connection to one camera. One thread uses it, any may close it."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._media: list[socket.socket] = []
        self._parser = RtspParser()
        self._received: deque[Interleaved] = deque()
        self._held_bytes = 0
        self._sequence = 0
        self._closed = False
        self.authorizer: Authorizer | None = None
        self.session: str | None = None

    def close(self) -> None:
        """End what waits. Does not block. For any thread."""
        self._closed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the sockets. For the thread that uses them."""
        for each in (self._socket, *self._media):
            if each is not None:
                each.close()

    def connect(self, host: str, port: int) -> None:
        """Connect. Raises SourceError and Closed."""
        reason = "no address"
        for family, kind, protocol, address in self._addresses(host, port)[:4]:
            self._check_open()
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(CONNECT_TIMEOUT)
                connection.connect(address)
            except OSError as error:
                connection.close()
                reason = error.strerror or "no answer"
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = connection
            return
        self._check_open()
        raise _unreachable(f"{host}:{port}: {reason}")

    def _addresses(self, host: str, port: int) -> list[Address]:
        lookup, deadline = Lookup(host, port), time.monotonic() + LOOKUP_TIMEOUT
        try:
            while (found := lookup.wait(_POLL_SECONDS)) is None:
                self._check_open()
                if time.monotonic() > deadline:
                    raise _unreachable(f"{host}: no DNS server answers within {LOOKUP_TIMEOUT:g} s")
        except OSError as error:
            raise _unreachable(f"{host}: {error.strerror}") from None
        return found

    def open_media(self) -> int:
        """Open two UDP sockets with consecutive ports, for RTP and RTCP. Returns the first port."""
        own = self._connected().getsockname()
        family = self._connected().family
        for _ in range(100):
            rtp, rtcp = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
            try:
                rtp.bind((own[0], 0))
                port: int = rtp.getsockname()[1]
                rtcp.bind((own[0], port + 1))
            except OSError:
                rtp.close()
                rtcp.close()
                continue
            for each in (rtp, rtcp):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
                each.setblocking(False)
            self._media = [rtp, rtcp]
            return port
        raise _unreachable("no two free UDP ports")

    def send_media(self, channel: int, port: int | None, data: bytes) -> None:
        """Send a packet to the camera: by UDP to its address, or on this connection."""
        with contextlib.suppress(OSError):
            if not self._media:
                self._connected().sendall(encode_interleaved(channel, data))
            elif port is not None:
                peer = self._connected().getpeername()
                self._media[channel].sendto(data, (peer[0], port, *peer[2:]))

    def request(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        """Send a request, and wait for its response. Raises SourceError and Closed."""
        self.send(method, url, headers)
        deadline = time.monotonic() + RESPONSE_TIMEOUT
        while time.monotonic() < deadline:
            for response in self._receive(deadline):
                if response.header("cseq") == str(self._sequence):
                    return response
            if self._held_bytes > MAX_HELD_BYTES:
                raise _unreachable(f"it sends packets instead of an answer to {method}")
        raise _unreachable(f"no answer to {method} for {RESPONSE_TIMEOUT:g} s")

    def send(self, method: str, url: str, headers: Mapping[str, str]) -> None:
        """Send a request without waiting. Raises SourceError and Closed."""
        self._sequence += 1
        fields = {"CSeq": str(self._sequence), "User-Agent": "sluice"} | dict(headers)
        if self.session is not None:
            fields["Session"] = self.session
        authorization = self.authorizer and self.authorizer.header(method, url)
        if authorization:
            fields["Authorization"] = authorization
        try:
            self._connected().sendall(encode_request(method, url, fields))
        except OSError as error:
            self._check_open()
            raise _unreachable(error.strerror or "the camera does not read") from None

    def packets(self, deadline: float) -> list[Interleaved]:
        """The packets that have arrived. Waits for them until a monotonic time."""
        if not self._received:
            self._receive(deadline)
        packets = list(self._received)
        self._received.clear()
        self._held_bytes = 0
        return packets

    def _receive(self, deadline: float) -> list[Response]:
        """The responses that have arrived. Packets are kept for `packets`."""
        responses = []
        for message in self._receive_messages(deadline):
            if isinstance(message, Interleaved):
                self._received.append(message)
                self._held_bytes += len(message.data) + _PACKET_OVERHEAD
            else:
                responses.append(message)
        return responses

    def _receive_messages(self, deadline: float) -> list[Response | Interleaved]:
        """What has arrived within a short time. Raises SourceError and Closed."""
        connection = self._connected()
        poll = select.poll()
        for each in (connection, *self._media):
            poll.register(each, select.POLLIN)
        wait = max(0.0, min(_POLL_SECONDS, deadline - time.monotonic()))
        ready = {descriptor for descriptor, _ in poll.poll(wait * 1000)}
        self._check_open()
        messages: list[Response | Interleaved] = []
        for channel, each in enumerate(self._media):
            if each.fileno() in ready:
                messages += self._datagrams(channel, each)
        if connection.fileno() in ready:
            messages += self._parsed(connection)
        return messages

    def _parsed(self, connection: socket.socket) -> list[Response | Interleaved]:
        try:
            data = connection.recv(_RECEIVE_BYTES)
        except OSError as error:
            self._check_open()
            raise _unreachable(error.strerror or "the connection is broken") from None
        self._check_open()
        if not data:
            raise _unreachable("the camera closed the connection")
        try:
            return list(self._parser.feed(data))
        except RtspError as error:
            raise _unreachable(str(error)) from None

    def _datagrams(self, channel: int, media: socket.socket) -> list[Response | Interleaved]:
        """The packets that wait in a UDP socket. Those of other hosts are ignored."""
        peer = self._connected().getpeername()[0]
        found: list[Response | Interleaved] = []
        with contextlib.suppress(OSError):
            for _ in range(_MAX_DATAGRAMS):
                data, address = media.recvfrom(65_536)
                if address[0] == peer:
                    found.append(Interleaved(channel, data))
        return found

    def _connected(self) -> socket.socket:
        assert self._socket is not None
        return self._socket

    def _check_open(self) -> None:
        if self._closed:
            raise Closed


def _unreachable(detail: str) -> SourceError:
    return SourceError(VideoReason.UNREACHABLE, f"the camera cannot be reached: {detail}")
