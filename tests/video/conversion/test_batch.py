"""Frames become the tensor of one request."""

import struct

import numpy as np
import pytest

from sluice.config.tensors import TensorInput
from tests.sluice.images.pictures import gradient_image, image_input
from tests.video.conversion.frames import decoded
from video.conversion import Converted, FrameConverter, batch_tensor

JPEGS = [Converted(b"abc", (), 4, 2), Converted(b"de", (), 4, 2)]


def tensors(declared: TensorInput, count: int) -> list[Converted]:
    converter = FrameConverter(declared, None, None, 10_000)
    return [converter.convert(decoded(gradient_image(20 + n, 20))) for n in range(count)]


@pytest.mark.parametrize("count", [1, 3])
def test_frames_become_a_batch_in_their_order(count: int) -> None:
    declared = image_input("FP32")
    frames = tensors(declared, count)
    shape, data = batch_tensor(declared, frames)
    assert shape == (count, 12, 16, 3)
    batch = np.frombuffer(data, "<f4").reshape(shape)
    for frame, values in zip(frames, batch, strict=True):
        assert values.tobytes() == bytes(frame.data)


def test_a_model_without_a_batch_dimension_gets_one_frame() -> None:
    declared = image_input().model_copy(update={"shape": (12, 16, 3)})
    shape, data = batch_tensor(declared, tensors(declared, 1))
    assert shape == (12, 16, 3)
    assert len(data) == 12 * 16 * 3


@pytest.mark.parametrize(
    ("declared", "shape"), [((-1,), (2,)), ((-1, 1), (2, 1)), ((-1, -1), (2, 1)), ((2,), (2,))]
)
def test_a_jpeg_is_an_element_of_a_bytes_tensor(
    declared: tuple[int, ...], shape: tuple[int, ...]
) -> None:
    tensor = TensorInput(name="x", datatype="BYTES", shape=declared)
    assert batch_tensor(tensor, JPEGS) == (
        shape, struct.pack("<I", 3) + b"abc" + struct.pack("<I", 2) + b"de",
    )  # fmt: skip


def test_a_bytes_tensor_may_be_a_single_element() -> None:
    tensor = TensorInput(name="x", datatype="BYTES", shape=())
    assert batch_tensor(tensor, JPEGS[:1]) == ((), struct.pack("<I", 3) + b"abc")
