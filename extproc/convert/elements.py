"""Converts tensor elements between JSON values and raw data."""

import base64
import binascii
import struct
from collections.abc import Sequence
from itertools import chain

import numpy as np

from extproc.convert.errors import ConversionError, quoted
from extproc.convert.limits import ConversionLimits
from extproc.convert.tensor import unpack_bytes
from sluice.contract.reasons import Reason
from sluice.tensors.datatypes import Raw, pack_bytes
from sluice.tensors.elements import Array, array, to_bf16

# struct checks the range of each element, and is faster than numpy with a list.
_FORMATS = {
    "BOOL": "?",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "BF16": "f", "FP32": "f", "FP64": "d",
}  # fmt: skip

# Exact types: in Python bool is a subclass of int, but in V2 true is not an integer.
_FLOATS: frozenset[type] = frozenset((float, int))
_INTEGERS: frozenset[type] = frozenset((int,))
_ALLOWED: dict[str, frozenset[type]] = {
    "BOOL": frozenset((bool,)),
    "BYTES": frozenset((str, dict)),
    **dict.fromkeys(("FP16", "BF16", "FP32", "FP64"), _FLOATS),
}
CHUNK = 1 << 14
"""Elements that are converted in one piece. A call into C holds the interpreter lock until it
returns, and one call for all elements of a body would stop the event loop."""

_LIST: frozenset[type] = frozenset((list,))


def flatten(
    data: object, field: str, limits: ConversionLimits
) -> tuple[list[object], tuple[int, ...]]:
    """Elements of nested arrays in row-major order, and the arrays' shape; () for a single value.

    Raises ConversionError (400) if arrays differ in length or are nested too deeply.
    """
    if not isinstance(data, list):
        return [data], ()
    shape = [len(data)]
    # A loop over the levels, because recursion over deeply nested arrays would exhaust the stack.
    while data and type(data[0]) is list:
        if len(shape) >= limits.max_dimensions:
            raise ConversionError(
                Reason.TOO_DEEP, field, f"arrays must nest at most {limits.max_dimensions} deep"
            )
        if frozenset(map(type, data)) != _LIST:
            raise _mixed(field)
        lengths = set(map(len, data))
        if len(lengths) > 1:
            raise ConversionError(
                Reason.RAGGED,
                field,
                f"arrays at depth {len(shape)} differ in length: {sorted(lengths)[:4]}",
            )
        shape.append(lengths.pop())
        data = list(chain.from_iterable(data))
    return data, tuple(shape)


def pack(values: Sequence[object], datatype: str, field: str) -> bytes:
    """Raw data of JSON values. Raises ConversionError (400, 422) that names the element.

    The values are packed in chunks, so that other threads can run in between.
    """
    if len(values) <= CHUNK:
        return _pack(values[:], datatype, field, 0)
    chunks = range(0, len(values), CHUNK)
    return b"".join([_pack(values[i : i + CHUNK], datatype, field, i) for i in chunks])


def pack_texts(items: Sequence[bytes]) -> bytes:
    """Raw data of BYTES elements, packed in chunks like those of `pack`."""
    return b"".join([pack_bytes(items[i : i + CHUNK]) for i in range(0, len(items), CHUNK)])


def _pack(values: Sequence[object], datatype: str, field: str, first: int) -> bytes:
    """Raw data of one chunk. `first` is the position of its first element."""
    allowed = _ALLOWED.get(datatype, _INTEGERS)
    if not frozenset(map(type, values)) <= allowed:
        raise _wrong_element(values, datatype, allowed, field, first)
    if datatype == "BYTES":
        return pack_bytes(_bytes_elements(values, field, first))
    try:
        packed = struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except (struct.error, OverflowError):
        raise _out_of_range(values, datatype, field, first) from None
    return _pack_bf16(packed, values, field, first) if datatype == "BF16" else packed


def json_values(raw: Raw, datatype: str, field: str) -> Array:
    """Flat `data` for `json_array`.

    Raises UnicodeDecodeError for BYTES that are not UTF-8, ValueError for an incomplete element,
    ConversionError (400) for a BYTES element that is longer than the data.
    """
    if datatype == "BYTES":
        return np.array([item.decode() for item in unpack_bytes(raw, field)], dtype=object)
    return array(raw, datatype)


def decode_base64(encoded: str, field: str) -> bytes:
    """Decode base64 (RFC 4648 section 4). Raises ConversionError (400)."""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConversionError(Reason.BAD_BASE64, field, f"must be base64: {error}") from None


def _pack_bf16(packed: bytes, values: Sequence[object], field: str, first: int) -> bytes:
    rounded = to_bf16(np.frombuffer(packed, dtype="<f4"))
    infinite = (rounded & 0x7F80) == 0x7F80
    if infinite.any():
        position = int(infinite.argmax())
        raise _range_error(values[position], "BF16", f"{field}[{first + position}]")
    return rounded.tobytes()


def _bytes_elements(values: Sequence[object], field: str, first: int) -> list[bytes]:
    return [
        value.encode() if type(value) is str else _bytes(value, f"{field}[{i}]")
        for i, value in enumerate(values, first)
    ]


def _bytes(value: object, field: str) -> bytes:
    assert isinstance(value, dict)
    encoded = value.get("b64")
    if len(value) != 1 or not isinstance(encoded, str):
        raise ConversionError(Reason.WRONG_ELEMENT, field, 'an object must be {"b64": "..."}')
    return decode_base64(encoded, f"{field}.b64")


def _wrong_element(
    values: Sequence[object], datatype: str, allowed: frozenset[type], field: str, first: int
) -> ConversionError:
    position, value = next((i, v) for i, v in enumerate(values, first) if type(v) not in allowed)
    field = f"{field}[{position}]"
    if isinstance(value, list):
        return _mixed(field)
    detail = f"must be {datatype}, not {_json_text(value)}"
    if value is None and allowed is _FLOATS:
        detail += "; JSON has no NaN and no infinity, send them as binary data"
    return ConversionError(Reason.WRONG_ELEMENT, field, detail)


def _json_text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    return "an object" if isinstance(value, dict) else repr(value)


def _out_of_range(
    values: Sequence[object], datatype: str, field: str, first: int
) -> ConversionError:
    element = struct.Struct("<" + _FORMATS[datatype])
    for position, value in enumerate(values, first):
        try:
            element.pack(value)
        except (struct.error, OverflowError):
            return _range_error(value, datatype, f"{field}[{position}]")
    raise AssertionError("struct refuses the values together, but each one alone is accepted")


def _range_error(value: object, datatype: str, field: str) -> ConversionError:
    return ConversionError(
        Reason.OUT_OF_RANGE, field, f"{value!r} is out of the range of {datatype}"
    )


def _mixed(field: str) -> ConversionError:
    return ConversionError(Reason.RAGGED, field, "arrays and elements are mixed at one depth")
