"""V2 protobuf tensors: reads and writes typed contents and raw contents."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from protos import inference_pb2 as pb

from .tensors import Array, InvalidInputError, Tensor, dtype_of, reshape

# The field of InferTensorContents for each datatype. FP16 has none, so it must be raw.
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse_inputs(request: pb.ModelInferRequest) -> tuple[Tensor, ...]:
    """Reads every input, raw or typed; raises InvalidInputError, which names the tensor."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(
            f"{len(request.inputs)} inputs, but {len(raw)} entries in raw_input_contents"
        )
    if not request.inputs:
        raise InvalidInputError("inputs must have at least one tensor")
    tensors = []
    for position, entry in enumerate(request.inputs):
        dtype = dtype_of(entry.name, entry.datatype)
        flat = _from_raw(entry.name, dtype, raw[position]) if raw else _from_typed(entry, dtype)
        tensors.append(Tensor(entry.name, entry.datatype, reshape(entry.name, flat, entry.shape)))
    return tuple(tensors)


def write_outputs(response: pb.ModelInferResponse, outputs: Iterable[Tensor], *, raw: bool) -> None:
    """Appends the outputs to the response, as raw or as typed contents."""
    for tensor in outputs:
        entry = response.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.data.shape
        )
        if raw:
            response.raw_output_contents.append(_to_raw(tensor))
        else:
            field = getattr(entry.contents, _FIELDS[tensor.datatype])
            field.extend(tensor.data.ravel().tolist())


def pack_bytes(items: Sequence[bytes]) -> bytes:
    """Raw BYTES elements: each follows its length, which is four little-endian bytes."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def unpack_bytes(name: str, buffer: bytes) -> list[bytes]:
    """The elements of a raw BYTES tensor; raises InvalidInputError if it is truncated."""
    items, position = [], 0
    while position < len(buffer):
        start = position + 4
        if start > len(buffer):
            raise InvalidInputError(f"input {name!r}: raw BYTES data ends within a length")
        (length,) = struct.unpack_from("<I", buffer, position)
        position = start + length
        if position > len(buffer):
            raise InvalidInputError(f"input {name!r}: raw BYTES data ends within an element")
        items.append(buffer[start:position])
    return items


def _from_raw(name: str, dtype: np.dtype[np.generic], buffer: bytes) -> Array:
    if dtype.kind == "O":
        return np.array(unpack_bytes(name, buffer), dtype=object)
    if len(buffer) % dtype.itemsize:
        raise InvalidInputError(
            f"input {name!r}: {len(buffer)} raw bytes are not a multiple of {dtype.itemsize}"
        )
    return np.frombuffer(buffer, dtype=dtype)


def _from_typed(entry: pb.ModelInferRequest.InferInputTensor, dtype: np.dtype[np.generic]) -> Array:
    field = _FIELDS.get(entry.datatype)
    if field is None:
        raise InvalidInputError(
            f"input {entry.name!r}: {entry.datatype} must be sent in raw_input_contents"
        )
    values = list(getattr(entry.contents, field))
    try:
        return np.array(values, dtype=dtype)
    except OverflowError:
        raise InvalidInputError(
            f"input {entry.name!r}: number out of range for {entry.datatype}"
        ) from None


def _to_raw(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return pack_bytes(tensor.data.ravel().tolist())
    return tensor.data.tobytes()
