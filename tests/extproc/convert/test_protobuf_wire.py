"""A protobuf message with too many fields is refused before it is parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.convert import ConversionError, ConversionLimits, Signature
from extproc.convert.protobuf_wire import WireError, has_more_fields
from protos.inference_pb2 import ModelInferRequest
from tests.extproc.convert.payloads import sent, to_grpc

LIMITS = ConversionLimits()
NESTED = {4: {2: {}}, 5: {4: {2: {}}, 5: {}}, 6: {2: {2: {}}}}
"""Nested messages of a ModelInferRequest, including those that conversion does not count."""

Counted = tuple[bytes, int]
"""A serialized field, and the number of fields in it, including itself."""


def varint(value: int, padding: int = 0) -> bytes:
    """A varint of at least `padding` + 1 bytes, which parsers accept."""
    pieces = []
    while value > 0x7F or padding > len(pieces):
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*pieces, value])


def delimited(number: int, content: bytes, padding: int = 0) -> bytes:
    return varint(number << 3 | 2, padding) + varint(len(content), padding) + content


def message(number: int, *fields: st.SearchStrategy[Counted]) -> st.SearchStrategy[Counted]:
    """A nested message with up to four of the given fields."""
    return st.builds(
        lambda inner, padding: (
            delimited(number, b"".join(one for one, _ in inner), padding),
            1 + sum(count for _, count in inner),
        ),
        st.lists(st.one_of(fields), max_size=4),
        st.integers(0, 3),
    )


def texts(number: int) -> st.SearchStrategy[Counted]:
    return st.text(max_size=200).map(lambda text: (delimited(number, text.encode()), 1))


def numbers(number: int) -> st.SearchStrategy[Counted]:
    return st.integers(0, 1 << 63).map(lambda n: (varint(number << 3) + varint(n), 1))


UNKNOWN = st.sampled_from(
    [(varint(99 << 3 | 5) + bytes(4), 1), (varint(99 << 3 | 1) + bytes(8), 1),
     (varint(99 << 3) + b"\x01", 1), (delimited(99, delimited(5, b"")), 1)]
)  # fmt: skip
VALUE = message(2, texts(3), numbers(2), UNKNOWN)
CONTENTS = message(5, texts(8), numbers(3), st.just((delimited(2, b"\1\2\3"), 1)), UNKNOWN)
INPUT = message(5, texts(1), texts(2), numbers(3), message(4, texts(1), VALUE), CONTENTS, UNKNOWN)
OUTPUT = message(6, texts(1), message(2, texts(1), VALUE), UNKNOWN)
FIELDS = st.lists(
    st.one_of(texts(1), INPUT, OUTPUT, message(4, texts(1), VALUE), texts(7), UNKNOWN), max_size=6
)


@given(fields=FIELDS)
def test_every_field_of_a_parseable_message_is_counted(fields: list[Counted]) -> None:
    body, count = b"".join(one for one, _ in fields), sum(count for _, count in fields)
    ModelInferRequest.FromString(body)
    assert not has_more_fields(body, NESTED, count)
    assert count == 0 or has_more_fields(body, NESTED, count - 1)


def highest_counted_limit(body: bytes) -> int:
    """The highest limit at which the fields are counted. Above, the length of the body suffices."""
    return (len(body) - 1) // 2


@given(fields=FIELDS, cut=st.integers(1, 9))
def test_a_truncated_message_is_refused(fields: list[Counted], cut: int) -> None:
    body = b"".join(one for one, _ in fields) + delimited(5, bytes([2 << 3 | 2, 6]) + b"abcdef")
    body = body[:-cut]
    with pytest.raises(WireError):
        has_more_fields(body, NESTED, highest_counted_limit(body))


@pytest.mark.parametrize(
    "body",
    [b"\x0b\x0c", b"\x80" * 11 + b"\x01", b"\x0a", b"\x0a" + b"\xff" * 9 + b"\x01", b"\x0d\0\0\0",
     b"\x09" + bytes(7), b"\x2a\x02\x0a\x05" + bytes(5)],
    ids=["group", "tag too long", "no length", "length too large", "truncated 32 bits",
         "truncated 64 bits", "field exceeds its message"],
)  # fmt: skip
def test_bytes_that_are_not_a_message_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        has_more_fields(body, NESTED, highest_counted_limit(body))


def filled(piece: bytes) -> bytes:
    """A body of the maximum size, with a truncated field at its end."""
    return piece * (LIMITS.max_body // len(piece) - 1) + b"\x0a"


@pytest.mark.parametrize("number", [1, 4, 5, 6, 7, 11, 99])
@pytest.mark.parametrize("named", ["", "; messageType=TensorRequest"])
def test_millions_of_empty_fields_are_refused_before_parsing(number: int, named: str) -> None:
    body = filled(delimited(number, b""))
    refuse(body, "application/x-protobuf" + named)


@pytest.mark.parametrize("path", [(5, 3), (5, 4), (5, 4, 2, 3), (6, 2), (4, 2, 99)])
def test_fields_of_nested_messages_are_counted(path: tuple[int, ...]) -> None:
    *outer, last = path
    body = delimited(last, b"") * (2 * LIMITS.max_fields)
    for number in reversed(outer):
        body = delimited(number, body)
    refuse(body + b"\x0a", "application/x-protobuf")


def refuse(body: bytes, media: str) -> None:
    """The body is refused for its number of fields, although its end is not valid."""
    with pytest.raises(ConversionError) as caught:
        to_grpc(Signature("m"), media, body)
    assert (caught.value.status, caught.value.reason) == (413, "too_many_fields")


def test_bytes_elements_of_all_inputs_are_counted_together() -> None:
    request = ModelInferRequest()
    for name in ("a", "b"):
        words = request.inputs.add(name=name, datatype="BYTES", shape=[LIMITS.max_fields // 2 - 8])
        words.contents.bytes_contents.extend([b""] * (LIMITS.max_fields // 2 - 8))
    media = "application/x-protobuf"
    assert len(sent(to_grpc(Signature("m"), media, request.SerializeToString())).inputs) == 2
    request.inputs[1].contents.bytes_contents.extend([b""] * 8)
    with pytest.raises(ConversionError) as caught:
        to_grpc(Signature("m"), media, request.SerializeToString())
    assert (caught.value.status, caught.value.reason) == (413, "too_many_fields")


def test_a_table_with_ten_thousand_columns_and_a_long_text_are_accepted() -> None:
    request = ModelInferRequest()
    for i in range(10_000):
        column = request.inputs.add(name=f"column-{i}", datatype="FP64", shape=[8])
        column.parameters["content_type"].string_param = "np"
        column.contents.fp64_contents.extend([0.5] * 8)
    words = request.inputs.add(name="words", datatype="BYTES", shape=[100_000])
    words.contents.bytes_contents.extend([b"word"] * 100_000)
    body = request.SerializeToString()
    assert len(body) > 2 * LIMITS.max_fields
    assert len(sent(to_grpc(Signature("m"), "application/x-protobuf", body)).inputs) == 10_001
