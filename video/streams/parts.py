"""What all streams of a worker share."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from video.inference.gateway import GatewayClient
from video.inference.pending import Converter
from video.streams.settings import StreamSettings
from video.streams.source_threads import SourceThreads


def _ignore(_settings: StreamSettings, _seconds: float) -> None:
    pass


@dataclass(frozen=True, slots=True)
class StreamParts:
    """The gateway, and how frames are converted.

    `executor` converts frames that waited for a slot. `new_converter` makes a converter; a session
    has two: one for the source thread, and one for frames that waited. `observe` gets the seconds
    from the arrival of a frame to its result, for each result. `threads` knows sources that hang.
    """

    gateway: GatewayClient
    executor: Executor
    new_converter: Callable[[StreamSettings], Converter]
    observe: Callable[[StreamSettings, float], None] = _ignore
    threads: SourceThreads = field(default_factory=SourceThreads)
