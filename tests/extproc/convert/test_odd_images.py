"""Legal but odd images are converted. Damaged and truncated ones are refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from extproc.convert import ConversionError
from tests.extproc.convert.payloads import first_array, model, to_grpc
from tests.sluice.images.image_files import chunk, ihdr, png, png_chunks, segment, with_segments
from tests.sluice.images.pictures import encoded, image_input

WIDTH, HEIGHT = 80, 96
BACKGROUND = (10, 200, 30)
SOS, EOI = b"\xff\xda", b"\xff\xd9"


def picture() -> Image.Image:
    """A picture of random blocks, so that missing data change its pixels."""
    blocks = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3))
    return Image.fromarray(np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8))


JPEG = encoded(picture(), "JPEG", quality=90)
GRAY = encoded(picture().convert("L"), "JPEG")
PROGRESSIVE = encoded(picture(), "JPEG", progressive=True)
RESTARTS = encoded(picture(), "JPEG", restart_marker_rows=1)
CMYK = encoded(picture().convert("CMYK"), "JPEG")


def pixels(
    data: bytes, media: str = "image/jpeg", width: int = WIDTH, height: int = HEIGHT
) -> bytes:
    declared = image_input(width=width, height=height, background=BACKGROUND)
    return first_array(to_grpc(model(declared), media, data), np.uint8).tobytes()


def scan_parameters(parameters: bytes, data: bytes = JPEG) -> bytes:
    """The JPEG with another end of the header of its first scan."""
    start = data.index(SOS) + 2
    end = start + int.from_bytes(data[start : start + 2], "big")
    return data[: end - 3] + parameters + data[end:]


def before_scan(extra: bytes, data: bytes = JPEG, number: int = 0) -> bytes:
    """The JPEG with bytes before a scan."""
    start = -1
    for _ in range(number + 1):
        start = data.index(SOS, start + 1)
    return data[:start] + extra + data[start:]


def with_frame_marker(marker: int, data: bytes = JPEG) -> bytes:
    start = data.index(b"\xff\xc0")
    return data[: start + 1] + bytes((marker,)) + data[start + 2 :]


def adobe(transform: int) -> bytes:
    return segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((transform,)))


def jfif(major: int) -> bytes:
    return segment(0xE0, b"JFIF\0" + bytes((major, 9, 0, 0, 1, 0, 1, 0, 0)))


def without_jfif(data: bytes = JPEG) -> bytes:
    return data[:2] + data[2 + 18 :]


@pytest.mark.parametrize(
    ("plain", "odd"),
    {
        "Ss and Se are 0": (JPEG, scan_parameters(b"\0\0\0")),
        "Ss and Se are 0, gray": (GRAY, scan_parameters(b"\0\0\0", GRAY)),
        "successive approximation": (JPEG, scan_parameters(b"\0\x3f\x11")),
        "extended sequential": (JPEG, with_frame_marker(0xC1)),
        "bytes before a segment": (JPEG, before_scan(b"\0\0junk\xff\0")),
        "restart marker before the scan": (JPEG, before_scan(b"\xff\xd0")),
        "TEM": (JPEG, before_scan(b"\xff\x01")),
        "fill bytes": (JPEG, before_scan(b"\xff\xff\xff")),
        "bytes before the end": (JPEG, JPEG[:-2] + bytes(9) + EOI),
        "bytes between scans": (PROGRESSIVE, before_scan(bytes(9), PROGRESSIVE, 3)),
        "bytes after the end": (JPEG, JPEG + b"video" * 99),
        "another image after the end": (JPEG, JPEG + GRAY),
        "thumbnail in EXIF": (JPEG, with_segments(segment(0xE1, b"Exif\0\0" + GRAY), JPEG)),
        "JFIF and EXIF": (JPEG, with_segments(segment(0xE1, b"Exif\0\0II*\0\x08"), JPEG)),
        "JFXX": (JPEG, with_segments(segment(0xE0, b"JFXX\0\x10" + GRAY), JPEG)),
        "unknown JFIF version": (JPEG, with_segments(jfif(7), without_jfif())),
        "unknown Adobe color space": (JPEG, with_segments(adobe(9), without_jfif())),
        "a comment in Latin-1": (JPEG, before_scan(segment(0xFE, b"\xe9"))),
        "number of lines after the scan": (
            JPEG,
            JPEG[:-2] + segment(0xDC, struct.pack(">H", HEIGHT)) + EOI,
        ),
    }.values(),
)
def test_an_odd_jpeg_is_converted(plain: bytes, odd: bytes) -> None:
    assert odd != plain
    assert pixels(odd) == pixels(plain)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_every_common_process_is_converted(subsampling: str, options: dict[str, object]) -> None:
    assert pixels(encoded(picture(), "JPEG", subsampling=subsampling, **options))


def test_a_picture_with_several_images_is_its_first_image() -> None:
    written = io.BytesIO()
    first, second = picture(), picture().rotate(180)
    first.save(written, "MPO", save_all=True, append_images=[second], quality=90, subsampling=0)
    assert pixels(written.getvalue()) == pixels(JPEG)


def test_cmyk_and_ycck_are_converted() -> None:
    place = CMYK.index(b"Adobe") + 11
    ycck = CMYK[:place] + b"\x02" + CMYK[place + 1 :]
    assert pixels(CMYK) != pixels(ycck)


def flipped(data: bytes) -> bytes:
    place = data.index(SOS) + 200
    return data[:place] + bytes((data[place] ^ 0x55,)) + data[place + 1 :]


@pytest.mark.parametrize(
    "data",
    {
        "no end": JPEG[:-2],
        "half of the end": JPEG[:-1],
        "a few bytes are missing": JPEG[:-12],
        "a half is missing": JPEG[: len(JPEG) // 2],
        "a half is missing, with an end": JPEG[: len(JPEG) // 2] + EOI,
        "truncated, Ss and Se are 0": scan_parameters(b"\0\0\0")[:-40],
        "truncated, with an end, Ss and Se are 0": scan_parameters(b"\0\0\0")[:-40] + EOI,
        "truncated between scans": PROGRESSIVE[: PROGRESSIVE.rindex(SOS)],
        "truncated after bytes between scans": before_scan(bytes(9), PROGRESSIVE, 3)[:-40],
        "a restart interval is missing": RESTARTS.replace(b"\xff\xd2", b"", 1),
        "damaged data": flipped(JPEG),
        "no height (DNL)": JPEG.replace(struct.pack(">HH", HEIGHT, WIDTH), b"\0\0\0\x50", 1),
        "12 bits": JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1),
        "arithmetic coding": with_frame_marker(0xC9),
        "lossless": with_frame_marker(0xC3),
        "two starts": JPEG[:2] + JPEG,
    }.values(),
)
def test_a_truncated_damaged_or_rare_jpeg_is_refused(data: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        pixels(data)
    assert (caught.value.status, caught.value.reason) == (400, "broken_image")


def png_with(kind: bytes, content: bytes, checksum: bytes | None = None) -> bytes:
    """A PNG with a chunk before its pixels."""
    header, *others = png_chunks(encoded(picture(), "PNG"))
    extra = chunk(kind, content)
    return png(header, extra if checksum is None else extra[:-4] + checksum, *others)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP picture with chunks after its pixels."""
    data = encoded(picture(), "WEBP", icc_profile=b"odd")
    extra = b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)
        for kind, content in chunks
    )
    return data[:4] + struct.pack("<I", len(data) + len(extra) - 8) + data[8:] + extra


