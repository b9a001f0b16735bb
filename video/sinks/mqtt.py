"""Publishes events to an MQTT broker, with QoS 1."""

import asyncio
import secrets
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from protos.video_pb2 import AnalysisResult
from video.results.events import event_json
from video.sinks.mqtt_session import MqttSession
from video.sinks.transport import DeliveryError, StoredEvent

_TIMEOUT: Final = 10.0
"""Seconds for a connection, and for the acknowledgements of a batch."""


class MqttTransport:
    """Publishes batches. The acknowledgements of the broker (PUBACK) confirm them."""

    max_events: Final = 100
    max_bytes: Final = 1 << 20

    def __init__(
        self,
        host: str,
        port: int,
        topic: str,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        ca: Path | None = None,
    ) -> None:
        self._host, self._port, self._topic = host, port, topic
        self._username, self._password = username, password
        self._tls, self._ca = tls, ca
        self._client_id = f"sluice-video-{secrets.token_hex(6)}"
        self._session: MqttSession | None = None

    def encode(self, event: AnalysisResult) -> bytes:
        """JSON."""
        return event_json(event)

    async def send(self, batch: Sequence[StoredEvent]) -> None:
        """Publish the events. Raises DeliveryError."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                if self._session is None:
                    self._session = self._new_session()
                    await self._session.connect(self._host, self._port)
                await self._session.publish(self._topic, [event.data for event in batch])
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise DeliveryError(f"{self._host}: no answer within {_TIMEOUT:g} s") from None
            if isinstance(error, OSError):
                raise DeliveryError(f"{self._host}: {_cause(error)}") from None
            raise

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new_session(self) -> MqttSession:
        context = ssl.create_default_context(cafile=self._ca) if self._tls else None
        return MqttSession(self._client_id, self._username, self._password, context, _TIMEOUT)


def _cause(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    return error.strerror or str(error) or type(error).__name__
