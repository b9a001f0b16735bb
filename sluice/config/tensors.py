"""Inputs and outputs of a model: named tensors, and the conversion of images into tensors."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from sluice.config.enumeration import enumerated
from sluice.config.invalid import invalid
from sluice.config.values import Strict

Datatype = Literal[
    "BOOL",
    "UINT8", "UINT16", "UINT32", "UINT64",
    "INT8", "INT16", "INT32", "INT64",
    "FP16", "BF16", "FP32", "FP64",
    "BYTES",
]  # fmt: skip
"""Datatypes of the Open Inference Protocol (V2)."""

Dimension = Annotated[int, Field(ge=-1, le=1 << 31)]
TensorName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Shade = Annotated[int, Field(ge=0, le=255)]

IMAGE_DATATYPES = ("UINT8", "INT8", "FP16", "BF16", "FP32")
INTEGER_DATATYPES = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")


class ImageInput(Strict):
    """Conversion of an encoded image into a tensor: value = (pixel x scale - mean) / std.

    `pixel` is from 0 to 255. Values of integer datatypes are rounded and clipped to the range of
    the datatype.
    """

    width: int = Field(ge=1, le=8192)
    height: int = Field(ge=1, le=8192)
    layout: Literal["NHWC", "NCHW"] = Field("NHWC", description="Order of the dimensions.")
    color: Literal["RGB", "BGR", "GRAY"] = Field("RGB", description="Order of the channels.")
    resize: Literal["stretch", "crop", "pad"] = Field(
        "stretch",
        description="`stretch` ignores the aspect ratio. `crop` keeps the aspect ratio and cuts "
        "off the edges. `pad` keeps the aspect ratio and fills the rest with `background`.",
    )
    crop_fraction: float = Field(
        1.0, gt=0, le=1, description="With `crop`: share of the largest centered crop to keep."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    background: tuple[Shade, Shade, Shade] = Field(
        (255, 255, 255),
        description="RGB color behind transparent pixels and around a padded image.",
    )
    scale: Finite = Field(
        1.0, description="Factor for pixels, such as 0.00392156862745098 (1/255)."
    )
    mean: tuple[Finite, ...] = Field(
        (), max_length=3, description="One value for all channels, or one per channel."
    )
    std: tuple[Finite, ...] = Field(
        (), max_length=3, description="One value for all channels, or one per channel."
    )
    max_pixels: int = Field(
        25_000_000,
        ge=1,
        le=1 << 30,
        description="Maximum pixels of all images for this input in a request, before resizing.",
    )

    @property
    def channels(self) -> int:
        """Number of color values of a pixel."""
        return 1 if self.color == "GRAY" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, without the batch dimension."""
        if self.layout == "NHWC":
            return self.height, self.width, self.channels
        return self.channels, self.height, self.width

    @property
    def normalized(self) -> bool:
        """Whether the values of the tensor differ from the pixels."""
        return self.scale != 1.0 or bool(self.mean) or bool(self.std)

    @model_validator(mode="after")
    def _values_fit_channels(self) -> Self:
        for field in ("mean", "std"):
            count = len(getattr(self, field))
            if count not in (0, 1, self.channels):
                message = f"write 1 value, or {self.channels} for {self.color}, not {count}"
                raise invalid(message, (field,))
        if any(value == 0 for value in self.std):
            raise invalid("write numbers other than 0: values are divided by them", ("std",))
        if self.crop_fraction != 1.0 and self.resize != "crop":
            raise invalid("remove crop_fraction, or set resize: crop", ("crop_fraction",))
        return self


class TensorInput(Strict):
    """An input of a model."""

    name: TensorName
    datatype: Datatype
    shape: tuple[Dimension, ...] = Field(
        max_length=16, description="Size of each dimension. -1: any size."
    )
    optional: bool = Field(False, description="Whether a request may omit the input.")
    image: ImageInput | None = Field(
        None, description="Accept images (JPEG, PNG, WebP) for this input."
    )

    @model_validator(mode="after")
    def _image_fits_tensor(self) -> Self:
        if self.image is None:
            return self
        if self.datatype not in IMAGE_DATATYPES:
            allowed = enumerated(IMAGE_DATATYPES, "or")
            raise invalid(f"write {allowed} for an image, not {self.datatype}", ("datatype",))
        wanted = self.image.shape
        given = self.shape[1:] if len(self.shape) == 4 else self.shape
        if len(given) != 3 or any(g not in (-1, w) for g, w in zip(given, wanted, strict=True)):
            raise invalid(
                f"{list(self.shape)} does not fit the image: write {[-1, *wanted]}, or "
                f"{list(wanted)} for a model without a batch dimension",
                ("shape",),
            )
        return self


class TensorOutput(Strict):
    """An output of a model. Only outputs with labels need to be declared."""

    name: TensorName
    labels: tuple[str, ...] = Field(
        (), max_length=100_000, description="Names of the classes, in the order of the scores."
    )
    top_k: int = Field(
        1, ge=1, le=1000, description="With `labels`: number of best classes in JSON responses."
    )
