"""Converts the frames of one stream for the input of a model."""

from sluice.config.tensors import TensorInput
from sluice.config.video import FrameSize, Region
from video.conversion.converted import Converted
from video.conversion.picture import PictureConverter
from video.conversion.tensor import TensorConverter
from video.frame import DecodedImage, EncodedImage


class FrameConverter:
    """Converts frames to tensors, or to JPEG for a BYTES input. For one thread at a time.

    `region` is the part of each frame that the model gets. `size` is the maximum size of a JPEG.
    """

    def __init__(
        self,
        declared: TensorInput,
        region: Region | None,
        size: FrameSize | None,
        max_pixels: int,
    ) -> None:
        region = region or Region()
        self._tensors = None
        if declared.image is not None:
            self._tensors = TensorConverter(declared, region, max_pixels)
        self._pictures = PictureConverter(region, size, max_pixels)

    def convert(self, image: EncodedImage | DecodedImage) -> Converted:
        """Convert a frame. Raises FrameError."""
        if self._tensors is None:
            return self._pictures.jpeg(image)
        if isinstance(image, EncodedImage):
            return self._tensors.from_jpeg(image.data)
        return self._tensors.from_frame(image.frame)
