"""An entry as a line of the log."""

from collections.abc import Callable

import orjson

from extproc.telemetry.entry import Entry

Format = Callable[[Entry], bytes]
"""A line with its end, which appears nowhere else in it."""


def json_line(entry: Entry) -> bytes:
    """One JSON object; its members are the entry's fields."""
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def text_line(entry: Entry) -> bytes:
    """The classic line, `[time] METHOD path latency`."""
    time = entry.time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"[{time}] {entry.method} {_printable(entry.path)} {_latency(entry.duration_ms)}\n"
    return line.encode()


def _printable(path: str) -> str:
    if path.isascii() and path.isprintable() and " " not in path:
        return path
    return "".join(
        character if character.isprintable() and character != " " else "%20" if character == " "
        else "?" for character in path
    )  # fmt: skip


def _latency(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.3f}s" if milliseconds >= 1000 else f"{milliseconds:.3f}ms"


FORMATS: dict[str, Format] = {"json": json_line, "text": text_line}
