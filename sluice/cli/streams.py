"""The streams of the video service, for `sluice status` and `sluice get videos`."""

from collections.abc import Iterator, Sequence
from typing import Final

from sluice.cli.output import Block, Cell, Field, Line, Row, Style, Table
from sluice.http.client import Status

MAX_SHOWN: Final = 20
"""Streams in the status: those that need attention first, then cameras, then uploads."""

COLUMNS: Final = (
    "STREAM", "MODEL", "STATE", "FRAMES/S", "RESULTS/S", "P50", "P99", "DROPS", "ERRORS",
)  # fmt: skip

_STYLES: Final[dict[str, Style]] = {"running": "good", "connecting": "warn", "waiting": "bad"}


def stream_blocks(streams: Sequence[Status]) -> Iterator[Block]:
    """The streams in the status; nothing without streams."""
    if not streams:
        return
    shown = sorted(streams, key=lambda each: (not _needs_attention(each), each["upload"]))
    yield Line()
    yield Field("videos", "as the video service reports them")
    yield stream_table(shown[:MAX_SHOWN])
    if len(shown) > MAX_SHOWN:
        yield Line(f"and {len(shown) - MAX_SHOWN} more: see sluice get videos")


def stream_table(streams: Sequence[Status]) -> Table:
    """The state, rates, latencies, drops and errors of each stream, with what is wrong."""
    return Table(COLUMNS, [_row(each) for each in streams])


def _needs_attention(stream: Status) -> bool:
    return stream["state"] != "running" or bool(list(_notes(stream)))


def _row(stream: Status) -> Row:
    counts, state = stream["counts"], stream["state"]
    name = f"{stream['name']} (upload)" if stream["upload"] else stream["name"]
    rates = (f"{stream[key]:.1f}" for key in ("frames_per_second", "results_per_second"))
    latencies = (f"{stream[key]:.0f} ms" if stream[key] else "-" for key in ("p50", "p99"))
    totals = (str(sum(counts[key].values())) for key in ("drops", "errors"))
    cells = (name, stream["model"], Cell(state, _STYLES.get(state, "")), *rates, *latencies)
    return Row((*cells, *totals), tuple(_notes(stream)))


def _notes(stream: Status) -> Iterator[str]:
    if stream["error"]:
        yield stream["error"]
    for sink in stream["sinks"]:
        if sink["error"]:
            yield f"sink {sink['name']}, for which {sink['waiting']} events wait: {sink['error']}"
