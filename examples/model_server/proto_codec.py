"""The V2 protobuf form of tensors: typed contents and raw contents, both ways."""

import struct
from collections.abc import Iterable, Sequence

import numpy as np

from protos import inference_pb2 as pb

from .tensors import Array, InvalidInputError, Tensor, dtype_of, shaped

# Which field of InferTensorContents carries a datatype; FP16 has none and must travel raw.
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
    """Reads every input, raw or typed; raises InvalidInputError naming the tensor."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidInputError(
            f"{len(request.inputs)} inputs but {len(raw)} entries in raw_input_contents"
        )
    if not request.inputs:
        raise InvalidInputError("inputs must hold at least one tensor")
    tensors = []
    for position, entry in enumerate(request.inputs):
        dtype = dtype_of(entry.name, entry.datatype)
        flat = _from_raw(entry.name, dtype, raw[position]) if raw else _from_typed(entry, dtype)
        tensors.append(Tensor(entry.name, entry.datatype, shaped(entry.name, flat, entry.shape)))
    return tuple(tensors)


def write_outputs(response: pb.ModelInferResponse, outputs: Iterable[Tensor], *, raw: bool) -> None:
    """Appends `outputs` to `response`, raw or typed (the caller answers the way it was asked)."""
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
    """Raw form of BYTES elements: each preceded by its length in four little-endian bytes."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def unpack_bytes(name: str, buffer: bytes) -> list[bytes]:
    """The elements of a raw BYTES tensor; raises InvalidInputError when a length overruns."""
    items, position = [], 0
    while position < len(buffer):
        start = position + 4
        if start > len(buffer):
            raise InvalidInputError(f"input {name!r}: raw BYTES end inside a length")
        (length,) = struct.unpack_from("<I", buffer, position)
        position = start + length
        if position > len(buffer):
            raise InvalidInputError(f"input {name!r}: raw BYTES end inside an element")
        items.append(buffer[start:position])
    return items


def _from_raw(name: str, dtype: np.dtype[np.generic], buffer: bytes) -> Array:
    if dtype.kind == "O":
        return np.array(unpack_bytes(name, buffer), dtype=object)
    if len(buffer) % dtype.itemsize:
        raise InvalidInputError(
            f"input {name!r}: {len(buffer)} raw bytes are not a whole number of elements"
        )
    return np.frombuffer(buffer, dtype=dtype)


def _from_typed(entry: pb.ModelInferRequest.InferInputTensor, dtype: np.dtype[np.generic]) -> Array:
    field = _FIELDS.get(entry.datatype)
    if field is None:
        raise InvalidInputError(f"input {entry.name!r}: {entry.datatype} travels only raw")
    values = list(getattr(entry.contents, field))
    try:
        return np.array(values, dtype=dtype)
    except OverflowError:
        raise InvalidInputError(
            f"input {entry.name!r}: a number is out of range for {entry.datatype}"
        ) from None


def _to_raw(tensor: Tensor) -> bytes:
    if tensor.datatype == "BYTES":
        return pack_bytes(tensor.data.ravel().tolist())
    return tensor.data.tobytes()
