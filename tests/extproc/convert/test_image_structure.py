"""The header that is checked is the header that is decoded, and a decoder gets nothing else."""

import struct
import zlib

import numpy as np
import pytest

from bench.lock_hold import longest_hold
from extproc.convert import ConversionError, ConversionLimits
from tests.extproc.convert.payloads import first_array, form, model, to_grpc
from tests.sluice.images.image_files import (
    ANIM,
    ANIMATED,
    CMYK,
    HEIGHT,
    JPEG,
    PNG,
    PROGRESSIVE,
    WEBP,
    WIDTH,
    animation_frame,
    chunk,
    frame_header,
    ihdr,
    png,
    png_chunks,
    riff_chunk,
    segment,
    solid_png,
    vp8x,
    webp,
    webp_image,
    with_frame_header,
    with_segments,
)
from tests.sluice.images.pictures import encoded, exif, gradient_image, image_input

MIB = 1 << 20
SIGNATURE = model(image_input())
PNG_HEADER, PNG_PIXELS = png_chunks()
HUGE = 13_300
"""Width and height of an image with more pixels than `max_pixels`."""


def media(data: bytes) -> str:
    """The media type of an image."""
    return {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png", b"RI": "image/webp"}[data[:2]]


def refusal(data: bytes, limits: ConversionLimits | None = None) -> str:
    """The reason why an image is refused."""
    with pytest.raises(ConversionError) as caught:
        to_grpc(SIGNATURE, media(data), data, limits=limits)
    return caught.value.reason


def pixels(data: bytes) -> np.ndarray:
    """The tensor of an image."""
    return first_array(to_grpc(SIGNATURE, media(data), data), "u1")[0]


def fctl(width: int, height: int, sequence: int = 0) -> bytes:
    """The header of a frame of an animated PNG."""
    return chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, width, height, 0, 0, 1, 1, 0, 0))


