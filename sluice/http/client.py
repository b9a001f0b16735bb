"""Requests to the HTTP servers of a gateway: the control plane, the callout, and Envoy's admin."""

import json
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

from sluice.config.values import is_localhost, is_loopback
from sluice.printable import printable
from sluice.user_agent import USER_AGENT

STATUS_TIMEOUT = 5.0
"""Seconds for a status."""

MAX_STATUS = 64 << 20
"""Bytes of a status that are read: more than that of the largest gateway."""

MAX_ERROR = 500
"""Bytes of an error response, and characters of another cause, that an error quotes."""

# Any: JSON. The status of the control plane has the schema `xds.admin.status.Status`, that of the
# callout has the schema `extproc.telemetry.status.CalloutStatus`.
Status = dict[str, Any]


class NoAnswerError(Exception):
    """A server of the gateway did not answer, or its answer is not what the client expects."""


def open_url(
    request: urllib.request.Request, timeout: float, *, proxy: bool = False
) -> HTTPResponse:
    """Send a request. Raises OSError, HTTPException, and ValueError for a URL.

    `proxy`: whether the proxy of the environment is used for a server on another machine. It is
    never used for this machine: it would connect to its own loopback address.
    """
    by_proxy = proxy and not is_local(urlsplit(request.full_url).hostname or "")
    handlers = () if by_proxy else (urllib.request.ProxyHandler({}),)
    opener = urllib.request.build_opener(*handlers)
    opener.addheaders = [("User-Agent", USER_AGENT), ("Accept", "*/*")]
    response: HTTPResponse = opener.open(request, timeout=timeout)
    return response


def fetch(
    request: urllib.request.Request, timeout: float, maximum: int, *, proxy: bool = False
) -> bytes:
    """The first `maximum` bytes of a response with a status of success. Raises NoAnswerError.

    `timeout` and `proxy` as in `open_url`.
    """
    try:
        with open_url(request, timeout, proxy=proxy) as response:
            return response.read(maximum)
    except urllib.error.HTTPError as error:
        raise NoAnswerError(_http_error(error)) from error
    except HTTPException as error:
        raise NoAnswerError(f"the response is not HTTP: {error}") from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", error)
        text = printable(str(getattr(cause, "strerror", None) or cause), MAX_ERROR)
        raise NoAnswerError(f"{text}; is it running?") from error


def fetch_status(
    base: str, member: str, *, timeout: float = STATUS_TIMEOUT, proxy: bool = False
) -> Status:
    """The status of the server with the URL `base`, which must have `member`.

    `timeout` and `proxy` as in `open_url`. Raises NoAnswerError.
    """
    request = urllib.request.Request(f"{base.rstrip('/')}/v1/status")  # noqa: S310 (an http URL)
    body = fetch(request, timeout, MAX_STATUS, proxy=proxy)
    try:
        found: object = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict) or member not in found:
        raise NoAnswerError("the response is not a status; check the URL")
    return found


def is_local(host: str) -> bool:
    """Whether a host in a URL is this machine."""
    return is_localhost(host) or is_loopback(host)


def _http_error(error: urllib.error.HTTPError) -> str:
    """Status code and body of an error response, in one line. The body may say what to change."""
    try:
        body = " ".join(error.read(MAX_ERROR).decode(errors="replace").split())
    except (OSError, HTTPException):
        body = ""
    # The body and the reason may come from another server.
    return f"{error.code}: {body if body and body.isprintable() else error.reason}"
