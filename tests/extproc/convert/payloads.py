"""Signatures and valid bodies for the tests and the fuzzer."""

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from extproc.convert import ConversionLimits, ConvertedMessage, Converters, Signature
from protos import inference_pb2 as v2
from sluice.config.tensors import ImageInput, TensorInput, TensorOutput


def image_input(
    datatype: str = "UINT8", name: str = "image", batch: int = -1, **image: object
) -> TensorInput:
    """A declared image input, by default of 16 x 12 pixels."""
    declared = ImageInput.model_validate({"width": 16, "height": 12, **image})
    return TensorInput.model_validate(
        {"name": name, "datatype": datatype, "shape": (batch, *declared.shape), "image": declared}
    )


def tensor_input(name: str, datatype: str, *shape: int, optional: bool = False) -> TensorInput:
    """A declared input without an image."""
    return TensorInput.model_validate(
        {"name": name, "datatype": datatype, "shape": shape, "optional": optional}
    )


def model(*inputs: TensorInput, outputs: tuple[TensorOutput, ...] = ()) -> Signature:
    """A signature of the model `m`."""
    return Signature("m", "1", inputs, outputs)


def to_grpc(
    signature: Signature,
    media: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    limits: ConversionLimits | None = None,
) -> ConvertedMessage:
    """Convert a request for a gRPC model server."""
    converter = Converters(signature, "grpc", limits or ConversionLimits()).choose(media)
    assert converter is not None
    return converter.convert_request(body, {"content-type": media, **(headers or {})})


def sent(converted: ConvertedMessage) -> v2.ModelInferRequest:
    """The ModelInferRequest that a gRPC model server gets."""
    return v2.ModelInferRequest.FromString(converted.body)


def first_array(converted: ConvertedMessage, dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """The first input as an array."""
    request = sent(converted)
    return np.frombuffer(request.raw_input_contents[0], dtype).reshape(request.inputs[0].shape)


def gradient_image(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """A gradient between four different corners, so it has no symmetry."""
    corners = np.array(
        [[[250, 10, 10, 255], [10, 240, 10, 255]], [[10, 10, 230, 255], [220, 220, 20, 255]]],
        dtype=np.uint8,
    )
    image = Image.fromarray(corners, "RGBA").resize((width, height), Image.Resampling.BICUBIC)
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The image as a file, by default nearly lossless."""
    buffer = io.BytesIO()
    settings: dict[str, dict[str, object]] = {
        "JPEG": {"quality": 98, "subsampling": 0},
        "WEBP": {"lossless": True},
    }
    image.save(buffer, kind, **{**settings.get(kind, {}), **options})
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    """EXIF data with an orientation."""
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def form(*parts: tuple[str, str, bytes], boundary: str = "xYz") -> tuple[str, bytes]:
    """Content-Type and body of a multipart form of (name, media type, data)."""
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n'
        f"Content-Type: {media}\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, media, data in parts
    )
    return f"multipart/form-data; boundary={boundary}", body + f"--{boundary}--\r\n".encode()
