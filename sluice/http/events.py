"""Reads Server-Sent Events (WHATWG HTML section 9.2)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event. `retry` is the time in seconds after which a client connects again, if given.

    An event without data only sets `id` and `retry`.
    """

    id: str | None
    kind: str
    data: str
    retry: float | None = None


def read_events(lines: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """The events in the lines of a stream. Comments are left out."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if not text:
            if fields:
                yield _event(fields)
            fields = {}
            continue
        name, _, value = text.partition(":")
        if name:
            fields.setdefault(name, []).append(value.removeprefix(" "))


def _event(fields: dict[str, list[str]]) -> ServerSentEvent:
    def last(name: str) -> str | None:
        return fields[name][-1] if name in fields else None

    retry = last("retry") or ""
    return ServerSentEvent(
        last("id"),
        last("event") or "message",
        "\n".join(fields.get("data", [])),
        int(retry) / 1000 if retry.isascii() and retry.isdecimal() and len(retry) < 9 else None,
    )
