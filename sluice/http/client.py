"""Requests to the HTTP servers of a gateway: the control plane, the callout, and Envoy's admin."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from sluice.config.addresses import is_local
from sluice.fetch import Fetch, Response, TooLargeError
from sluice.http.credentials import NO_CREDENTIALS, Credentials
from sluice.printable import printable
from sluice.version import USER_AGENT

STATUS_TIMEOUT = 5.0
"""Seconds for a status."""

MAX_STATUS = 64 << 20
"""Bytes of a status that are read: more than that of the largest gateway."""

MAX_ERROR = 500
"""Bytes of an error response, and characters of another cause, that an error quotes."""

NO_STATUS = "answered, but the response is not a status; check the URL"

# Any: JSON. The status of the control plane has the schema `xds.admin.status.Status`, that of the
# callout has the schema `extproc.telemetry.status.CalloutStatus`.
Status = dict[str, Any]


class NoAnswerError(Exception):
    """A server of the gateway did not answer, or its answer is not what the client expects."""


class UnexpectedAnswerError(NoAnswerError):
    """A server answered with an error, or with something else than the client expects.

    The message is about the server: `answered 404: Not Found`. `status` is the HTTP status if it
    is an error.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def request(
    url: str,
    timeout: float,
    maximum: int,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    credentials: Credentials = NO_CREDENTIALS,
    proxy: bool = False,
) -> Response:
    """The response to a request, with any status. Raises NoAnswerError, and CredentialsError.

    `timeout`: seconds for the whole response. `maximum`: bytes of its body. `proxy`: whether the
    proxy of the environment is used for a server on another machine. It is never used for this
    machine: it would connect to its own loopback address.
    """
    fetching = _fetching(url, timeout, maximum, method, body, headers, credentials, proxy=proxy)
    with _answering():
        return fetching.run()


def stream_lines(
    url: str,
    silence: float,
    maximum: int,
    *,
    headers: Mapping[str, str] | None = None,
    credentials: Credentials = NO_CREDENTIALS,
    proxy: bool = False,
) -> Iterator[bytes]:
    """The lines of a response that does not end.

    `silence`: seconds between two lines. `maximum`: bytes of a line. Raises StatusError, and
    as `request`.
    """
    fetching = _fetching(url, silence, maximum, "GET", None, headers, credentials, proxy=proxy)
    with _answering():
        yield from fetching.lines()


def _fetching(
    url: str,
    timeout: float,
    maximum: int,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str] | None,
    credentials: Credentials,
    *,
    proxy: bool,
) -> Fetch:
    by_proxy = proxy and not is_local(urlsplit(url).hostname or "")
    sent = {
        "user-agent": USER_AGENT, "accept": "*/*", **(headers or {}), **credentials.headers(url),
    }  # fmt: skip
    tls = credentials.tls(url)
    with _answering():
        return Fetch(
            url, sent, timeout=timeout, max_size=maximum, proxies=None if by_proxy else {},
            method=method, body=body, tls=tls,
        )  # fmt: skip


@contextmanager
def _answering() -> Iterator[None]:
    """The code in the block waits for an answer. Raises NoAnswerError."""
    try:
        yield
    except TooLargeError as error:
        raise UnexpectedAnswerError(f"answered, but {error}") from error
    except HTTPException as error:
        text = f"answered, but the response is not HTTP: {_cause(error)}"
        raise UnexpectedAnswerError(text) from error
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"{_cause(error)}; is it running?") from error


def fetch(
    url: str,
    timeout: float,
    maximum: int,
    *,
    headers: Mapping[str, str] | None = None,
    credentials: Credentials = NO_CREDENTIALS,
    proxy: bool = False,
) -> bytes:
    """The body of a response with a status of success, as in `request`. Raises as `request`."""
    response = request(url, timeout, maximum, headers=headers, credentials=credentials, proxy=proxy)
    if not response.is_success:
        raise UnexpectedAnswerError(f"answered {http_error(response)}", response.status)
    return response.body


def fetch_status(
    base: str,
    member: str,
    *,
    timeout: float = STATUS_TIMEOUT,
    credentials: Credentials = NO_CREDENTIALS,
    proxy: bool = False,
) -> Status:
    """The status of the server with the URL `base`, which must have `member`.

    Other arguments and exceptions as in `request`.
    """
    url = f"{base.rstrip('/')}/v1/status"
    body = fetch(url, timeout, MAX_STATUS, credentials=credentials, proxy=proxy)
    try:
        found: object = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or member not in found:
        raise UnexpectedAnswerError(NO_STATUS)
    return found


@contextmanager
def reading_status() -> Iterator[None]:
    """The code in the block reads a status. Raises UnexpectedAnswerError if it has other types."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UnexpectedAnswerError(NO_STATUS) from error


def _cause(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    text = str(getattr(cause, "strerror", None) or cause) or type(cause).__name__
    return printable(text, MAX_ERROR)


def http_error(response: Response) -> str:
    """Status and body of an error response, in one line. The body may say what to change."""
    text = _problem_detail(response.body) or response.body[:MAX_ERROR].decode(errors="replace")
    body = " ".join(text[:MAX_ERROR].split())
    # The body and the reason may come from another server.
    shown = body if body and body.isprintable() else printable(response.reason, MAX_ERROR)
    return f"{response.status}: {shown}"


def _problem_detail(body: bytes) -> str:
    """The detail of a problem document (RFC 9457); empty if the body is none."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return detail if isinstance(detail, str) else ""
