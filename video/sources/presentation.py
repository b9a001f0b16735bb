"""Puts pictures, which arrive in decoding order, into presentation order, and samples them."""

import heapq
from dataclasses import dataclass

import av

from video.source import SourceCounts
from video.sources.limits import SourceLimits, check_time
from video.sources.pictures import MAX_REORDER, PictureHeader
from video.sources.sampling import PresentationClock, Sampler, Sampling


@dataclass(slots=True, eq=False)
class Picture:
    """An encoded picture. Its timestamps are in seconds.

    `index` counts pictures in decoding order. `number`, `time` and `sampled` are set when its place
    in presentation order is known; `sampled` is None before that. A `broken` picture was not
    decoded.
    """

    packet: "av.Packet[av.VideoStream]"
    index: int
    header: PictureHeader
    presented: float | None
    decoded: float | None
    captured: float
    arrived: float
    number: int = 0
    time: float = 0.0
    sampled: bool | None = None
    broken: bool = False


class PresentationOrder:
    """Decides which pictures are sampled, as early as their order is known.

    A picture follows no later one if the decoding time of the latest picture is not before its
    presentation time, or if more pictures wait than can be out of order.
    """

    def __init__(
        self,
        sampling: Sampling,
        limits: SourceLimits,
        counts: SourceCounts,
        interval: float,
        *,
        decoding_times: bool,
    ) -> None:
        """`interval` is the nominal time between two frames in seconds.

        `decoding_times` says whether the container has decoding times.
        """
        self._sampler = Sampler(sampling)
        self._clock = PresentationClock(interval)
        self._limits = limits
        self._counts = counts
        self._decoding_times = decoding_times
        self._waiting: list[tuple[float, int, Picture]] = []
        self._next_number = 0
        self._time = 0.0

    @property
    def due(self) -> float:
        """Seconds from the last decided picture to the next one that is due."""
        return self._sampler.due - self._time

    def skip(self) -> None:
        """Count a picture that cannot be decoded, and has no place in presentation order."""
        self._next_number += 1
        self._counts.undecodable += 1

    def lose(self, picture: Picture) -> None:
        """Count a picture that was not decoded, if it is sampled."""
        picture.broken = True
        if picture.sampled:
            self._counts.undecodable += 1
        elif picture.sampled is None and picture.presented is None:
            # Only the decoder could have said where its place is.
            picture.sampled = False
            self.skip()

    def add(self, picture: Picture, reorder: int | None, *, starts: bool) -> None:
        """Add the next picture in decoding order.

        `reorder` is how many pictures can be out of order, if that is known. No picture before this
        one follows it if it `starts`.
        """
        if starts:
            self.decide_all()
        if picture.presented is None:
            # Only the decoder knows the order of pictures without a timestamp.
            if reorder == 0:
                self.decide_all()
                self._decide(picture)
            return
        heapq.heappush(self._waiting, (picture.presented, picture.index, picture))
        if reorder is None:
            reorder = MAX_REORDER if self._decoding_times else 0
        while self._waiting and (
            len(self._waiting) > min(reorder, MAX_REORDER)
            or (self._decoding_times and _is_at_most(self._waiting[0][0], picture.decoded))
        ):
            self._decide(heapq.heappop(self._waiting)[2])

    def decide(self, picture: Picture) -> None:
        """Decide on a picture that the decoder has put out, and on those before it."""
        if picture.presented is None:
            self._decide(picture)
        while picture.sampled is None and self._waiting:
            self._decide(heapq.heappop(self._waiting)[2])

    def decide_all(self) -> None:
        """Decide on all pictures that wait: they precede the next one."""
        while self._waiting:
            self._decide(heapq.heappop(self._waiting)[2])

    def _decide(self, picture: Picture) -> None:
        if picture.sampled is not None:
            return
        picture.number = self._next_number
        self._next_number += 1
        picture.time = self._time = self._clock.advance(picture.presented)
        check_time(self._limits, picture.time)
        picture.sampled = self._sampler.sample(picture.time)
        if not picture.sampled:
            self._counts.skipped += 1
        elif picture.broken:
            self._counts.undecodable += 1


def _is_at_most(presented: float, decoded: float | None) -> bool:
    return decoded is not None and presented <= decoded
