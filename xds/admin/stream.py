"""The events of the control plane as a stream (Server-Sent Events)."""

import json
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xds.admin.access import Role
from xds.admin.api.operations import EVENT_STREAM, Call, Operation
from xds.admin.api.problems import ProblemError, Reason
from xds.events import Event, Events, MissedError

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 32
"""Concurrent streams. Each takes one of the requests that the server handles at a time."""

HEARTBEAT: Final = 15
"""Seconds between comments, by which both sides see that the connection lives."""

SEND_TIMEOUT: Final = 30.0
"""Seconds after which a reader that takes no data is disconnected."""

RETRY: Final = 1000
"""Milliseconds after which a client connects again."""

_ID: Final = re.compile(r"([0-9a-f]{8})-([0-9]{1,15})")


class EventStream:
    """The handler."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._process = secrets.token_hex(4)
        """A part of the ids, because the numbers of events begin again with each process."""
        self._streams = 0

    def operations(self) -> tuple[Operation, ...]:
        """The stream of events."""
        return (
            Operation(
                "GET", "/v1/events", Role.READER, "What happens, as a stream of events",
                self._open, None, errors=(Reason.TOO_MANY_REQUESTS,),
                headers={"Last-Event-ID": "Id of the last event that the caller has."},
                media_types=(EVENT_STREAM,),
                description="Server-Sent Events. `event` is `revision`, `rollout`, `nack`, `node`, "
                "`endpoint` or `canary`, and `data` is a JSON object with the time `at` in Unix "
                "seconds. `missed` says that events were lost: read the status again.",
            ),
        )  # fmt: skip

    async def _open(self, call: Call) -> Response:
        if self._streams >= MAX_STREAMS:
            detail = f"{MAX_STREAMS} streams of events are open"
            headers = {"retry-after": "10"}
            raise ProblemError(Reason.TOO_MANY_REQUESTS, detail, headers=headers)
        last = call.header("last-event-id")
        # Counted here: several requests may come before the first stream runs.
        self._streams += 1
        return _Stream(self._messages(last), self._end)

    def _end(self) -> None:
        self._streams -= 1

    async def _messages(self, last: str | None) -> AsyncGenerator[ServerSentEvent]:
        """The events after the one with the id `last`; without it, only new ones.

        Ends when the reader is so slow that it has missed events. Its client connects again.
        """
        try:
            position = self._events.last if last is None else self._position(last)
            number = self._events.oldest - 1 if position is None else position
            data = json.dumps({"missed": True}) if position is None else None
            event = "missed" if position is None else None
            # The first message has an id, so that a client that connects again misses nothing.
            yield self._message(number, event, data, retry=RETRY)
            async with aclosing(self._events.after(number)) as events:
                async for each in events:
                    yield self._message(each.number, each.kind, _data(each))
        except MissedError:
            log.info("a reader of the events was too slow, and is disconnected")

    def _position(self, last: str) -> int | None:
        """The number of an event; None if events after it are lost."""
        match = _ID.fullmatch(last)
        if match is None or match[1] != self._process:
            return None
        number = int(match[2])
        return number if self._events.oldest - 1 <= number <= self._events.last else None

    def _message(
        self, number: int, event: str | None, data: str | None, retry: int | None = None
    ) -> ServerSentEvent:
        name = f"{self._process}-{number}"
        return ServerSentEvent(data, event=event, id=name, retry=retry, sep="\n")


class _Stream(EventSourceResponse):
    """A stream. `end` is called when it has ended."""

    def __init__(self, messages: AsyncGenerator[ServerSentEvent], end: Callable[[], None]) -> None:
        super().__init__(messages, ping=HEARTBEAT, sep="\n", send_timeout=SEND_TIMEOUT)
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("a reader of the events took no data, and is disconnected")
        finally:
            self._end()


def _data(event: Event) -> str:
    return json.dumps({"at": event.at, **event.data})
