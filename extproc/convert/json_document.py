"""Parses JSON bodies within a memory limit, and checks the JSON types of their members."""

import codecs
from collections.abc import Mapping
from typing import NoReturn

import orjson

from extproc.convert.errors import ConversionError
from extproc.convert.limits import ConversionLimits
from sluice.contract.reasons import Reason
from sluice.garbage_collection import without_collection

_PIECE = 1 << 16
"""Bytes that are counted at once, so that they stay in the cache."""

_MIN_COUNTED = 16 << 10
_LARGEST = 206
"""Up to a size in bytes, the estimate is the size times the largest factor, because counting would
take longer than it is worth."""

_MAX_NAME = 120
"""Characters of a member's name that appear in an error."""


_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"\0{", b"\0\0")
"""How a JSON object in UTF-16 or UTF-32 begins."""


def without_bom(body: bytes) -> bytes:
    """The body without a byte order mark at its start, which a reader may ignore (RFC 8259)."""
    return body.removeprefix(codecs.BOM_UTF8)


def parse_object(body: bytes) -> dict[str, object]:
    """Parse a body that must be a JSON object. Raises ConversionError (400).

    A byte order mark is ignored. Does not bound the memory: the caller must have called
    `checked_size`.
    """
    body = without_bom(body)
    if not body:
        raise ConversionError(Reason.EMPTY_BODY, "body", "must not be empty")
    try:
        document = without_collection(orjson.loads, body)
    except orjson.JSONDecodeError as error:
        _raise_not_json(body, error)
    if not isinstance(document, dict):
        raise ConversionError(Reason.NOT_AN_OBJECT, "body", "must be a JSON object")
    return document


def may_contain_base64(body: bytes) -> bool:
    """Whether a JSON text can have a member `b64`. Its name may be written with escapes."""
    return b"b64" in body or b"\\u" in body


def as_object(value: object, field: str) -> dict[str, object]:
    """The value, which must be an object. Raises ConversionError (400)."""
    if not isinstance(value, dict):
        raise ConversionError(Reason.WRONG_TYPE, field, "must be an object")
    return value


def as_array(value: object, field: str) -> list[object]:
    """The value, which must be an array. Raises ConversionError (400)."""
    if not isinstance(value, list):
        raise ConversionError(Reason.WRONG_TYPE, field, "must be an array")
    return value


def as_string(value: object, field: str) -> str:
    """The value, which must be a string. Raises ConversionError (400)."""
    if not isinstance(value, str):
        raise ConversionError(Reason.WRONG_TYPE, field, "must be a string")
    return value


def as_name(value: object, field: str) -> str:
    """The value, which must be a string and not empty. Raises ConversionError (400)."""
    if not isinstance(value, str) or not value:
        raise ConversionError(Reason.WRONG_TYPE, field, "must be a string and not empty")
    return value


def refuse_unknown_members(
    members: Mapping[str, object], known: frozenset[str], prefix: str
) -> None:
    """Raises ConversionError (422) for a member that is not in `known`."""
    for name in members:
        if name not in known:
            raise ConversionError(
                Reason.UNKNOWN_MEMBER,
                prefix + member_field(name),
                f"unknown member; known are {', '.join(sorted(known))}",
            )


def member_field(name: str) -> str:
    """A member's name as the place of an error: shortened, and never empty."""
    return name[:_MAX_NAME] or '""'


def _raise_not_json(body: bytes, error: orjson.JSONDecodeError) -> NoReturn:
    detail = f"must be JSON: {error.msg} at byte {error.pos}"
    if body.startswith(_OTHER_ENCODINGS):
        detail = "must be JSON in UTF-8, not in UTF-16 or UTF-32"
    if body[error.pos : error.pos + 9].lstrip(b"-").startswith((b"NaN", b"Inf")):
        detail = f"JSON has no NaN and no infinity (byte {error.pos}): send them as binary data"
    raise ConversionError(Reason.NOT_JSON, "body", detail) from None


def checked_size(body: bytes, limits: ConversionLimits) -> int:
    """Upper bound of the memory of the document in bytes, during parsing and reading.

    Must be called before `parse_object`. Raises ConversionError (413) above the limit.
    """
    size = _parsed_size(body)
    if size > limits.max_json_memory:
        raise ConversionError(
            Reason.JSON_TOO_LARGE,
            "body",
            f"the parsed document would take more than {limits.max_json_memory} bytes",
        )
    return size


def _parsed_size(body: bytes) -> int:
    """Each array, object, member, string and number has at least one of the counted characters.

    Members count more than they take, because the parser needs more time for them.
    """
    if len(body) <= _MIN_COUNTED:
        return _LARGEST * len(body)
    import numpy as np

    # One character above U+FFFF makes all characters of its string four bytes long.
    wide = not body.isascii() or b"\\u" in body
    size = (6 if wide else 3) * len(body)
    for start in range(0, len(body), _PIECE):
        text = np.frombuffer(body, np.uint8, min(_PIECE, len(body) - start), start)
        size += 108 * int(np.count_nonzero(text == ord("[")))
        size += 200 * int(np.count_nonzero(text == ord("{")))
        size += 230 * int(np.count_nonzero(text == ord(":")))
        size += 26 * int(np.count_nonzero(text == ord('"')))
        size += 57 * int(np.count_nonzero(text == ord(",")))
    return size
