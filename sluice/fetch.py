"""One HTTP request with bounds on the whole time and on the size of the response.

A server on the other side may be the wrong one, or hostile. The timeout of a socket bounds only the
silence between two bytes, so a server that sends a byte from time to time would never be left.
"""

import http.client
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

_READ_SIZE = 1 << 16


class TooLargeError(OSError):
    """The response is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response with any status. Only the body of a success (2xx) is complete.

    The names of `headers` are in lower case.
    """

    status: int
    reason: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return is_success(self.status)


def is_success(status: int) -> bool:
    """Whether a status is 2xx."""
    return 200 <= status < 300


class StatusError(Exception):
    """A stream was requested, and the response has an error status."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"status {response.status}")
        self.response = response


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Returns responses with every status. So redirects are not followed."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        return response

    https_response = http_response


class Fetch(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """One request. `run` blocks a thread; another thread may `end` it.

    `timeout`: seconds for the whole request. `max_size`: bytes of the body of the response.
    `proxies`: as for `urllib`; None means those of the environment. `body` is sent with the
    request. `tls`: how servers are verified; None means by the certificates of the system.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout: float,
        max_size: int,
        proxies: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self._request = urllib.request.Request(  # noqa: S310 (http or https)
            url, body, dict(headers), method=method
        )
        self._tls = tls
        self._timeout = timeout
        self._max_size = max_size
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(None if proxies is None else dict(proxies)),
            _AnyStatus,
            self,
        )
        self._connections: list[http.client.HTTPConnection] = []
        self._sockets: list[socket.socket] = []
        self._ended = False

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a connection of HTTP."""
        return self.do_open(partial(self._connection, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a connection of HTTPS."""
        kind = partial(http.client.HTTPSConnection, context=self._tls)
        return self.do_open(partial(self._connection, kind), req)

    def run(self) -> Response:
        """The response. Raises OSError, such as TimeoutError and TooLargeError, or HTTPException.

        A URLError has the cause as its `reason`. A URL that is not valid raises ValueError.
        """
        timer = threading.Timer(self._timeout, self.end)
        timer.daemon = True
        timer.start()
        try:
            response = self._get()
        except (OSError, http.client.HTTPException):
            if self._ended:
                raise TimeoutError("no response in time") from None
            raise
        finally:
            timer.cancel()
        if self._ended:
            # A body without a length seems to be complete when its connection is closed.
            raise TimeoutError("no response in time")
        return response

    def lines(self) -> Iterator[bytes]:
        """The lines of a response that does not end. `timeout` bounds the silence between two.

        `max_size` bounds a line. Raises StatusError, and as `run`.
        """
        with self._opener.open(self._request, timeout=self._timeout) as response:
            if not is_success(response.status):
                raise StatusError(self._read(response))
            while line := response.readline(self._max_size + 1):
                if len(line) > self._max_size:
                    raise TooLargeError(f"a line has more than {self._max_size} bytes")
                yield line

    def end(self) -> None:
        """End the request: a blocked read of its connection returns at once."""
        self._ended = True
        # urllib drops the socket of a connection after the headers. During the handshake of TLS,
        # only the connection has it. Its thread may set the attribute to None at any time.
        for sock in (*self._sockets, *(each.sock for each in self._connections)):
            if sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _connection(
        self, kind: Callable[..., http.client.HTTPConnection], host: str, *, timeout: float
    ) -> http.client.HTTPConnection:
        connection = kind(host, timeout=timeout)
        connect = connection.connect

        def connect_and_keep() -> None:
            connect()
            if connection.sock is not None:
                self._sockets.append(connection.sock)
            if self._ended:
                self.end()

        connection.connect = connect_and_keep  # type: ignore[method-assign]
        self._connections.append(connection)
        return connection

    def _get(self) -> Response:
        with self._opener.open(self._request, timeout=self._timeout) as response:
            return self._read(response)

    def _read(self, response: http.client.HTTPResponse) -> Response:
        body = bytearray()
        complete = is_success(response.status)
        while chunk := response.read1(min(_READ_SIZE, self._max_size + 1 - len(body))):
            body += chunk
            if len(body) > self._max_size and complete:
                raise TooLargeError(f"the response has more than {self._max_size} bytes")
            if len(body) > self._max_size:
                break
        if complete and response.length:
            # `read1` does not check it. `length` is what is left of `content-length`.
            raise http.client.IncompleteRead(bytes(body), response.length)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Response(response.status, response.reason, bytes(body[: self._max_size]), headers)
