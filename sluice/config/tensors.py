"""What a model takes and gives: named tensors, and how a picture becomes one.

A model that declares its inputs has every request checked against them, and converted into them.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

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
    """How an encoded picture becomes the tensor: value = (pixel x scale - mean) / std.

    `pixel` is 0..255. With neither scale nor mean nor std, pixels are sent as they are. Integer
    datatypes are rounded, and held within their range.
    """

    width: int = Field(ge=1, le=8192)
    height: int = Field(ge=1, le=8192)
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    resize: Literal["stretch", "crop", "pad"] = Field(
        "stretch",
        description="`stretch` ignores the aspect ratio; `crop` keeps it and cuts to the centre; "
        "`pad` keeps it and fills the rest with `background`.",
    )
    crop_fraction: float = Field(
        1.0, gt=0, le=1, description="With `crop`: share of the largest centred crop that is kept."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"
    background: tuple[Shade, Shade, Shade] = Field(
        (255, 255, 255), description="RGB behind transparent pixels, and around a padded picture."
    )
    scale: Finite = Field(1.0, description="Factor on pixels, such as 0.00392156862745098 (1/255).")
    mean: tuple[Finite, ...] = Field(
        (), max_length=3, description="After scaling: one for all channels, or one for each."
    )
    std: tuple[Finite, ...] = Field((), max_length=3, description="As `mean`.")
    max_pixels: int = Field(
        25_000_000,
        ge=1,
        le=1 << 30,
        description="Pixels of all pictures of one request together, before resizing.",
    )

    @property
    def channels(self) -> int:
        """Color values of one pixel."""
        return 1 if self.color == "GRAY" else 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture, without the batch."""
        if self.layout == "NHWC":
            return self.height, self.width, self.channels
        return self.channels, self.height, self.width

    @property
    def normalised(self) -> bool:
        """Whether the tensor's values differ from the pixels'."""
        return self.scale != 1.0 or bool(self.mean) or bool(self.std)

    @model_validator(mode="after")
    def _values_fit_channels(self) -> Self:
        for field in ("mean", "std"):
            count = len(getattr(self, field))
            if count not in (0, 1, self.channels):
                raise ValueError(
                    f"{field} has {count} values; give one, or {self.channels} for {self.color}"
                )
        if any(value == 0 for value in self.std):
            raise ValueError("std cannot be 0: values are divided by it")
        if self.crop_fraction != 1.0 and self.resize != "crop":
            raise ValueError("crop_fraction needs resize: crop")
        return self


class TensorInput(Strict):
    """One input of a model."""

    name: TensorName
    datatype: Datatype
    shape: tuple[Dimension, ...] = Field(
        max_length=16, description="-1 stands for any size: of the batch, or of a sequence."
    )
    optional: bool = Field(False, description="Whether a request may leave it out.")
    image: ImageInput | None = Field(
        None, description="Accept pictures (JPEG, PNG, WebP) for this input, converted so."
    )

    @model_validator(mode="after")
    def _picture_fits_tensor(self) -> Self:
        if self.image is None:
            return self
        if self.datatype not in IMAGE_DATATYPES:
            raise ValueError(f"a picture becomes {', '.join(IMAGE_DATATYPES)}, not {self.datatype}")
        wanted = self.image.shape
        given = self.shape[1:] if len(self.shape) == 4 else self.shape
        if len(given) != 3 or any(g not in (-1, w) for g, w in zip(given, wanted, strict=True)):
            raise ValueError(
                f"shape {list(self.shape)} does not hold this picture: write {[-1, *wanted]}, or "
                f"{list(wanted)} for a model without a batch dimension"
            )
        return self


class TensorOutput(Strict):
    """One output of a model; only outputs with labels need declaring."""

    name: TensorName
    labels: tuple[str, ...] = Field(
        (), max_length=100_000, description="Name of each class, in the order of the scores."
    )
    top_k: int = Field(1, ge=1, le=1000, description="With labels: best classes told in JSON.")


def distinct_names(tensors: tuple[TensorInput, ...] | tuple[TensorOutput, ...]) -> None:
    """Raises ValueError when two tensors have the same name."""
    names = [tensor.name for tensor in tensors]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the tensor {name!r} is declared twice")
