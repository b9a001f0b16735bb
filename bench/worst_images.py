"""The most expensive images for the readers and decoders, within `max_body` and `max_pixels`.

`CASES` has a function for each body, by name. A body is built only when it is measured.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from bench.worst_bodies import SIZE, Build, Case, request
from extproc.convert import Signature
from extproc.convert.limits import DEFAULT
from sluice.config.tensors import ImageInput, TensorInput

CASES: dict[str, Build] = {}

SIDE = 5000
"""Width and height of an image with `max_pixels`."""

WEBP_SIZE = (3840, 2160)
"""Size of a WebP that needs almost the maximum memory."""


def model(datatype: str = "UINT8", **image: object) -> Signature:
    """A model with one image input, by default of 224 x 224."""
    declared = ImageInput.model_validate({"width": 224, "height": 224, **image})
    tensor = {"name": "x", "datatype": datatype, "shape": (-1, *declared.shape), "image": declared}
    return Signature("m", inputs=(TensorInput.model_validate(tensor),))


PHOTO = model()
LANCZOS = model(interpolation="lanczos")
LARGEST = model(width=4700, height=4700, interpolation="lanczos")


def add(name: str, body: Callable[[], bytes], *signatures: Signature, media: str = "") -> None:
    """Add an image, for each of the models."""
    for signature in signatures or (PHOTO,):
        image = signature.image_inputs[0].image
        assert image is not None
        full = f"image {name} > {image.width}x{image.height} {image.interpolation}"
        CASES[full] = lambda s=signature: image_request(body(), s, media)  # type: ignore[misc]


def image_request(data: bytes, signature: Signature, media: str) -> Case:
    """The conversion of an image, or of a form."""
    return request(data, media or sniffed(data), signature)


def sniffed(data: bytes) -> str:
    """The media type of an image."""
    return {b"\xff\xd8": "image/jpeg", b"\x89P": "image/png", b"RI": "image/webp"}[data[:2]]


def chunk(kind: bytes, content: bytes) -> bytes:
    """A PNG chunk."""
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png(
    width: int,
    height: int,
    depth: int = 8,
    color: int = 6,
    row_filter: int = 4,
    *extra: bytes,
    interlaced: bool = False,
    level: int = 1,
) -> bytes:
    """A PNG of one color, which is small. By default, it has the filter that takes the longest."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    compressor = zlib.compressobj(level)
    passes = adam7(width, height) if interlaced else ((width, height),)
    rows = []
    for columns, count in passes:
        row = bytes((row_filter,)) + bytes((columns * bits + 7) // 8)
        rows += [compressor.compress(row) for _ in range(count)]
    stream = b"".join(rows) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", stream), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def adam7(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Columns and rows of each pass of an interlaced PNG (PNG third edition, section 8.1)."""
    for x, y, dx, dy in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):  # fmt: skip
        columns, rows = -((x - width) // dx), -((y - height) // dy)
        if columns > 0 and rows > 0:
            yield columns, rows


PALETTE = (chunk(b"PLTE", bytes(768)), chunk(b"tRNS", bytes(range(256))))


def add_pngs() -> None:
    """PNG."""
    add("PNG RGBA", lambda: png(SIDE, SIDE), PHOTO, LANCZOS, LARGEST, model(width=28, height=28))
    add("PNG RGB", lambda: png(SIDE, SIDE, color=2))
    add("PNG RGBA, 16 bits", lambda: png(SIDE, SIDE, 16))
    add("PNG gray, 16 bits", lambda: png(SIDE, SIDE, 16, 0))
    add("PNG gray with transparency", lambda: png(SIDE, SIDE, 8, 4))
    add("PNG one bit", lambda: png(SIDE, SIDE, 1, 0))
    add("PNG palette with transparency", lambda: png(SIDE, SIDE, 8, 3, 0, *PALETTE))
    add("PNG RGB with a transparent color", lambda: png(SIDE, SIDE, 8, 2, 0, TRANSPARENT))
    add("PNG RGBA, interlaced", lambda: png(SIDE, SIDE, interlaced=True))
    for width, height in ((1, 5_000_000), (5_000_000, 1), (3, 1_000_000), (1_000_000, 3)):
        name = f"PNG gray of {width} x {height}"
        add(name, lambda w=width, h=height: png(w, h, color=0, row_filter=0), PHOTO, LARGEST)  # type: ignore[misc]
    add("PNG of 1 x 65,535", lambda: png(1, 65_535), LARGEST)
    add("PNG, chunks", lambda: png(16, 12, 8, 6, 0, chunk(b"teXt", b"") * 800_000))
    add("PNG, 16,000 chunks", lambda: png(16, 12, 8, 6, 0, chunk(b"teXt", b"") * 16_000))
    add("PNG, EXIF", lambda: png(16, 12, 8, 6, 0, chunk(b"eXIf", EXIF)))
    add("PNG, inflated text", lambda: png(16, 12, 8, 6, 0, inflated()))
    add("PNG, two headers", lambda: png(16, 12, 8, 6, 0, png(13_300, 13_300)[8:-12]))


TRANSPARENT = chunk(b"tRNS", bytes(6))
EXIF = b"MM\0*" + struct.pack(">IH", 8, 65_535) + bytes(SIZE - 1000)


def inflated() -> bytes:
    """Chunks of a text that inflates to 1 GiB."""
    return chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1 << 30), 9)) * 9


