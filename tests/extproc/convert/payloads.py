"""Signatures and valid bodies for the tests and the fuzzer."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from extproc.convert import ConversionLimits, ConvertedMessage, Converters, Signature
from protos import inference_pb2 as v2
from sluice.config.tensors import TensorInput, TensorOutput


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
