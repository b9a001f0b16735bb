"""Images are converted to the declared tensor, and invalid images are refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from extproc.convert import ConversionError, ConversionLimits
from tests.extproc.convert.payloads import first_array, form, model, sent, to_grpc
from tests.sluice.images.pictures import XMP, encoded, exif, gradient_image, image_input

KINDS = ("JPEG", "PNG", "WEBP")


def _media(kind: str) -> str:
    return f"image/{kind.lower()}"


def _close(actual: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
    return bool(np.abs(actual.astype(float) - wanted.astype(float)).max() <= tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_the_declared_size_keeps_its_pixels(kind: str) -> None:
    image = gradient_image(16, 12)
    signature = model(image_input())
    converted = to_grpc(signature, _media(kind), encoded(image, kind))
    request = sent(converted)
    assert (request.model_name, request.model_version) == ("m", "1")
    assert (request.inputs[0].name, request.inputs[0].datatype) == ("image", "UINT8")
    pixels = first_array(converted, "u1")
    assert pixels.shape == (1, 12, 16, 3)
    # JPEG is lossy.
    assert _close(pixels[0], np.asarray(image), 12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 48), (640, 480), (7, 5), (333, 100)])
def test_an_image_of_another_size_is_resized_like_pillow(kind: str, size: tuple[int, int]) -> None:
    image = gradient_image(*size)
    pixels = first_array(to_grpc(model(image_input()), _media(kind), encoded(image, kind)), "u1")
    wanted = image.resize((16, 12), Image.Resampling.BILINEAR)
    # Scaled decoding averages blocks of pixels, but Pillow interpolates.
    assert _close(pixels[0], np.asarray(wanted), 14 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_exif_orientation_is_applied(kind: str, orientation: int, resize: str) -> None:
    image = gradient_image(60, 40)
    data = encoded(image, kind, exif=exif(orientation))
    signature = model(image_input(resize=resize))
    pixels = first_array(to_grpc(signature, _media(kind), data), "u1")[0]
    tagged = image.copy()
    tagged.getexif()[0x0112] = orientation
    transposed = ImageOps.exif_transpose(tagged)
    wanted = first_array(to_grpc(signature, "image/png", encoded(transposed, "PNG")), "u1")[0]
    assert np.abs(pixels.astype(int) - wanted).mean() < 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_the_input_declares_color_and_layout(kind: str, color: str, layout: str) -> None:
    image = gradient_image(16, 12)
    signature = model(image_input(color=color, layout=layout))
    pixels = first_array(to_grpc(signature, _media(kind), encoded(image, kind)), "u1")[0]
    if layout == "NCHW":
        pixels = pixels.transpose(1, 2, 0)
    wanted = np.asarray(image.convert("L"))[..., None] if color == "GRAY" else np.asarray(image)
    if color == "BGR":
        wanted = wanted[..., ::-1]
    assert _close(pixels, wanted, 12)


@pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "<f4"), ("FP16", "<f2"), ("BF16", "<u2")])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_values_are_scaled_and_normalized(datatype: str, dtype: str, layout: str) -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = gradient_image(16, 12)
    signature = model(image_input(datatype, layout=layout, scale=1 / 255, mean=mean, std=std))
    values = first_array(to_grpc(signature, "image/png", encoded(image, "PNG")), dtype)[0]
    if datatype == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if layout == "NCHW":
        values = values.transpose(1, 2, 0)
    wanted = (np.asarray(image) / 255 - mean) / std
    assert _close(values, wanted, {"FP32": 1e-6, "FP16": 2e-3, "BF16": 1e-2}[datatype])


def test_integers_are_rounded_and_clipped() -> None:
    image = gradient_image(16, 12)
    signature = model(image_input("INT8", mean=(128.0,), scale=1.2))
    values = first_array(to_grpc(signature, "image/png", encoded(image, "PNG")), "i1")[0]
    wanted = (np.asarray(image) * 1.2 - 128).round().clip(-128, 127)
    assert _close(values, wanted, 0)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("JPEG", "image/jpg"), ("JPEG", "IMAGE/PJPEG"), ("PNG", "image/x-png; a=b")],
)
def test_other_names_of_a_format_mean_the_same_in_and_outside_a_form(kind: str, name: str) -> None:
    data, signature = encoded(gradient_image(), kind), model(image_input())
    plain = to_grpc(signature, _media(kind), data)
    assert to_grpc(signature, name, data).body == plain.body
    media, body = form(("image", name, data))
    assert to_grpc(signature, media, body).body == plain.body


def test_crop_keeps_the_center_and_pad_keeps_the_whole_image() -> None:
    striped = Image.new("RGB", (48, 12), (255, 0, 0))
    striped.paste((0, 255, 0), (16, 0, 32, 12))
    data = encoded(striped, "PNG")
    cropped = first_array(
        to_grpc(model(image_input(resize="crop", interpolation="nearest")), "image/png", data), "u1"
    )[0]
    assert (cropped == (0, 255, 0)).all()
    padded = first_array(
        to_grpc(model(image_input(resize="pad", background=(1, 2, 3))), "image/png", data), "u1"
    )[0]
    assert (padded[0] == (1, 2, 3)).all()
    assert (padded[-1] == (1, 2, 3)).all()
    assert padded[6, 0].tolist() == [255, 0, 0]
    assert padded[6, 8].tolist() == [0, 255, 0]


def test_crop_fraction_keeps_the_center_of_the_crop() -> None:
    framed = Image.new("RGB", (160, 120), (255, 0, 0))
    framed.paste((0, 0, 255), (40, 30, 120, 90))
    signature = model(image_input(resize="crop", crop_fraction=0.5, interpolation="nearest"))
    pixels = first_array(to_grpc(signature, "image/png", encoded(framed, "PNG")), "u1")[0]
    assert (pixels == (0, 0, 255)).all()


def test_transparent_pixels_get_the_background_color() -> None:
    transparent = Image.new("RGBA", (16, 12), (0, 0, 0, 0))
    signature = model(image_input(background=(9, 8, 7)))
    for kind in ("PNG", "WEBP"):
        data = encoded(transparent, kind)
        pixels = first_array(to_grpc(signature, _media(kind), data), "u1")[0]
        assert (pixels == (9, 8, 7)).all()


def test_a_16_bit_gray_pixel_becomes_its_upper_byte() -> None:
    gray16 = Image.fromarray(np.full((12, 16), 0x80FF, np.uint16))
    signature = model(image_input(color="GRAY"))
    pixels = first_array(to_grpc(signature, "image/png", encoded(gray16, "PNG")), "u1")
    assert (pixels == 0x80).all()


def test_a_cmyk_jpeg_is_converted() -> None:
    image = gradient_image(16, 12)
    data = encoded(image.convert("CMYK"), "JPEG")
    pixels = first_array(to_grpc(model(image_input()), "image/jpeg", data), "u1")[0]
    assert _close(pixels, np.asarray(image), 12)


def test_a_form_with_several_images_becomes_a_batch_in_the_same_order() -> None:
    red, blue = Image.new("RGB", (16, 12), (255, 0, 0)), Image.new("RGB", (30, 30), (0, 0, 255))
    media, body = form(
        ("a", "image/png", encoded(red, "PNG")), ("b", "image/webp", encoded(blue, "WEBP"))
    )
    pixels = first_array(to_grpc(model(image_input()), media, body), "u1")
    assert pixels.shape == (2, 12, 16, 3)
    assert (pixels[0] == (255, 0, 0)).all()
    assert (pixels[1] == (0, 0, 255)).all()


def test_a_form_part_is_for_the_input_with_the_same_name() -> None:
    left, right = image_input(name="left"), image_input(name="right", width=8, height=8)
    data = encoded(gradient_image(), "PNG")
    media, body = form(("right", "image/png", data), ("left", "image/png", data))
    request = sent(to_grpc(model(left, right), media, body))
    assert {i.name: list(i.shape) for i in request.inputs} == {
        "left": [1, 12, 16, 3],
        "right": [1, 8, 8, 3],
    }


def test_an_image_outside_a_form_needs_a_model_with_one_image_input() -> None:
    left, right = image_input(name="left"), image_input(name="right")
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(left, right), "image/png", encoded(gradient_image(), "PNG"))
    assert (caught.value.status, caught.value.reason) == (415, "multipart_required")


def test_a_model_without_a_batch_dimension_accepts_one_image() -> None:
    declared = image_input().model_copy(update={"shape": (12, 16, 3)})
    data = encoded(gradient_image(), "PNG")
    assert first_array(to_grpc(model(declared), "image/png", data), "u1").shape == (12, 16, 3)
    media, body = form(*[("i", "image/png", data)] * 2)
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(declared), media, body)
    assert (caught.value.status, caught.value.reason) == (422, "wrong_count")


def _png_with_size(width: int, height: int) -> bytes:
    data = encoded(gradient_image(), "PNG")
    chunk = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]


def _webp_with_size(width: int, height: int) -> bytes:
    data = encoded(gradient_image(), "WEBP")
    bits = (width - 1) | (height - 1) << 14
    return data[:21] + struct.pack("<I", bits) + data[25:]


def _jpeg_with_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(gradient_image(16, 12), "JPEG"))
    offset = data.index(b"\xff\xc0") + 5
    data[offset : offset + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("image/png", _png_with_size(60_000, 60_000)),
        ("image/webp", _webp_with_size(16_000, 16_000)),
        ("image/jpeg", _jpeg_with_size(60_000, 60_000)),
    ],
)
def test_an_image_whose_header_has_too_many_pixels_is_refused(media: str, body: bytes) -> None:
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), media, body)
    assert (caught.value.status, caught.value.reason) == (413, "too_many_pixels")
    assert caught.value.field == "body"


def test_the_pixel_limit_applies_to_the_whole_batch() -> None:
    data = encoded(gradient_image(100, 100), "PNG")
    media, body = form(*[("i", "image/png", data)] * 3)
    signature = model(image_input(max_pixels=25_000))
    with pytest.raises(ConversionError) as caught:
        to_grpc(signature, media, body)
    assert (caught.value.status, caught.value.field) == (413, "parts[2] (i)")


def test_a_progressive_jpeg_with_too_many_scans_is_refused() -> None:
    data = encoded(gradient_image(400, 300), "JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scans = data[:start] + data[start:-2] * 200 + data[-2:]
    with pytest.raises(ConversionError) as caught:
        to_grpc(
            model(image_input()),
            "image/jpeg",
            scans,
            limits=ConversionLimits(max_jpeg_scan_pixels=10_000_000),
        )
    assert (caught.value.status, caught.value.reason) == (413, "too_many_scans")


def test_a_batch_above_the_size_limit_is_refused_before_decoding() -> None:
    data = encoded(gradient_image(), "PNG")[:60]
    media, body = form(*[("i", "image/png", data)] * 10)
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), media, body, limits=ConversionLimits(max_tensor_bytes=5000))
    assert (caught.value.status, caught.value.reason) == (413, "tensors_too_large")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused(kind: str, fraction: float) -> None:
    data = encoded(gradient_image(200, 150), kind)
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), _media(kind), data[: int(len(data) * fraction)])
    assert (caught.value.status, caught.value.reason) == (400, "broken_image")


def test_an_error_contains_no_memory_address() -> None:
    data = bytearray(encoded(gradient_image(), "PNG"))
    data[8:12] = b"\xff\xff\xff\xff"
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), "image/png", bytes(data))
    assert "0x" not in caught.value.detail


@pytest.mark.parametrize(
    ("media", "body", "status", "reason"),
    [
        ("image/png", encoded(gradient_image(), "JPEG"), 415, "content_type_mismatch"),
        ("image/jpeg", encoded(gradient_image(), "WEBP"), 415, "content_type_mismatch"),
        ("image/jpeg", b"<html>hello</html>", 415, "not_an_image"),
        ("image/jpeg", b"GIF89a" + bytes(20), 415, "not_an_image"),
        ("image/jpeg", b"", 400, "empty_body"),
    ],
)
def test_data_that_do_not_match_the_content_type_are_refused(
    media: str, body: bytes, status: int, reason: str
) -> None:
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), media, body)
    assert (caught.value.status, caught.value.reason, caught.value.field) == (
        status, reason, "body",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("media", "body", "reason"),
    [
        ("multipart/form-data", b"x", "bad_boundary"),
        ("multipart/form-data; boundary=b", b"", "empty_body"),
        ("multipart/form-data; boundary=b", b"--c--\r\n", "no_boundary"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", "no_parts"),
        ("multipart/form-data; boundary=b", b"--b\r\nA: b\r\n\r\ndata", "truncated"),
        ("multipart/form-data; boundary=b", b"--b\r\nno end of headers\r\n--b--", "bad_part"),
        ("multipart/form-data; boundary=b", b"--b\r\nnocolon\r\n\r\nx\r\n--b--", "bad_part"),
    ],
)
def test_a_malformed_form_is_refused(media: str, body: bytes, reason: str) -> None:
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), media, body)
    assert (caught.value.status, caught.value.reason) == (400, reason)


def test_an_error_names_the_part_that_is_not_an_image() -> None:
    media, body = form(
        ("a", "image/png", encoded(gradient_image(), "PNG")), ("b", "text/plain", b"hello")
    )
    with pytest.raises(ConversionError) as caught:
        to_grpc(model(image_input()), media, body)
    assert (caught.value.status, caught.value.field) == (415, "parts[1] (b)")


@pytest.mark.parametrize("kind", KINDS)
def test_an_orientation_in_xmp_is_applied(kind: str) -> None:
    image, packet = gradient_image(40, 24), XMP % b'tiff:Orientation="6"/>'
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode())
        data = encoded(image, kind, pnginfo=info)
    else:
        data = encoded(image, kind, xmp=packet)
    converter = model(image_input(width=24, height=40))
    turned = sent(to_grpc(converter, _media(kind), data))
    tagged = encoded(image, kind, exif=exif(6))
    assert turned == sent(to_grpc(converter, _media(kind), tagged))