def pattern(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """An image of small blocks."""
    random = np.random.default_rng(7)
    blocks = random.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(width: int = SIDE, height: int = SIDE, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG without subsampling."""
    return encoded(pattern(width, height, mode), "JPEG", quality=30, subsampling=0, **options)


def many_scans(data: bytes, pixels: int) -> bytes:
    """A JPEG whose last scan is repeated until the limit of scans is reached."""
    start = data.rindex(b"\xff\xda")
    scans = DEFAULT.max_jpeg_scan_pixels // pixels - data.count(b"\xff\xda")
    return (
        data[:start]
        + data[start:-2] * min(scans, (SIZE - len(data)) // (len(data) - start))
        + data[-2:]
    )


def with_segments(segments: bytes, **options: object) -> bytes:
    """A small JPEG with these segments."""
    data = jpeg(16, 16, **options)  # type: ignore[arg-type]
    return data[:2] + segments + data[2:]


def add_jpegs() -> None:
    """JPEG."""
    add("JPEG", jpeg, PHOTO, LARGEST, model(interpolation="nearest"))
    add("JPEG, progressive", lambda: jpeg(progressive=True), PHOTO, LARGEST)
    add("JPEG, scans", lambda: many_scans(jpeg(progressive=True), SIDE * SIDE))
    small = (1000, 1000)
    add("JPEG, 800 scans", lambda: many_scans(jpeg(*small, progressive=True), 1_000_000))
    add("JPEG, restart markers", lambda: jpeg(4000, 4000, restart_marker_blocks=1))
    add("JPEG CMYK", lambda: jpeg(4900, 4900, "CMYK"))
    add("JPEG CMYK, progressive", lambda: jpeg(3400, 3400, "CMYK", progressive=True))
    for name, segments in {
        "fill bytes": b"\xff" * (SIZE - 5000),
        "comments": b"\xff\xfe\0\2" * (SIZE // 4 - 1000),
        "tables": (b"\xff\xdb\0\x43\0" + b"\1" * 64) * (SIZE // 69 - 100),
        "16,000 tables": (b"\xff\xdb\0\x43\0" + b"\1" * 64) * 16_000,
        "profiles": (b"\xff\xe2\xff\xffICC_PROFILE\0" + bytes(65_521)) * 150,
    }.items():
        add(f"JPEG, {name}", lambda s=segments: with_segments(s, mode="CMYK"))  # type: ignore[misc]


def webp(mode: str = "RGB", **options: object) -> bytes:
    """A WebP."""
    return encoded(pattern(*WEBP_SIZE, mode=mode), "WEBP", method=0, **options)


def add_webps() -> None:
    """WebP."""
    add("WebP", webp)
    add("WebP with transparency", lambda: webp("RGBA"), PHOTO, LANCZOS)
    add("WebP, lossless", lambda: webp("RGBA", lossless=True, quality=0))
    add("WebP, noise", lambda: encoded(noise(1600, 1500), "WEBP", lossless=True, quality=0))
    add("WebP, 2000 frames", animation)


def animation() -> bytes:
    """A WebP of 2000 frames."""
    frames = [Image.new("RGB", (64, 64), (i % 256, i // 256, 0)) for i in range(2000)]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


def noise(width: int, height: int) -> Image.Image:
    """An image that cannot be compressed."""
    random = np.random.default_rng(7)
    return Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8))


def add_forms() -> None:
    """Forms with the maximum number of images."""
    media = "multipart/form-data; boundary=b"
    for name, data in {
        "PNG RGBA": lambda: png(312, 312),
        "PNG of 1 x 65,535": lambda: png(1, 65_535),
        "JPEG with scans": lambda: many_scans(jpeg(200, 200, progressive=True), 40_000)[:38_000],
        "narrow JPEG": lambda: jpeg(1, 60_000, progressive=True),
    }.items():
        add(f"256 x {name}", lambda d=data: form(d()), media=media)  # type: ignore[misc]


def form(data: bytes) -> bytes:
    """A form with an image, as often as it fits."""
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + data + b"\r\n"
    return part * min(DEFAULT.max_parts, SIZE // len(part)) + b"--b--\r\n"


def add_tensors() -> None:
    """The largest tensors of each datatype and layout."""
    for datatype, side in {"UINT8": 4700, "INT8": 4700, "FP32": 2360, "BF16": 3340}.items():
        for layout in ("NHWC", "NCHW"):
            signature = model(datatype, width=side, height=side, layout=layout, mean=(1.0,))
            add(f"PNG for {datatype} {layout}", lambda: png(64, 64), signature)
    add("PNG for gray", lambda: png(64, 64), model(width=8192, height=8192, color="GRAY"))
    add("PNG padded", lambda: png(64, 3), model(width=4700, height=4700, resize="pad"))


add_pngs()
add_jpegs()
add_webps()
add_forms()
add_tensors()
