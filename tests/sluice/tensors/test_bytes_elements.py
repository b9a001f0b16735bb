"""BYTES elements have a length before them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.tensors.datatypes import TruncatedError, bytes_spans, pack_bytes

ITEMS = st.lists(st.binary(max_size=20), max_size=8)


@given(items=ITEMS)
def test_the_spans_of_packed_elements_are_the_elements(items: list[bytes]) -> None:
    packed = pack_bytes(items)
    assert [packed[start:end] for start, end in bytes_spans(packed)] == items


def test_the_length_is_a_little_endian_integer_of_four_bytes() -> None:
    assert pack_bytes([b"ab", b""]) == b"\2\0\0\0ab\0\0\0\0"


@given(items=ITEMS, end=st.integers(0, 200))
def test_data_that_end_inside_an_element_are_refused(items: list[bytes], end: int) -> None:
    data = pack_bytes(items)[:end]
    beginnings = [pack_bytes(items[:count]) for count in range(len(items) + 1)]
    if data in beginnings:
        assert len(list(bytes_spans(data))) == beginnings.index(data)
    else:
        with pytest.raises(TruncatedError):
            list(bytes_spans(data))


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"\1\0\0", "the data end inside the length of an element"),
        (b"\5\0\0\0abc", "an element has a length of 5 bytes, but 3 bytes are left"),
    ],
)
def test_the_error_says_where_the_data_end(data: bytes, detail: str) -> None:
    with pytest.raises(TruncatedError, match=detail):
        list(bytes_spans(data))
