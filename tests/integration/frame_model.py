"""Models that read the number of a frame: `numbers` in a tensor, `jpegs` in a JPEG image.

`python -m tests.integration.frame_model MODEL` serves a model as the example model server does,
with injected faults. An output of -1 says that a frame has no number.
"""

import argparse
import asyncio
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from examples.model_server.faults import Faults
from examples.model_server.model import InferenceModel, single_input
from examples.model_server.served_model import ServedModel
from examples.model_server.server import serve
from examples.model_server.tensors import Tensor, TensorSpec
from examples.train import frame_number
from tests import plain_http

WIDTH, HEIGHT = 64, 8
"""Size of the band with the number in pixels, after conversion."""
REGION = dict(frame_number.REGION)
UNREADABLE = -1


class Numbers:
    """Reads numbers of images of the band."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("image", "UINT8", (-1, HEIGHT, WIDTH, 1)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("number", "INT64", (-1,)),)

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`number` INT64 [n]."""
        return (_numbers(single_input(inputs, "image").data[..., 0]),)


class Jpegs:
    """Reads numbers of JPEG images of whole frames."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("picture", "BYTES", (-1,)),)
    outputs = Numbers.outputs

    def infer(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`number` INT64 [n]."""
        return (_numbers([_band(data) for data in single_input(inputs, "picture").data]),)


MODELS: dict[str, InferenceModel] = {"numbers": Numbers(), "jpegs": Jpegs()}
MODEL_INPUTS: dict[str, dict[str, Any]] = {
    "numbers": {
        "name": "image",
        "datatype": "UINT8",
        "shape": [-1, HEIGHT, WIDTH, 1],
        "image": {"width": WIDTH, "height": HEIGHT, "color": "GRAY"},
    },
    "jpegs": {"name": "picture", "datatype": "BYTES", "shape": [-1]},
}
"""The inputs in the config of a gateway."""


def _numbers(bands: Any) -> Tensor:
    found = [frame_number.read(np.asarray(band)) for band in bands]
    numbers = [UNREADABLE if number is None else number for number in found]
    return Tensor("number", "INT64", np.array(numbers, dtype=np.int64))


def _band(jpeg: bytes) -> frame_number.Gray:
    with Image.open(io.BytesIO(jpeg)) as image:
        width, height = image.size
        left, top = REGION["left"] * width, REGION["top"] * height
        box = (left, top, left + REGION["width"] * width, top + REGION["height"] * height)
        band = image.convert("L").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box)
    return np.asarray(band)


@dataclass(frozen=True, slots=True)
class FrameModel:
    """A model that runs in a process of its own."""

    name: str
    rest: str
    grpc: str

    def inject(self, *, fail_rate: float = 0.0, delay_ms: float = 0.0) -> None:
        """Make calls fail or wait from now on."""
        body = json.dumps({"fail_rate": fail_rate, "delay_ms": delay_ms})
        plain_http.post(f"http://{self.rest}/control", content=body).raise_for_status()

    def config(self, **video: Any) -> dict[str, Any]:
        """The model in the config of a gateway."""
        return {
            "inputs": [MODEL_INPUTS[self.name]],
            "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": self.grpc}]}},
            "video": video,
        }


@contextlib.contextmanager
def frame_model(name: str, *, delay_ms: float = 0.0) -> Iterator[FrameModel]:
    """Run a model while the block runs."""
    argv = [sys.executable, "-m", "tests.integration.frame_model", name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            _, _, rest, grpc = process.stdout.readline().split()
            model = FrameModel(name, rest.removeprefix("rest="), grpc.removeprefix("grpc="))
            model.inject(delay_ms=delay_ms)
            yield model
        finally:
            process.terminate()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    name = parser.parse_args().model
    served = ServedModel(name, "v1", MODELS[name], Faults())
    asyncio.run(serve([(served, "127.0.0.1:0", "127.0.0.1:0")]))


if __name__ == "__main__":
    _main()
