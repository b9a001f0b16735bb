"""Films for the benchmarks of video: H.264 with the noise of a camera, and the same as JPEGs."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from examples.train import film

RATE = 30
SECONDS = 10
NOISE = 3.0
"""Standard deviation of the noise, so that the decoder has as much work as with a real camera."""
OPTIONS = {"crf": "20", "preset": "veryfast"}
BOUNDARY = "frame"


@dataclass(frozen=True, slots=True)
class Film:
    """A film of `frames` frames. `content` is MPEG-TS or multipart, `content_type` says which."""

    name: str
    content_type: str
    content: Path
    frames: int


def short_film(directory: Path, width: int, height: int, seconds: int = SECONDS) -> Path:
    """A film in MP4."""
    path = directory / f"{width}x{height}.mp4"
    film.write(
        path, seconds=seconds, width=width, height=height, rate=RATE, noise=NOISE, options=OPTIONS
    )
    return path


def repeated(name: str, source: Path, target: Path, times: int) -> Film:
    """A film that shows another one several times, as MPEG-TS with times that go on."""
    frames = 0
    with av.open(str(target), "w", format="mpegts") as output:
        stream = None
        for turn in range(times):
            with av.open(str(source)) as video:
                own = video.streams.video[0]
                stream = stream or output.add_stream_from_template(own)
                frames += _copy(video, own, output, stream, turn * SECONDS)
    return Film(name, "video/mp2t", target, frames)


def _copy(
    video: av.container.InputContainer,
    own: av.VideoStream,
    output: av.container.OutputContainer,
    stream: av.VideoStream,
    offset: int,
) -> int:
    frames = 0
    for packet in video.demux(own):
        if packet.dts is None:
            continue
        shift = int(Fraction(offset) / packet.time_base)
        packet.pts, packet.dts = (packet.pts or 0) + shift, packet.dts + shift
        packet.stream = stream
        output.mux(packet)
        frames += 1
    return frames


def multipart(name: str, source: Path, target: Path, times: int) -> Film:
    """A film as JPEGs, several times."""
    pictures = list(_jpegs(source))
    with target.open("wb") as output:
        for _ in range(times):
            for jpeg in pictures:
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}"
                output.write(head.encode() + b"\r\n\r\n" + jpeg + b"\r\n")
        output.write(f"--{BOUNDARY}--\r\n".encode())
    content_type = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
    return Film(name, content_type, target, times * len(pictures))


def _jpegs(source: Path) -> Iterator[bytes]:
    with av.open(str(source)) as video:
        for frame in video.decode(video=0):
            file = io.BytesIO()
            pixels: np.ndarray = frame.to_ndarray(format="rgb24")
            Image.fromarray(pixels).save(file, "JPEG", quality=80)
            yield file.getvalue()


def bare_decoder(path: Path) -> float:
    """Frames per CPU second of PyAV alone, on one thread."""
    frames, began = 0, time.process_time()
    with av.open(str(path)) as video:
        video.streams.video[0].codec_context.thread_count = 1
        for _ in video.decode(video=0):
            frames += 1
    return frames / (time.process_time() - began)