LARGE = zlib.compress(np.random.default_rng(1).bytes(2 << 20), 0)


@pytest.mark.parametrize(
    "data",
    {
        "large profile": png_with(b"iCCP", b"name\0\0" + LARGE),
        "profile that is no zlib stream": png_with(b"iCCP", b"name\0\0abc"),
        "text that expands": png_with(b"zTXt", b"name\0\0" + zlib.compress(bytes(70 << 20))),
        "large international text": png_with(b"iTXt", b"name\0\1\0\0\0" + LARGE),
        "text with a bad checksum": png_with(b"tEXt", b"name\0text", b"oops"),
        "EXIF with a bad checksum": png_with(b"eXIf", b"II*\0", b"oops"),
        "broken EXIF": png_with(b"eXIf", b"no"),
        "short gamma": png_with(b"gAMA", b"1"),
        "short density": png_with(b"pHYs", b"1"),
        "short chromaticities": png_with(b"cHRM", b"1"),
        "unknown chunk": png_with(b"abCd", b"x", b"oops"),
        "transparency with a bad checksum": png_with(b"tRNS", bytes(6), b"oops"),
        "short transparency": png_with(b"tRNS", bytes(3)),
        "suggested palette": png_with(b"PLTE", bytes(30)),
    }.values(),
)
def test_metadata_of_a_png_cannot_fail(data: bytes) -> None:
    assert pixels(data, "image/png") == picture().tobytes()


