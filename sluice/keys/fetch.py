"""Fetches a key set from a `jwks_uri`, with bounds on time and size."""

import asyncio
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from contextlib import suppress
from enum import StrEnum
from functools import partial
from http import HTTPStatus

from sluice.keys.key_set import MAX_DOCUMENT
from sluice.user_agent import USER_AGENT

FETCH_TIMEOUT = 5.0
"""Seconds for one fetch. If the headers arrive slowly, the fetch ends after twice this time."""
READ_SIZE = 1 << 16

_HEADERS = {
    "user-agent": USER_AGENT,
    "accept": "application/jwk-set+json, application/json, */*;q=0.5",
}
"""RFC 7517 section 8.5.2 registers the media type. Most issuers serve plain JSON."""


class FetchCause(StrEnum):
    """Why a key set could not be fetched, for metrics. A status has a cause of its own."""

    NAME_NOT_RESOLVED = "name_not_resolved"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TLS = "tls"
    INVALID_RESPONSE = "invalid_response"
    TOO_LARGE = "too_large"
    INVALID_KEY_SET = "invalid_key_set"
    INTERNAL = "internal"


_STATUS_CAUSES = {int(status): f"status_{int(status)}" for status in HTTPStatus}
"""Causes by status of the response. Bounded, because an issuer chooses the status."""
_OTHER_STATUS = "status_other"


class FetchError(OSError):
    """The document could not be fetched. The message does not contain the URL.

    `cause`: a `FetchCause`, or `status_` and the status of the response.
    """

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: keys must come from the configured host, with the configured scheme."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Fetch(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """One fetch, which another thread can end by closing its connection.

    Without that, a server that sends its headers byte by byte would hold a thread for hours.
    """

    def __init__(self) -> None:
        super().__init__()
        self._connections: list[http.client.HTTPConnection] = []
        self._opener = urllib.request.build_opener(_NoRedirect, self)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a connection of HTTP."""
        return self.do_open(partial(self._connection, http.client.HTTPConnection), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Open a connection of HTTPS."""
        return self.do_open(partial(self._connection, http.client.HTTPSConnection), req)

    def _connection(
        self, kind: type[http.client.HTTPConnection], host: str, *, timeout: float
    ) -> http.client.HTTPConnection:
        connection = kind(host, timeout=timeout)
        self._connections.append(connection)
        return connection

    def run(self, uri: str) -> bytes:
        """The document. Raises FetchError."""
        try:
            return self._get(uri)
        except Exception as error:
            # Any exception: `http.client` raises many, and most of their messages quote the URL.
            raise _fetch_error(error) from None

    def end(self) -> None:
        """End the fetch: a blocked read of the connection returns at once."""
        for connection in self._connections:
            # The thread of the fetch may set the attribute to None at any time.
            sock: socket.socket | None = connection.sock
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _get(self, uri: str) -> bytes:
        deadline = time.monotonic() + FETCH_TIMEOUT
        document = bytearray()
        request = urllib.request.Request(uri, headers=_HEADERS)  # noqa: S310 (http or https)
        with self._opener.open(request, timeout=FETCH_TIMEOUT) as response:
            while chunk := response.read1(READ_SIZE):
                document += chunk
                if len(document) > MAX_DOCUMENT:
                    raise FetchError("the key set is larger than 1 MiB", FetchCause.TOO_LARGE)
                if time.monotonic() > deadline:
                    raise TimeoutError
        return bytes(document)


async def fetch_document(uri: str) -> bytes:
    """Fetch a document over http or https, in a thread. A redirect is an error.

    Raises FetchError.
    """
    fetch = _Fetch()
    try:
        # The thread checks the deadline only between reads of the body, not while headers arrive.
        return await asyncio.wait_for(asyncio.to_thread(fetch.run, uri), 2 * FETCH_TIMEOUT)
    except TimeoutError as error:
        raise _fetch_error(error) from None
    finally:
        fetch.end()


def _fetch_error(error: BaseException) -> FetchError:
    """Why a fetch failed, without any text that the server or the URL may have provided."""
    if isinstance(error, urllib.error.HTTPError):
        cause = _STATUS_CAUSES.get(error.code, _OTHER_STATUS)
        return FetchError(f"the server responded with status {error.code}", cause)
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return _fetch_error(error.reason)
    if isinstance(error, FetchError):
        return error
    if isinstance(error, TimeoutError):
        return FetchError("the server did not respond in time", FetchCause.TIMEOUT)
    if isinstance(error, ssl.SSLError):
        message = f"TLS failed: {error.reason or type(error).__name__}"
        return FetchError(message, FetchCause.TLS)
    if isinstance(error, OSError) and error.strerror:
        unresolved = isinstance(error, socket.gaierror)
        cause = FetchCause.NAME_NOT_RESOLVED if unresolved else FetchCause.UNREACHABLE
        return FetchError(error.strerror, cause)
    message = f"the response is not valid ({type(error).__name__})"
    return FetchError(message, FetchCause.INVALID_RESPONSE)
