"""Numbers of raw data, and their rounding to BF16."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.tensors.elements import array, to_bf16


@given(st.floats(width=32, allow_nan=False).filter(lambda value: abs(value) < 1e38))
def test_bf16_is_rounded_to_nearest_with_ties_to_even(value: float) -> None:
    (bits,) = to_bf16(np.array([value], np.float32)).tolist()

    def number(pattern: int) -> float:
        return float(struct.unpack("<f", struct.pack("<I", (pattern & 0xFFFF) << 16))[0])

    distance = abs(number(bits) - value)
    for neighbor in (bits - 1, bits + 1):
        other = number(neighbor)
        if math.isfinite(other) and math.copysign(1, other) == math.copysign(1, number(bits)):
            assert distance < abs(other - value) or (
                distance == abs(other - value) and bits % 2 == 0
            )


def test_bf16_becomes_fp32() -> None:
    assert array(to_bf16(np.array([0.5, -3.0], np.float32)).tobytes(), "BF16").tolist() == [0.5, -3]


def test_any_byte_but_0_is_true() -> None:
    assert array(b"\0\1\xff", "BOOL").tolist() == [False, True, True]


def test_elements_at_an_odd_address_are_aligned() -> None:
    raw = b"\0" + struct.pack("<2f", 1.5, 2.5)
    values = array(memoryview(raw)[1:], "FP32")
    assert values.flags.aligned
    assert values.tolist() == [1.5, 2.5]


def test_an_incomplete_element_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of element size"):
        array(b"\0\0\0", "FP32")
