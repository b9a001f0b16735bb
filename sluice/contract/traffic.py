"""What workers report to the control plane about the traffic: how often, and the bins of latencies.

Each octave of microseconds has eight bins, so a bin is at most 12.5 % wide. The control plane adds
the counts of all workers.
"""

from typing import Final

REPORT_INTERVAL: Final = 2.0
"""Seconds between two reports of a worker or of an Envoy."""

MAX_MICROS: Final = (1 << 32) - 1
"""Microseconds: more than an hour. Longer latencies are in the last bin."""


def latency_bin(micros: int) -> int:
    """The bin of a latency."""
    if micros < 16:
        return max(0, micros)
    octave = min(micros, MAX_MICROS).bit_length() - 4
    return (octave << 3) + (min(micros, MAX_MICROS) >> octave)


def bin_start(number: int) -> int:
    """The smallest latency of a bin, in microseconds."""
    if number < 16:
        return number
    return (8 + (number & 7)) << ((number >> 3) - 1)


BINS: Final = latency_bin(MAX_MICROS) + 1
"""Number of bins."""
