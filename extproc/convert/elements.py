"""Elements of a tensor between JSON values and raw bytes."""

import base64
import binascii
import struct
from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from extproc.convert.tensor import Raw, pack_bytes, unpack_bytes
from sluice.contract.reasons import Reason

Array = npt.NDArray[np.generic]

# struct checks ranges as it packs, and does so faster than numpy reads a list.
_FORMATS = {
    "BOOL": "?",
    "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "BF16": "f", "FP32": "f", "FP64": "d",
}  # fmt: skip

_DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"), "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"), "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"), "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8"),
}  # fmt: skip

# By exact type: in Python true is an integer, in V2 it is not.
_FLOATS: frozenset[type] = frozenset((float, int))
_INTEGERS: frozenset[type] = frozenset((int,))
_ALLOWED: dict[str, frozenset[type]] = {
    "BOOL": frozenset((bool,)),
    "BYTES": frozenset((str, dict)),
    **dict.fromkeys(("FP16", "BF16", "FP32", "FP64"), _FLOATS),
}
_LIST: frozenset[type] = frozenset((list,))


def flatten(
    data: object, where: str, limits: ConversionLimits
) -> tuple[list[object], tuple[int, ...]]:
    """Row-major elements of nested arrays, and their shape; a lone value has shape ().

    Raises ConversionError (400) for arrays of unequal length, or nested too deep.
    """
    if not isinstance(data, list):
        return [data], ()
    shape = [len(data)]
    # A level at a time, so that depth costs no recursion.
    while data and type(data[0]) is list:
        if len(shape) >= limits.max_dimensions:
            raise ConversionError(
                Reason.TOO_DEEP, where, f"arrays are nested deeper than {limits.max_dimensions}"
            )
        if frozenset(map(type, data)) != _LIST:
            raise ConversionError(Reason.RAGGED, where, "mixes arrays and elements at one depth")
        lengths = set(map(len, data))
        if len(lengths) > 1:
            raise ConversionError(
                Reason.RAGGED,
                where,
                f"arrays at depth {len(shape)} differ in length: {sorted(lengths)[:4]}",
            )
        shape.append(lengths.pop())
        data = list(chain.from_iterable(data))
    return data, tuple(shape)


def pack(values: Sequence[object], datatype: str, where: str) -> bytes:
    """Raw bytes of JSON values. Raises ConversionError (422) and names the element at fault."""
    allowed = _ALLOWED.get(datatype, _INTEGERS)
    if not frozenset(map(type, values)) <= allowed:
        raise _misfit(values, datatype, allowed, where)
    if datatype == "BYTES":
        return pack_bytes([_text(value, i, where) for i, value in enumerate(values)])
    try:
        packed = struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except (struct.error, OverflowError):
        raise _out_of_range(values, datatype, where) from None
    return _to_bf16(packed, values, where) if datatype == "BF16" else packed


def json_values(raw: Raw, datatype: str, where: str) -> Array | list[str]:
    """What orjson (with OPT_SERIALIZE_NUMPY) writes as flat `data`; NaN and infinity become null.

    Raises UnicodeDecodeError for BYTES that are not UTF-8, ValueError for a broken element, and
    ConversionError for BYTES whose lengths overrun.
    """
    if datatype == "BYTES":
        return [item.decode() for item in unpack_bytes(raw, where)]
    return array(raw, datatype)


def array(raw: Raw, datatype: str) -> Array:
    """A flat array over raw elements, BF16 widened to FP32; ValueError for a broken element."""
    if datatype == "BOOL":
        # A bool of another value than 0 and 1 is undefined behaviour to whoever reads it.
        return np.frombuffer(raw, dtype=np.uint8).astype(np.bool_)
    if datatype == "BF16":
        wide = np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << np.uint32(16)
        single: Array = wide.view(np.float32)
        return single
    values: Array = np.frombuffer(raw, dtype=_DTYPES[datatype])
    # orjson reads arrays as C would: an element may not lie across its alignment.
    return values if values.flags.aligned else values.copy()


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest BF16 numbers, ties to even; values must be finite."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded: npt.NDArray[np.uint16] = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")
    return rounded


def _to_bf16(packed: bytes, values: Sequence[object], where: str) -> bytes:
    rounded = to_bf16(np.frombuffer(packed, dtype="<f4"))
    overflown = (rounded & 0x7F80) == 0x7F80
    if overflown.any():
        position = int(overflown.argmax())
        raise ConversionError(
            Reason.OUT_OF_RANGE,
            f"{where}[{position}]",
            f"{values[position]!r:.40} is out of BF16 range",
        )
    return rounded.tobytes()


def _text(value: object, position: int, where: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    assert isinstance(value, dict)
    encoded = value.get("b64")
    if len(value) != 1 or not isinstance(encoded, str):
        raise ConversionError(
            Reason.WRONG_ELEMENT, f"{where}[{position}]", 'an object here must be {"b64": "..."}'
        )
    return base64_bytes(encoded, f"{where}[{position}].b64")


def base64_bytes(encoded: str, where: str) -> bytes:
    """Decoded base64 (RFC 4648 section 4). Raises ConversionError (400)."""
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConversionError(Reason.BAD_BASE64, where, f"is not base64: {error}") from None


def _misfit(
    values: Sequence[object], datatype: str, allowed: frozenset[type], where: str
) -> ConversionError:
    position, value = next((i, v) for i, v in enumerate(values) if type(v) not in allowed)
    field = f"{where}[{position}]"
    if isinstance(value, list):
        return ConversionError(Reason.RAGGED, field, "mixes arrays and elements at one depth")
    if value is None:
        detail = f"null is no {datatype}"
        if allowed is _FLOATS:
            detail += "; NaN and infinity have no JSON form, send them as binary data"
        return ConversionError(Reason.WRONG_ELEMENT, field, detail)
    return ConversionError(Reason.WRONG_ELEMENT, field, f"{_shown(value)} is no {datatype}")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value!r:.40}"


def _out_of_range(values: Sequence[object], datatype: str, where: str) -> ConversionError:
    single = struct.Struct("<" + _FORMATS[datatype])
    for position, value in enumerate(values):
        try:
            single.pack(value)
        except (struct.error, OverflowError):
            return ConversionError(
                Reason.OUT_OF_RANGE,
                f"{where}[{position}]",
                f"{value!r:.40} is out of {datatype} range",
            )
    raise AssertionError("a value that struct refused is accepted alone")