EXTRA_PIXELS = chunk(b"fdAT", bytes(4) + PNG_PIXELS[8:-4])
ANIMATION = chunk(b"acTL", struct.pack(">II", 2, 0))
TOP_LEFT = webp_image(8, 8)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(png(PNG_HEADER, ihdr(HUGE, HUGE), PNG_PIXELS), id="two headers"),
        pytest.param(png(chunk(b"gAMA", bytes(4)), PNG_HEADER, PNG_PIXELS), id="header second"),
        pytest.param(png(chunk(b"IHDR", PNG_HEADER[8:-4] + b"\0"), PNG_PIXELS), id="long header"),
        pytest.param(png(PNG_HEADER), id="no pixels"),
        pytest.param(png(PNG_HEADER, ANIMATION, fctl(WIDTH, HEIGHT), EXTRA_PIXELS), id="only fdAT"),
        pytest.param(png(PNG_HEADER, chunk(b"PLTE", bytes(771)), PNG_PIXELS), id="long palette"),
        pytest.param(
            png(PNG_HEADER, chunk(b"tRNS", bytes(6)), chunk(b"tRNS", bytes(6)), PNG_PIXELS),
            id="two transparent colors",
        ),
        pytest.param(png(ihdr(0, HEIGHT), PNG_PIXELS), id="no columns"),
        pytest.param(png(ihdr(WIDTH, HEIGHT, 3), PNG_PIXELS), id="unknown depth"),
    ],
)
def test_a_png_with_a_contradictory_header_is_refused(data: bytes) -> None:
    assert refusal(data) == "broken_image"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_frame_header(frame_header(0xC0, HUGE, HUGE) * 2), id="two frames"),
        pytest.param(
            with_frame_header(frame_header(0xC0, WIDTH, HEIGHT) + frame_header(0xC0, 8, 8)),
            id="a second, small frame",
        ),
        pytest.param(with_frame_header(b""), id="no frame"),
        pytest.param(with_frame_header(frame_header(0xC0, WIDTH, 0)), id="height 0"),
        pytest.param(
            with_frame_header(frame_header(0xC0, WIDTH, 0))[:-2]
            + segment(0xDC, struct.pack(">H", HEIGHT))
            + b"\xff\xd9",
            id="height in DNL",
        ),
        pytest.param(with_segments(b"\xff\xd8"), id="two starts"),
        pytest.param(with_segments(frame_header(0xDE, HUGE, HUGE)), id="hierarchical"),
        *(
            pytest.param(with_frame_header(frame_header(m, WIDTH, HEIGHT)), id=f"process {m:#x}")
            for m in (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
        ),
        pytest.param(
            with_frame_header(segment(0xC0, struct.pack(">BHHB", 8, HEIGHT, WIDTH, 3))),
            id="no components",
        ),
        pytest.param(
            with_frame_header(
                segment(0xC0, struct.pack(">BHHB", 8, HEIGHT, WIDTH, 1) + b"\x01\xf1\0")
            ),
            id="sampling factor 15",
        ),
        pytest.param(with_segments(b"\xff\xe1\0\1"), id="segment without a length"),
        pytest.param(with_segments(b"\xff\xe1\xff\xff"), id="segment longer than the file"),
    ],
)
def test_a_jpeg_with_a_contradictory_header_is_refused(data: bytes) -> None:
    assert refusal(data) == "broken_image"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(webp(vp8x(WIDTH, HEIGHT), webp_image(400, 300)), id="large image"),
        pytest.param(
            webp(vp8x(WIDTH, HEIGHT), webp_image(400, 300, lossless=False)),
            id="large lossy image",
        ),
        pytest.param(webp(vp8x(400, 300), webp_image()), id="large canvas"),
        pytest.param(
            webp(
                vp8x(WIDTH, HEIGHT, ANIMATED),
                ANIM,
                animation_frame(0, 0, 64, 64, webp_image(64, 64)),
            ),
            id="frame outside the canvas",
        ),
        pytest.param(
            webp(
                vp8x(WIDTH, HEIGHT, ANIMATED),
                ANIM,
                animation_frame(0, 0, WIDTH, HEIGHT, webp_image(400, 300)),
            ),
            id="frame with a large image",
        ),
        pytest.param(
            webp(vp8x(WIDTH, HEIGHT, 0x10), b"ALPH\xff\xff\xff\x7f" + webp_image()),
            id="long transparency",
        ),
        pytest.param(webp(vp8x(WIDTH, HEIGHT)), id="no pixels"),
        pytest.param(webp(riff_chunk(b"VP8X", bytes(9)), webp_image()), id="short header"),
    ],
)
def test_a_webp_with_a_contradictory_header_is_refused(data: bytes) -> None:
    assert refusal(data) == "broken_image"


def test_a_second_header_takes_no_memory() -> None:
    pixels = solid_png(HUGE, 3000)[33:]
    data = png(PNG_HEADER, ihdr(HUGE, 3000))[:-12] + pixels
    hold = longest_hold(lambda: to_grpc(SIGNATURE, "image/png", data))
    assert hold.peak_bytes < 32 * MIB


INFLATED = zlib.compress(bytes(50 * MIB), 9)
METADATA = (
    chunk(b"iCCP", b"x\0\0" + INFLATED),
    chunk(b"zTXt", b"x\0\0" + INFLATED),
    chunk(b"iTXt", b"x\0\1\0\0\0" + INFLATED),
    ANIMATION + fctl(HUGE, HUGE) + chunk(b"fdAT", bytes(4)),
)


@pytest.mark.parametrize("extra", METADATA, ids=["iCCP", "zTXt", "iTXt", "animation"])
def test_metadata_and_animations_of_a_png_are_not_read(extra: bytes) -> None:
    wanted = pixels(PNG)
    assert (pixels(png(PNG_HEADER, extra, PNG_PIXELS)) == wanted).all()
    assert (pixels(png(PNG_HEADER, PNG_PIXELS, extra)) == wanted).all()


