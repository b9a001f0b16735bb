"""Fetches a key set from a `jwks_uri`, with bounds on time and size."""

import asyncio
import socket
import ssl
import urllib.error
from enum import StrEnum
from http import HTTPStatus

from sluice.fetch import Fetch, TooLargeError
from sluice.keys.key_set import MAX_DOCUMENT
from sluice.version import USER_AGENT

FETCH_TIMEOUT = 5.0
"""Seconds for one fetch. If the name of the host is resolved slowly, it ends after twice this
time."""

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


async def fetch_document(uri: str) -> bytes:
    """Fetch a document over http or https, in a thread. Raises FetchError.

    A redirect is an error: keys must come from the configured host, with the configured scheme.
    """
    try:
        fetch = Fetch(uri, _HEADERS, timeout=FETCH_TIMEOUT, max_size=MAX_DOCUMENT)
        try:
            # Nothing ends the resolution of a name, which a thread waits for.
            response = await asyncio.wait_for(asyncio.to_thread(fetch.run), 2 * FETCH_TIMEOUT)
        finally:
            fetch.end()
    except Exception as error:
        # Any exception: `http.client` raises many, and most of their messages quote the URL.
        raise _fetch_error(error) from None
    if not response.is_success:
        cause = _STATUS_CAUSES.get(response.status, _OTHER_STATUS)
        raise FetchError(f"the server responded with status {response.status}", cause)
    return response.body


def _fetch_error(error: BaseException) -> FetchError:
    """Why a fetch failed, without any text that the server or the URL may have provided."""
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        return _fetch_error(error.reason)
    if isinstance(error, TooLargeError):
        return FetchError("the key set is larger than 1 MiB", FetchCause.TOO_LARGE)
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
