"""The properties of an encoded image, which are read from its structure without decoding it."""

from dataclasses import dataclass
from typing import Literal

MediaType = Literal["image/jpeg", "image/png", "image/webp"]

Part = bytes | memoryview


class BrokenImageError(Exception):
    """An image is not valid or not complete. The text says why."""


class TooManySegmentsError(Exception):
    """An image has too many segments or chunks."""


@dataclass(slots=True)
class ImageHeader:
    """The properties of an image. Sizes of memory are in bytes."""

    media_type: MediaType
    width: int
    height: int
    orientation: int
    """EXIF orientation, 1 to 8."""
    decoded_size: int
    """Memory that Pillow needs for the decoded image."""
    parts: tuple[Part, ...]
    """The parts of the file that a decoder needs."""
    scalable: bool = False
    """Whether simplejpeg decodes the image, and can scale it down."""
    coefficients_size: int = 0
    """Memory of a JPEG decoder for the coefficients of the whole image, if there are several
    scans."""
    scan_pixels: int = 0
    """Pixels that a JPEG decoder processes: the pixels of whole blocks, once for each scan."""

    @property
    def pixels(self) -> int:
        """Number of pixels of the image."""
        return self.width * self.height

    def pixel_data(self) -> bytes:
        """The image without metadata, further frames and further headers.

        A decoder that gets only these parts reads the same header as the checks.
        """
        return b"".join(self.parts)
