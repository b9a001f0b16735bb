"""Pictures, as files too, and declared inputs for them."""

import io

import numpy as np
from PIL import Image

from sluice.config.tensors import ImageInput, TensorInput

XMP = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" %b</rdf:Description>'
"""A part of an XMP packet."""


def image_input(
    datatype: str = "UINT8", name: str = "image", batch: int = -1, **image: object
) -> TensorInput:
    """A declared image input, by default of 16 x 12 pixels."""
    declared = ImageInput.model_validate({"width": 16, "height": 12, **image})
    return TensorInput.model_validate(
        {"name": name, "datatype": datatype, "shape": (batch, *declared.shape), "image": declared}
    )


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
