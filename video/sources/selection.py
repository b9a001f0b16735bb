"""Chooses the pictures that must be decoded so that the sampled ones come out bit for bit.

Pictures that nothing depends on are decoded only if they are sampled. Other pictures are held until
a sampled picture needs them; a picture at which decoding can start makes them superfluous.
"""

from collections.abc import Iterator

from video.sources.pictures import Start
from video.sources.presentation import Picture

MAX_HELD = 300
MAX_HELD_BYTES = 16 << 20
"""Pictures, and their bytes, that are held. More are decoded."""


class DecodeSelection:
    """Takes pictures in decoding order, and gives those to decode in the same order.

    None in the output means that pictures were left out on which later ones could have depended:
    the decoder must start anew at the next picture.
    """

    def __init__(self) -> None:
        self._held: list[Picture] = []
        self._bytes = 0
        self._open: Picture | None = None
        """A held picture with `Start.OPEN`, while its leading pictures arrive."""
        self._restart = False

    def add(self, picture: Picture, *, in_order: bool, soon: bool) -> Iterator[Picture | None]:
        """Add a picture.

        `in_order` says that no picture of the stream has leading pictures. With `soon`, nothing is
        held, because a sampled picture is about to come or to be put out.
        """
        start = picture.header.start
        if start is Start.OPEN and in_order:
            start = Start.CLOSED
        if start is Start.CLOSED:
            yield from self.rest()
            self._drop(len(self._held))
        elif self._open is not None and not _is_leading(picture, self._open):
            yield from self._end_leading()
        if start is Start.OPEN:
            self._open = picture
        self._held.append(picture)
        self._bytes += picture.packet.size
        yield from self._ready(soon)

    def rest(self) -> Iterator[Picture | None]:
        """What must be decoded if nothing held depends on a later picture."""
        self._open = None
        yield from self._ready(soon=False)

    def _end_leading(self) -> Iterator[Picture | None]:
        """All leading pictures of a start have arrived. Drop what is before it, if unneeded."""
        start, self._open = self._open, None
        before = [each for each in self._held if each is not start]
        if start is not None and not any(each.sampled is not False for each in before):
            position = self._held.index(start)
            # The leading pictures cannot be decoded without those before the start.
            del self._held[position + 1 :]
            self._drop(position)
        yield from self._ready(soon=False)

    def _drop(self, count: int) -> None:
        """Drop the first held pictures. None of them is sampled."""
        if count:
            self._restart |= any(not each.header.disposable for each in self._held[:count])
            del self._held[:count]
        self._bytes = sum(each.packet.size for each in self._held)

    def _ready(self, soon: bool) -> Iterator[Picture | None]:
        """The held pictures up to the last that must be decoded now."""
        count = len(self._held)
        full = count > MAX_HELD or self._bytes > MAX_HELD_BYTES
        if full:
            self._open = None
        elif not (soon and self._open is None):
            while count and not self._wanted(self._held[count - 1]):
                count -= 1
        ready = self._held[:count]
        if not ready:
            return
        del self._held[:count]
        self._bytes = sum(each.packet.size for each in self._held)
        if self._open in ready:
            self._open = None
        for picture in ready:
            if picture.sampled is False and picture.header.disposable:
                continue
            if self._restart:
                self._restart = False
                yield None
            yield picture

    def _wanted(self, picture: Picture) -> bool:
        """Whether a picture must be decoded now."""
        if picture is self._open:
            return False
        # Only the decoder can decide on a picture without a timestamp.
        return picture.sampled is True or (picture.sampled is None and picture.presented is None)


def _is_leading(picture: Picture, start: Picture) -> bool:
    """Whether a picture precedes a start in output order, although it follows it."""
    if picture.presented is None or start.presented is None:
        return True
    return picture.presented < start.presented
