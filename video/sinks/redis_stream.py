"""Appends events to a Redis stream."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from protos.video_pb2 import AnalysisResult
from sluice.redis_files import RedisCredentials
from video.results.events import event_json
from video.sinks.transport import DeliveryError, StoredEvent

_TIMEOUT: Final = 10.0
"""Seconds for a connection, and for a reply."""


class RedisTransport:
    """Sends batches as pipelines of XADD. The stream is trimmed to about `max_length` events."""

    max_events: Final = 200
    max_bytes: Final = 1 << 20

    def __init__(
        self,
        url: str,
        key: str,
        max_length: int,
        *,
        username: str | None = None,
        password: str | None = None,
        ca: Path | None = None,
    ) -> None:
        self._url, self._key, self._max_length = url, key, max_length
        self._credentials = RedisCredentials(username=username, password=password, ca=ca)
        self._client: Redis | None = None

    def encode(self, event: AnalysisResult) -> bytes:
        """JSON."""
        return event_json(event)

    async def send(self, batch: Sequence[StoredEvent]) -> None:
        """Append the events. Raises DeliveryError."""
        try:
            async with self._connected().pipeline(transaction=False) as pipeline:
                for event in batch:
                    pipeline.xadd(
                        self._key,
                        {"id": event.id, "event": event.data},
                        maxlen=self._max_length,
                        approximate=True,
                    )
                # The error of redis-py for a whole pipeline would quote the event.
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        except (RedisError, OSError, ValueError) as error:
            raise DeliveryError(f"Redis: {_cause(error)}") from None

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    def _connected(self) -> Redis:
        if self._client is None:
            login: dict[str, Any] = self._credentials.login()
            # Each option of TLS is an error without TLS.
            tls: dict[str, Any] = {}
            if self._url.startswith("rediss:"):
                tls = self._credentials.tls()
            self._client = Redis.from_url(
                self._url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
                **login,
                **tls,
            )
        return self._client


def _cause(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "TLS failed"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
