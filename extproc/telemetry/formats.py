"""Formats of access log lines."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from extproc.telemetry.entry import AccessLogEntry

Format = Callable[[AccessLogEntry], bytes]
"""Returns one line. It contains a newline only at its end."""


def json_line(entry: AccessLogEntry) -> bytes:
    """Return a JSON object. docs/reference/metrics.md describes its members."""
    outcome, upstream_us = entry.outcome, entry.upstream_us
    return orjson.dumps(
        {
            "time": f"{_second(entry.start_seconds)}.{entry.start_micros:06d}Z",
            "method": outcome.method,
            "path": entry.path,
            "protocol": outcome.protocol,
            "status": outcome.status,
            "grpc_status": outcome.grpc.status,
            "flags": outcome.flags,
            "reason": outcome.reason,
            "cause": outcome.cause,
            "rule": outcome.rule,
            "details": entry.details,
            "subject": entry.subject,
            "model": outcome.model,
            "version": outcome.version,
            "canary": outcome.canary,
            "request_bytes": entry.request_bytes,
            "response_bytes": entry.response_bytes,
            "duration_ms": entry.duration_us / 1000,
            "upstream_ms": None if upstream_us is None else upstream_us / 1000,
            "upstream": outcome.upstream,
            "request_id": entry.request_id,
            "user_agent": entry.user_agent,
            "trace_id": entry.trace_id,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def text_line(entry: AccessLogEntry) -> bytes:
    """Return `[time] METHOD path latency`."""
    time = _second(entry.start_seconds).replace("T", " ")
    path = _printable(entry.path)
    return f"[{time}] {entry.outcome.method} {path} {_latency(entry.duration_us / 1000)}\n".encode()


@lru_cache(64)
def _second(seconds: int) -> str:
    """Return RFC 3339 in UTC, without the time zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _printable(path: str) -> str:
    if path.isascii() and path.isprintable() and " " not in path:
        return path
    escaped = path.replace(" ", "%20")
    return "".join(character if character.isprintable() else "?" for character in escaped)


def _latency(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f}s" if milliseconds >= 1000 else f"{milliseconds:.3f}ms"


FORMATS: dict[str, Format] = {"json": json_line, "text": text_line}
