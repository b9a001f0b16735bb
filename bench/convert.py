"""Measures conversion for each kind and size of body, compared with direct use of the libraries.

`python -m bench.convert` prints microseconds, MB/s of the request body, and the ratio to the same
work with simplejpeg, Pillow, orjson and numpy. Each figure is the best of several rounds, because
other processes share the machine. The benchmark then measures a whole gateway
(`bench.convert_gateway`).
"""

import argparse
import gzip
import io
import timeit
from collections.abc import Callable

import numpy as np
import orjson
import simplejpeg
from PIL import Image

from bench import convert_gateway
from extproc.convert import Converters, Signature
from protos import inference_pb2 as v2
from protos import tensor_pb2
from sluice.config.tensors import ImageInput, TensorInput

ROUNDS = 7
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
SIZES = ((224, 224), (640, 480), (1280, 720), (1920, 1080))


def best(work: Callable[[], object], seconds: float) -> float:
    """Seconds of one run: the best of several rounds, which take about `seconds` in total."""
    once = timeit.timeit(work, number=1)
    number = max(1, int(seconds / ROUNDS / max(once, 1e-6)))
    return min(timeit.repeat(work, number=number, repeat=ROUNDS)) / number


def photo(width: int, height: int) -> Image.Image:
    """Smooth shapes with some noise, which compress like photographs."""
    random = np.random.default_rng(7)
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = random.normal(0, 4, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=85)
    return buffer.getvalue()


def image_model(datatype: str, layout: str) -> Converters:
    """A model with one image input of 224 x 224."""
    normalized = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    image = ImageInput.model_validate(
        {"width": 224, "height": 224, "layout": layout} | (normalized if datatype == "FP32" else {})
    )
    declared = TensorInput.model_validate(
        {"name": "image", "datatype": datatype, "shape": (-1, *image.shape), "image": image}
    )
    return Converters(Signature("bench", inputs=(declared,)), "grpc")


def conversion(converters: Converters, media: str, body: bytes) -> Callable[[], object]:
    """A function that converts one request body to a ModelInferRequest."""
    converter = converters.choose(media)
    assert converter is not None
    headers = {"content-type": media}
    return lambda: converter.convert_request(body, headers)


def report(name: str, work: Callable[[], object], direct: Callable[[], object], size: int) -> None:
    """Print the figures of one comparison."""
    took, took_direct = best(work, SECONDS), best(direct, SECONDS)
    print(
        f"{name:<44}{took * 1e6:>10.1f}{size / took / 1e6:>9.0f}{took_direct * 1e6:>11.1f}"
        f"{took / took_direct:>8.2f}"
    )


def images() -> None:
    """Compare images of several sizes with the decoder alone, and with Pillow and numpy."""
    for width, height in SIZES:
        image = photo(width, height)
        jpeg = encoded(image, "JPEG")

        def bare(data: bytes = jpeg) -> object:
            return simplejpeg.decode_jpeg(data)

        for datatype, layout in (("UINT8", "NHWC"), ("FP32", "NHWC"), ("FP32", "NCHW")):
            work = conversion(image_model(datatype, layout), "image/jpeg", jpeg)
            name = f"JPEG {width}x{height} > {datatype} {layout} / bare decode"
            report(name, work, bare, len(jpeg))
        work = conversion(image_model("FP32", "NCHW"), "image/jpeg", jpeg)
        report(
            f"JPEG {width}x{height} > FP32 NCHW / Pillow+numpy", work, with_pillow(jpeg), len(jpeg)
        )
        for kind in ("PNG", "WEBP"):
            data = encoded(image, kind)
            work = conversion(image_model("FP32", "NCHW"), f"image/{kind.lower()}", data)
            name = f"{kind} {width}x{height} > FP32 NCHW / Pillow+numpy"
            report(name, work, with_pillow(data), len(data))


