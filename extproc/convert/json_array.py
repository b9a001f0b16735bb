"""Writes long arrays as JSON in pieces.

orjson holds the interpreter lock until it has written a whole document, which takes a tenth of a
second for the data of a tensor.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from extproc.convert.elements import CHUNK
from sluice.tensors.elements import Array


def json_array(values: Array) -> bytes:
    """An array of numbers, or of objects for orjson, as JSON. NaN and infinity become null."""
    if values.ndim == 0:
        return _dumps(values[()])
    if values.ndim > 1 and values.size > CHUNK * len(values):
        return _joined([json_array(row) for row in values])
    step = _rows_of_a_piece(values)
    if len(values) <= step:
        return _dumps(values)
    # A memoryview, because a slice of the text would be a copy.
    starts = range(0, len(values), step)
    return _joined([memoryview(_dumps(values[i : i + step]))[1:-1] for i in starts])


def json_list(values: list[object]) -> bytes:
    """A parsed JSON array, which may be nested, as JSON. NaN and infinity become null.

    Raises TypeError for elements that orjson cannot write.
    """
    if values and isinstance(values[0], list) and _is_long(values, values[0]):
        return _joined([json_list(row) if isinstance(row, list) else _dumps(row) for row in values])
    starts = range(0, len(values), CHUNK)
    if len(starts) <= 1:
        return _dumps(values)
    return _joined([memoryview(_dumps(values[i : i + CHUNK]))[1:-1] for i in starts])


def _is_long(rows: list[object], first: list[object]) -> bool:
    """Whether the rows may have more elements than a piece, judged by the first one."""
    nested = bool(first) and isinstance(first[0], list)
    return nested or len(rows) * len(first) > CHUNK


def json_object(members: Mapping[str, Array]) -> bytes:
    """A JSON object with arrays."""
    texts = [b"%b:%b" % (_dumps(name), json_array(values)) for name, values in members.items()]
    return b"{%b}" % b",".join(texts)


def json_rows(columns: Mapping[str, Array]) -> bytes:
    """A JSON array with an object for each row of the columns, which have the same length."""
    members = [_dumps(name).replace(b"%", b"%%") + b":%b" for name in columns]
    row = b"{%b}" % b",".join(members)
    arrays = list(columns.values())
    step = min(map(_rows_of_a_piece, arrays))
    pieces = []
    for i in range(0, len(arrays[0]), step):
        texts = [_row_texts(values[i : i + step]) for values in arrays]
        pieces.append(b",".join([row % values for values in zip(*texts, strict=True)]))
    return _joined(pieces)


def _joined(pieces: Sequence[bytes | memoryview]) -> bytes:
    """A JSON array of pieces, each of which has one or more elements."""
    separated: list[bytes | memoryview] = [b","] * max(0, 2 * len(pieces) - 1)
    separated[::2] = pieces
    return b"".join([b"[", *separated, b"]"])


def _rows_of_a_piece(values: Array) -> int:
    row_size = values.size // max(1, len(values))
    return max(1, CHUNK // max(1, row_size))


def _row_texts(values: Array) -> list[bytes]:
    """The JSON text of each row."""
    if values.size > CHUNK:
        return [json_array(row) for row in values]
    if values.dtype == object or not values.size:
        return [_dumps(row) for row in values]
    # One text for all rows, split where a row ends, is faster than a text for each row.
    depth = values.ndim - 1
    begin, end = b"[" * depth, b"]" * depth
    text = _dumps(values)[1 + depth : -1 - depth]
    return [b"%b%b%b" % (begin, row, end) for row in text.split(end + b"," + begin)]


def _dumps(value: object) -> bytes:
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