def test_a_png_may_split_its_pixels_into_many_chunks() -> None:
    stream = PNG_PIXELS[8:-4]
    parts = [chunk(b"IDAT", stream[i : i + 1]) + chunk(b"IDAT", b"") for i in range(len(stream))]
    assert (pixels(png(PNG_HEADER, *parts)) == pixels(PNG)).all()


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(segment(0xE1, b"Exif\0\0" + frame_header(0xC0, HUGE, HUGE)), id="in EXIF"),
        pytest.param(segment(0xE7, JPEG), id="thumbnail"),
        pytest.param(segment(0xFE, b"\xff\xda" * 30_000), id="scans in a comment"),
        pytest.param(segment(0xE2, b"MPF\0" + bytes(40)), id="several images"),
        pytest.param(b"\xff" * 100, id="fill bytes"),
    ],
)
@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, CMYK], ids=["JPEG", "progressive", "CMYK"])
def test_metadata_of_a_jpeg_are_not_read(data: bytes, extra: bytes) -> None:
    limits = ConversionLimits(max_jpeg_scan_pixels=10_000)
    converted = to_grpc(SIGNATURE, "image/jpeg", with_segments(extra, data), limits=limits)
    assert (first_array(converted, "u1")[0] == pixels(data)).all()


def test_data_after_a_jpeg_are_not_read() -> None:
    limits = ConversionLimits(max_jpeg_scan_pixels=10_000)
    data = PROGRESSIVE + b"\xff\xda\xff\xe2\0\2" * 100_000
    converted = to_grpc(SIGNATURE, "image/jpeg", data, limits=limits)
    assert (first_array(converted, "u1")[0] == pixels(PROGRESSIVE)).all()


def between_scans(segments: bytes) -> bytes:
    """A progressive JPEG with segments before its last scan."""
    last = PROGRESSIVE.rindex(b"\xff\xda")
    return PROGRESSIVE[:last] + segments + PROGRESSIVE[last:]


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(segment(0xFE, b"\xff\xd9"), id="comment"),
        pytest.param(segment(0xDB, b"\3" + b"\xff\xd9" * 32), id="unused quantization table"),
        pytest.param(segment(0xFE, b"\xff" * 50) + b"\xff" * 50, id="fill bytes"),
    ],
)
def test_a_segment_between_scans_may_have_the_bytes_of_an_end(extra: bytes) -> None:
    assert (pixels(between_scans(extra)) == pixels(PROGRESSIVE)).all()


def test_the_bytes_of_an_end_in_a_segment_hide_no_scans() -> None:
    last = PROGRESSIVE.rindex(b"\xff\xda")
    data = between_scans(segment(0xFE, b"\xff\xd9") + PROGRESSIVE[last:-2] * 1000)
    assert refusal(data, ConversionLimits(max_jpeg_scan_pixels=100_000)) == "too_many_scans"


@pytest.mark.parametrize("tail", [b"", chunk(b"tEXt", b"a")[:-1]], ids=["complete", "truncated"])
def test_the_orientation_of_a_png_may_follow_the_pixels(tail: bytes) -> None:
    orientation = chunk(b"eXIf", exif(3).tobytes().removeprefix(b"Exif\0\0"))
    data = png(PNG_HEADER, PNG_PIXELS, orientation)
    if tail:
        data = data[: -len(chunk(b"IEND", b""))] + tail
    assert (pixels(data) == pixels(png(PNG_HEADER, orientation, PNG_PIXELS))).all()
    assert (pixels(data) != pixels(PNG)).any()


def test_the_chunks_after_the_end_of_a_png_are_not_read() -> None:
    data = (
        PNG
        + chunk(b"eXIf", exif(3).tobytes().removeprefix(b"Exif\0\0"))
        + chunk(b"tEXt", b"") * 20_000
    )
    assert (pixels(data) == pixels(PNG)).all()