def with_pillow(data: bytes) -> Callable[[], object]:
    """A function that converts an image in the simplest way with Pillow and numpy."""

    def work() -> object:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        image = image.resize((224, 224), Image.Resampling.BILINEAR)
        pixels = (np.asarray(image, dtype=np.float32) / np.float32(255) - MEAN) / STD
        tensor = pixels.transpose(2, 0, 1)[None]
        request = v2.ModelInferRequest(model_name="bench", raw_input_contents=[tensor.tobytes()])
        return request.SerializeToString()

    return work


def numbers() -> None:
    """Compare numbers in JSON and protobuf with orjson.loads and numpy.asarray."""
    converters = Converters(Signature("bench"), "grpc")
    converter = converters.choose("application/json")
    assert converter is not None
    for count in (10, 1_000, 100_000, 500_000):
        values = np.random.default_rng(7).normal(size=count).astype(np.float32)
        tensor = {"name": "x", "datatype": "FP32", "shape": [count], "data": values}
        body = orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)

        def direct(body: bytes = body) -> object:
            return np.asarray(orjson.loads(body)["inputs"][0]["data"])

        work = conversion(converters, "application/json", body)
        report(f"JSON {count} FP32 / loads+asarray", work, direct, len(body))
        packed = gzip.compress(body, 1)

        def unpacked(body: bytes = packed) -> object:
            return converter.convert_request(body, {"content-encoding": "gzip"})

        report(f"JSON {count} FP32 gzip / loads+asarray", unpacked, direct, len(packed))
        request = v2.ModelInferRequest(raw_input_contents=[values.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=[count])
        message = request.SerializeToString()

        def parsed(message: bytes = message) -> object:
            return v2.ModelInferRequest.FromString(message).SerializeToString()

        work = conversion(converters, "application/x-protobuf", message)
        report(f"ModelInferRequest {count} FP32 / parse+write", work, parsed, len(message))


def raw() -> None:
    """Compare tensors that need no decoding with a copy of the bytes."""
    converters = image_model("UINT8", "NHWC")
    body = photo(224, 224).tobytes()
    work = conversion(converters, "application/octet-stream", body)
    report("octets 224x224 UINT8 / copy", work, lambda: bytearray(body), len(body))
    message = tensor_pb2.TensorRequest(data=body, shape=[1, 224, 224, 3]).SerializeToString()
    work = conversion(converters, "application/x-protobuf", message)
    report("TensorRequest 224x224 UINT8 / copy", work, lambda: bytearray(body), len(message))


def responses() -> None:
    """Compare responses in V2 JSON with protobuf's parser and orjson.dumps of a list."""
    converter = Converters(Signature("bench"), "grpc").choose("application/json")
    assert converter is not None
    options = converter.convert_request(
        b'{"inputs":[{"name":"x","datatype":"BOOL","shape":[1],"data":[true]}]}', {}
    ).response_options
    for count in (10, 1_000, 100_000):
        values = np.random.default_rng(7).normal(size=count).astype(np.float32)
        response = v2.ModelInferResponse(raw_output_contents=[values.tobytes()])
        response.outputs.add(name="y", datatype="FP32", shape=[count])
        body = response.SerializeToString()

        def work(body: bytes = body) -> object:
            return converter.convert_response(options, 200, {"grpc-status": "0"}, body)

        def direct(body: bytes = body) -> object:
            raw = v2.ModelInferResponse.FromString(body).raw_output_contents[0]
            return orjson.dumps(np.frombuffer(raw, np.float32).tolist())

        report(f"response {count} FP32 > JSON / parse+tolist+dumps", work, direct, len(body))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=0.3, help="seconds for each figure")
    arguments.add_argument(
        "--gateway-seconds", type=int, default=2, help="seconds of one round through Envoy; 0: none"
    )
    options = arguments.parse_args()
    SECONDS: float = options.seconds
    print(f"{'':<44}{'us':>10}{'MB/s':>9}{'direct us':>11}{'ratio':>8}")
    images()
    numbers()
    raw()
    responses()
    if options.gateway_seconds:
        convert_gateway.measure(encoded(photo(224, 224), "JPEG"), options.gateway_seconds)
