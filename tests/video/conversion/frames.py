"""Decoded frames and their declared inputs."""

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from video.frame import DecodedImage

EXACT = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND


def decoded(
    image: Image.Image,
    kind: str = "yuv444p",
    matrix: Colorspace = Colorspace.ITU601,
    color_range: ColorRange = ColorRange.MPEG,
) -> DecodedImage:
    """A frame with the pixels of an RGB picture, as a decoder would deliver it."""
    frame = av.VideoFrame.from_ndarray(np.asarray(image), "rgb24")
    converted = VideoReformatter().reformat(
        frame,
        format=kind,
        dst_colorspace=matrix,
        src_color_range=ColorRange.JPEG,
        dst_color_range=color_range,
        interpolation=EXACT,
    )
    return DecodedImage(converted)