@pytest.mark.parametrize(
    ("plain", "odd", "media"),
    [
        (riff(), riff((b"XMP ", b"odd"), (b"EXIF", b"x"), (b"ABCD", bytes(1001))), "image/webp"),
        (riff(), riff() + b"after the end", "image/webp"),
        (riff(), riff((b"ABCD", b"odd"))[:-1], "image/webp"),
        (JPEG, encoded(picture(), "JPEG", quality=90, icc_profile=bytes(2 << 20)), "image/jpeg"),
        (JPEG, with_segments(segment(0xE1, b"Exif\0\0broken"), JPEG), "image/jpeg"),
        (JPEG, with_segments(segment(0xE2, b"ICC_PROFILE\0\x09\x01"), JPEG), "image/jpeg"),
    ],
)
def test_metadata_of_other_formats_cannot_fail(plain: bytes, odd: bytes, media: str) -> None:
    assert pixels(odd, media) == pixels(plain, media)


def packed(samples: list[int], depth: int) -> bytes:
    """The pixels of an image of one row."""
    bits = "".join(format(sample, f"0{depth}b") for sample in samples)
    bits += "0" * (-len(bits) % 8)
    row = bytes(int(bits[n : n + 8], 2) for n in range(0, len(bits), 8))
    return chunk(b"IDAT", zlib.compress(b"\0" + row))


def row(data: bytes, width: int) -> list[tuple[int, ...]]:
    raw = pixels(data, "image/png", width, 1)
    return [tuple(raw[n : n + 3]) for n in range(0, 3 * width, 3)]


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_gray_value_is_background_at_every_depth(depth: int) -> None:
    largest = (1 << depth) - 1
    key = largest // 3 if depth > 1 else 0
    transparency = chunk(b"tRNS", struct.pack(">H", key))
    found = row(png(ihdr(3, 1, depth, 0), transparency, packed([largest, key, largest], depth)), 3)
    assert found == [(255,) * 3, BACKGROUND, (255,) * 3]


def test_only_the_exact_16_bit_gray_value_is_transparent() -> None:
    transparency = chunk(b"tRNS", struct.pack(">H", 0x1234))
    found = row(png(ihdr(2, 1, 16, 0), transparency, packed([0x1234, 0x1235], 16)), 2)
    assert found == [BACKGROUND, (0x12,) * 3]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_color_is_background_at_every_depth(depth: int) -> None:
    largest = (1 << depth) - 1
    key = (largest // 3, largest // 2, largest)
    transparency = chunk(b"tRNS", struct.pack(">HHH", *key))
    samples = packed([*key, largest, largest, 0], depth)
    found = row(png(ihdr(2, 1, depth, 2), transparency, samples), 2)
    assert found == [BACKGROUND, (255, 255, 0)]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("color", [4, 6])
def test_an_alpha_channel_is_composited_at_every_depth(depth: int, color: int) -> None:
    largest = (1 << depth) - 1
    gray = [largest] if color == 4 else [largest] * 3
    samples = packed([*gray, 0, *gray, largest], depth)
    assert row(png(ihdr(2, 1, depth, color), samples), 2) == [BACKGROUND, (255,) * 3]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_transparent_palette_entry_is_background_at_every_depth(depth: int) -> None:
    palette = chunk(b"PLTE", bytes((9, 8, 7, 255, 255, 255))) + chunk(b"tRNS", b"\0")
    found = row(png(ihdr(2, 1, depth, 3), palette, packed([0, 1], depth)), 2)
    assert found == [BACKGROUND, (255,) * 3]