def test_the_scan_limit_applies_to_the_whole_batch() -> None:
    body = form(*[("i", "image/jpeg", PROGRESSIVE)] * 10)
    limits = ConversionLimits(max_jpeg_scan_pixels=20_000)
    assert (
        refusal(PROGRESSIVE * 1, ConversionLimits(max_jpeg_scan_pixels=1_000)) == "too_many_scans"
    )
    with pytest.raises(ConversionError) as caught:
        to_grpc(SIGNATURE, *body, limits=limits)
    assert (caught.value.reason, caught.value.field) == ("too_many_scans", "parts[7] (i)")


def test_scans_of_a_narrow_jpeg_count_whole_blocks() -> None:
    narrow = encoded(gradient_image(1, 1600), "JPEG", progressive=True, subsampling=2)
    # 10 scans of 16 x 1600 pixels.
    assert refusal(narrow, ConversionLimits(max_jpeg_scan_pixels=250_000)) == "too_many_scans"


def test_only_the_first_frame_of_a_webp_is_read() -> None:
    first = animation_frame(0, 0, WIDTH, HEIGHT, webp_image())
    broken = animation_frame(0, 0, HUGE, HUGE, b"VP8L" + bytes(100))
    data = webp(vp8x(WIDTH, HEIGHT, ANIMATED), ANIM, first, broken)
    assert (pixels(data) == pixels(WEBP)).all()


def test_a_frame_smaller_than_the_canvas_has_the_background_around_it() -> None:
    frame = animation_frame(0, 0, 8, 8, TOP_LEFT)
    found = pixels(webp(vp8x(WIDTH, HEIGHT, ANIMATED | 0x10), ANIM, frame))
    assert (found[8:] == 255).all()
    assert (found[:8, 8:] == 255).all()
    assert np.abs(found[:8, :8].astype(int) - np.asarray(gradient_image(8, 8))).max() <= 1


def test_metadata_of_a_webp_are_not_read() -> None:
    extra = [riff_chunk(kind, bytes(1001)) for kind in (b"ICCP", b"XMP ", b"????")]
    data = webp(vp8x(WIDTH, HEIGHT, 0x24), *extra, webp_image(), *extra) + bytes(1000)
    assert (pixels(data) == pixels(WEBP)).all()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(with_segments(b"\xff" * 9_000_000, CMYK), id="JPEG, fill bytes"),
        pytest.param(with_segments(b"\xff\xe1\0\2" * 2_200_000, CMYK), id="JPEG, APP1"),
        pytest.param(with_segments(b"\xff\xfe\0\2" * 2_200_000, CMYK), id="JPEG, comments"),
        pytest.param(JPEG[:-2] + b"\xff\xe2\0\2" * 2_200_000 + JPEG[-2:], id="JPEG, APP2 last"),
        pytest.param(png(PNG_HEADER, chunk(b"teXt", b"") * 750_000, PNG_PIXELS), id="PNG, unknown"),
        pytest.param(png(PNG_HEADER, chunk(b"IDAT", b"") * 750_000, PNG_PIXELS), id="PNG, IDAT"),
        pytest.param(
            webp(vp8x(WIDTH, HEIGHT), riff_chunk(b"????", b"") * 1_100_000, webp_image()),
            id="WebP, unknown",
        ),
        pytest.param(
            webp(
                vp8x(WIDTH, HEIGHT, ANIMATED),
                ANIM,
                animation_frame(0, 0, WIDTH, HEIGHT, webp_image()) * 20_000,
            ),
            id="WebP, frames",
        ),
    ],
)
def test_many_segments_are_refused_after_few_of_them(data: bytes) -> None:
    assert refusal(data) == "too_many_segments"
    hold = longest_hold(lambda: to_grpc(SIGNATURE, media(data), data))
    # Reading all of them would take 0.5 s or more.
    assert hold.cpu_seconds < 0.15


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_read_from_long_metadata(kind: str) -> None:
    orientation = exif(6)
    orientation[0x010E] = "x" * 60_000
    image = gradient_image(WIDTH, HEIGHT)
    plain = encoded(image, kind, exif=exif(6))
    assert (pixels(encoded(image, kind, exif=orientation)) == pixels(plain)).all()
    assert (pixels(plain) != pixels(encoded(image, kind))).any()
