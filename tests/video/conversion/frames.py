"""Decoded frames and their declared inputs."""

import io

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
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


def from_h264(image: Image.Image, metadata: str = "") -> DecodedImage:
    """A picture after H.264, nearly lossless. `metadata` are options of `h264_metadata`."""
    film = io.BytesIO()
    with av.open(film, "w", format="h264") as container:
        output = container.add_stream("libx264", 30, {"crf": "1", "preset": "ultrafast"})
        output.width, output.height = image.size
        output.pix_fmt = "yuv444p"
        output.codec_context.colorspace = Colorspace.ITU601
        container.mux(output.encode(decoded(image).frame))
        container.mux(output.encode(None))
    film.seek(0)
    with av.open(film, format="h264") as container:
        stream = container.streams.video[0]
        packets = list(container.demux(stream))
        if metadata:
            change = BitStreamFilterContext(f"h264_metadata={metadata}", stream)
            packets = [each for packet in packets for each in change.filter(packet)]
        (frame,) = [frame for packet in packets for frame in stream.codec_context.decode(packet)]
    return DecodedImage(frame)
