"""Adds the counts of streams."""

from protos.video_pb2 import StreamTotals


def add_totals(total: StreamTotals, more: StreamTotals) -> None:
    """Add the counts of `more` to `total`."""
    counts, added = total.counts, more.counts
    counts.received += added.received
    counts.skipped += added.skipped
    counts.undecodable += added.undecodable
    counts.frames += added.frames
    counts.results += added.results
    counts.bytes += added.bytes
    for reason, count in added.drops.items():
        counts.drops[reason] += count
    for reason, count in added.errors.items():
        counts.errors[reason] += count
    before = list(total.latencies) or [0] * len(more.latencies)
    after = list(more.latencies) or [0] * len(before)
    del total.latencies[:]
    total.latencies.extend(a + b for a, b in zip(before, after, strict=True))
    total.seconds += more.seconds
