"""An image takes bounded memory and does not hold the interpreter lock for long."""

import base64
from collections.abc import Callable

import numpy as np
import orjson
import pytest
from PIL import Image

from bench.lock_hold import longest_hold
from extproc.convert import ConversionError, ConversionLimits, Converters
from extproc.convert.image_tensor import ImageReader
from extproc.convert.limits import DEFAULT
from tests.extproc.convert.payloads import form, model, to_grpc
from tests.sluice.images.image_files import PNG, WEBP, solid_png
from tests.sluice.images.pictures import encoded, gradient_image, image_input

MIB = 1 << 20
SIGNATURE = model(image_input(width=224, height=224))
READER = ImageReader(image_input(width=224, height=224), DEFAULT)
FILTERS = ("nearest", "bilinear", "bicubic", "lanczos")


def test_a_large_image_with_transparency_holds_the_lock_only_for_tiles() -> None:
    data = solid_png(5000, 5000, 6)
    hold = longest_hold(lambda: to_grpc(SIGNATURE, "image/png", data))
    assert hold.seconds < 0.1
    assert hold.peak_bytes < 170 * MIB


def _large(kind: str, mode: str, **options: object) -> bytes:
    return encoded(gradient_image(1000, 1500, mode).resize((2000, 1500)), kind, **options)


@pytest.mark.parametrize(
    ("media", "build"),
    [
        pytest.param("image/png", lambda: _large("PNG", "RGBA"), id="RGBA"),
        pytest.param("image/png", lambda: _large("PNG", "RGB"), id="RGB"),
        pytest.param("image/png", lambda: solid_png(1, 65_535), id="one column"),
        pytest.param("image/png", lambda: solid_png(1_000_000, 3), id="three rows"),
        pytest.param("image/webp", lambda: _large("WEBP", "RGBA", lossless=False), id="WebP"),
        pytest.param("image/webp", lambda: _large("WEBP", "RGB", method=0), id="lossless WebP"),
        pytest.param("image/jpeg", lambda: _large("JPEG", "RGB"), id="JPEG"),
        pytest.param("image/jpeg", lambda: _large("JPEG", "RGB", progressive=True), id="scans"),
        pytest.param("image/jpeg", lambda: _large("JPEG", "CMYK", progressive=True), id="CMYK"),
        pytest.param("image/jpeg", lambda: _large("JPEG", "L"), id="gray"),
    ],
)
@pytest.mark.parametrize("size", [(224, 224), (1500, 1500)])
def test_the_estimated_memory_is_an_upper_bound(
    media: str, build: Callable[[], bytes], size: tuple[int, int]
) -> None:
    data = build()
    reader = ImageReader(image_input(width=size[0], height=size[1]), DEFAULT)
    hold = longest_hold(lambda: reader.prepare([data], ["body"]).tensor())
    estimate = reader.prepare([data], ["body"]).memory
    # Threads and allocators need some memory too.
    assert hold.peak_bytes <= estimate + 4 * MIB


def test_an_image_that_needs_too_much_memory_is_refused() -> None:
    limits = ConversionLimits(max_image_memory=1 * MIB)
    with pytest.raises(ConversionError) as caught:
        to_grpc(SIGNATURE, "image/png", solid_png(600, 500), limits=limits)
    assert (caught.value.status, caught.value.reason) == (413, "too_many_pixels")
    assert "may need at most 1 MiB" in caught.value.detail


def _memory(reader: ImageReader, *images: bytes) -> int:
    return reader.prepare(images, [""] * len(images)).memory


def test_a_batch_needs_the_memory_of_its_largest_image_and_its_tensor() -> None:
    large, small = solid_png(2000, 1500), PNG
    assert _memory(READER, large, small) - _memory(READER, large) == 224 * 224 * 3


def test_the_memory_of_a_body_is_that_of_its_images() -> None:
    left, right = image_input(name="left"), image_input("FP32", name="right")
    wanted = _memory(ImageReader(left, DEFAULT), PNG, PNG) + _memory(
        ImageReader(right, DEFAULT), WEBP
    )
    signature = model(left, right)
    media, body = form(
        ("left", "image/png", PNG), ("right", "image/webp", WEBP), ("left", "image/png", PNG)
    )
    png, webp = ({"b64": base64.b64encode(data).decode()} for data in (PNG, WEBP))
    json = orjson.dumps({"left": [png, png], "right": webp})
    for content_type, content in ((media, body), ("application/json", json)):
        converter = Converters(signature, "grpc").choose(content_type)
        assert converter is not None
        steps = converter.request_steps(content, {"content-type": content_type})
        assert -next(steps) + next(steps) == wanted


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_image_is_resized_like_pillow(interpolation: str, mode: str) -> None:
    image = gradient_image(1900, 1300)
    if mode == "RGBA":
        image.putalpha(gradient_image(1900, 1300, "L"))
    reader = ImageReader(image_input(interpolation=interpolation, background=(9, 80, 200)), DEFAULT)
    tensor = reader.prepare([encoded(image, "PNG", compress_level=1)], [""]).tensor()
    found = np.frombuffer(tensor.data, "u1")
    opaque = Image.new("RGBA", image.size, (9, 80, 200, 255))
    opaque.alpha_composite(image.convert("RGBA"))
    resampling = Image.Resampling[interpolation.upper()]
    wanted = np.asarray(opaque.convert("RGB").resize((16, 12), resampling))
    assert np.abs(found.reshape(wanted.shape).astype(int) - wanted).max() <= 1
