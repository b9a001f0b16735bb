"""The interface between the delivery of events and the kinds of sinks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from protos.video_pb2 import AnalysisResult


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the sink gets it."""

    id: str
    data: bytes


class DeliveryError(Exception):
    """Events could not be delivered, and are sent again. The text has no secrets.

    `retry_after`: seconds for which the receiver asks to wait.
    """

    def __init__(self, detail: str, *, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Transport(Protocol):
    """Sends events to one receiver. It connects when it needs to, and again after a failure."""

    @property
    def max_events(self) -> int:
        """Events of a batch."""

    @property
    def max_bytes(self) -> int:
        """Bytes of a batch of more than one event."""

    def encode(self, event: AnalysisResult) -> bytes:
        """The event as the receiver gets it."""

    async def send(self, batch: Sequence[StoredEvent]) -> None:
        """Return when the receiver has all events of the batch. Raises DeliveryError.

        After an error, the receiver may have some of them; it gets the same batch again.
        """

    async def close(self) -> None:
        """Close the connection."""
