"""Formats of access log lines."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from extproc.telemetry.entry import MAX_OUTCOMES, AccessLogEntry, RequestOutcome

_NANOS_PER_SECOND = 1_000_000_000

Format = Callable[[AccessLogEntry], str]
"""Returns one line. It contains a newline only at its end."""


def json_line(entry: AccessLogEntry) -> str:
    """Return a JSON object. docs/reference/metrics.md describes its members.

    The text that is the same for all requests of an outcome comes from a cache. Numbers and text
    without special characters are written directly. A JSON encoder would take most of the time that
    a request costs the callout.
    """
    (
        outcome, _, start, duration, waited, request_bytes, response_bytes, details,
        path, subject, request_id, user_agent, trace_id,
    ) = entry  # fmt: skip
    method, refusal, version, upstream = _members_of(outcome)
    text = path + subject + request_id + user_agent + trace_id
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        quote = '"'
    else:
        quote = ""
        path, subject, request_id, user_agent, trace_id = map(
            _quoted, (path, subject, request_id, user_agent, trace_id)
        )
    seconds, nanos = divmod(start, _NANOS_PER_SECOND)
    micros = nanos // 1000
    return "".join(
        (
            '{"time":"', _second(seconds),
            ".", _THOUSANDTHS[micros // 1000], _THOUSANDTHS[micros % 1000],
            method, quote, path, quote,
            refusal, _quoted(details) if details else '""',
            ',"subject":', quote, subject, quote,
            version, str(request_bytes), ',"response_bytes":', str(response_bytes),
            ',"duration_ms":', str(duration // 1000), ".", _THOUSANDTHS[duration % 1000],
            ',"upstream_ms":', "null" if waited is None else _milliseconds(waited),
            upstream, quote, request_id, quote,
            ',"user_agent":', quote, user_agent, quote,
            ',"trace_id":', quote, trace_id, quote, "}\n",
        )
    )  # fmt: skip


_THOUSANDTHS = tuple(f"{number:03d}" for number in range(1000))


def _milliseconds(micros: int) -> str:
    return f"{micros // 1000}.{_THOUSANDTHS[micros % 1000]}"


@lru_cache(MAX_OUTCOMES)
def _members_of(outcome: RequestOutcome) -> tuple[str, str, str, str]:
    """The members of a line that an outcome decides, each with the beginning of the next member."""
    refusal = _members(
        protocol=outcome.protocol,
        status=outcome.status,
        grpc_status=outcome.grpc.status,
        flags=outcome.flags,
        reason=outcome.reason,
        cause=outcome.cause,
        rule=outcome.rule,
    )
    version = _members(
        model=outcome.model,
        version=outcome.version,
        canary=outcome.canary,
        placement=outcome.placement,
    )
    return (
        f'Z",{_members(method=outcome.method)},"path":',
        f',{refusal},"details":',
        f',{version},"request_bytes":',
        f',{_members(upstream=outcome.upstream)},"request_id":',
    )


def _members(**members: str | int | None) -> str:
    return orjson.dumps(members).decode()[1:-1]


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()


def text_line(entry: AccessLogEntry) -> str:
    """Return `[time] METHOD path latency`."""
    time = _second(entry.start_ns // _NANOS_PER_SECOND).replace("T", " ")
    path = _printable(entry.path)
    return f"[{time}] {entry.outcome.method} {path} {_latency(entry.duration_us / 1000)}\n"


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
