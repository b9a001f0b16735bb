"""Sends events to a web server, with `POST`."""

import hashlib
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import h11

from protos.video_pb2 import AnalysisResult
from sluice.version import USER_AGENT
from video.results.encoding import Encoding, encode_ndjson
from video.sinks.http_connection import Headers, HttpConnection
from video.sinks.transport import DeliveryError, StoredEvent

_TOO_MANY_REQUESTS, _UNAVAILABLE = 429, 503


class WebhookTransport:
    """Sends batches as NDJSON. A status of 2xx confirms them; after any other, they are repeated.

    A batch that is repeated has the same `idempotency-key`.
    """

    max_bytes: Final = 512 << 10
    """Servers accept bodies of 1 MB by default (nginx)."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, bytes],
        max_events: int,
        timeout: float,
        ca: Path | None = None,
    ) -> None:
        self.max_events = max_events
        self._timeout, self._ca = timeout, ca
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._place = parts.netloc
        self._target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode()
        self._headers = [(name.encode(), value) for name, value in headers.items()]
        self._connection: HttpConnection | None = None

    def encode(self, event: AnalysisResult) -> bytes:
        """A line of NDJSON."""
        return encode_ndjson(event)

    async def send(self, batch: Sequence[StoredEvent]) -> None:
        """Send the events in one request. Raises DeliveryError."""
        body = b"".join([event.data for event in batch])
        try:
            if self._connection is None:
                self._connection = HttpConnection(self._host, self._port, self._context())
            answer = await self._connection.post(
                self._target, self._request_headers(batch, body), body, self._timeout
            )
        except TimeoutError:
            raise DeliveryError(f"{self._place}: no answer within {self._timeout:g} s") from None
        except h11.LocalProtocolError:
            # Its text could quote a secret.
            raise DeliveryError("a value of headers_from_secret is not valid in a header") from None
        except (OSError, h11.RemoteProtocolError) as error:
            # The next attempt reads the file of `ca` again.
            self._connection = None
            raise DeliveryError(f"{self._place}: {_cause(error)}") from None
        if not 200 <= answer.status < 300:
            wait = answer.status in (_TOO_MANY_REQUESTS, _UNAVAILABLE)
            raise DeliveryError(
                f"{self._place}: answered {answer.status}",
                retry_after=_seconds(answer.retry_after) if wait else 0.0,
            )

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self._ca) if self._tls else None

    def _request_headers(self, batch: Sequence[StoredEvent], body: bytes) -> Headers:
        ids = "\n".join([event.id for event in batch]).encode()
        return [
            (b"host", self._place.encode()),
            (b"user-agent", USER_AGENT.encode()),
            (b"content-type", Encoding.NDJSON.content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            (b"idempotency-key", hashlib.sha256(ids).hexdigest()[:32].encode()),
            *self._headers,
        ]


def _seconds(retry_after: bytes) -> float:
    """Seconds of a `retry-after` (RFC 9110 section 10.2.3); 0 for none."""
    text = retry_after.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second one for a year such as 10**30
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, h11.RemoteProtocolError):
        return "the response is not HTTP"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
