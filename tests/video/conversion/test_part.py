"""A region means the same part of the upright frame in every orientation."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from sluice.config.video import Region
from sluice.images.geometry import apply_orientation
from video.conversion.part import even_part, region_part

SIDES = st.integers(1, 300)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    left, top = draw(st.floats(0, 0.999)), draw(st.floats(0, 0.999))
    width = draw(st.floats(1e-9, 1 - left))
    height = draw(st.floats(1e-9, 1 - top))
    return Region(left=left, top=top, width=width, height=height)


@given(region=regions(), width=SIDES, height=SIDES, orientation=st.integers(1, 8))
def test_a_part_has_even_edges_and_contains_the_region(
    region: Region, width: int, height: int, orientation: int
) -> None:
    left, top, right, bottom = region_part(region, width, height, orientation)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left % 2 == top % 2 == 0
    assert right % 2 == 0 or right == width
    assert bottom % 2 == 0 or bottom == height


@given(region=regions(), width=SIDES, height=SIDES, orientation=st.integers(1, 8))
def test_a_part_is_the_region_of_the_upright_frame(
    region: Region, width: int, height: int, orientation: int
) -> None:
    left, top, right, bottom = region_part(region, width, height, orientation)
    marked = np.zeros((height, width, 1), np.uint8)
    marked[top:bottom, left:right] = 1
    upright = apply_orientation(marked, orientation)[..., 0]
    rows, columns = upright.nonzero()
    size = upright.shape
    # Even edges move an edge by less than two pixels, and whole pixels by less than one.
    assert abs(columns.min() - region.left * size[1]) < 3
    assert abs(columns.max() + 1 - (region.left + region.width) * size[1]) < 3
    assert abs(rows.min() - region.top * size[0]) < 3
    assert abs(rows.max() + 1 - (region.top + region.height) * size[0]) < 3


@given(width=SIDES, height=SIDES, orientation=st.integers(1, 8))
def test_the_whole_region_is_the_whole_frame(width: int, height: int, orientation: int) -> None:
    assert region_part(Region(), width, height, orientation) == (0, 0, width, height)


@example(first=32, length=224, rest=128)
@given(first=st.integers(0, 300), length=st.integers(1, 300), rest=st.integers(0, 300))
def test_rounding_of_shares_adds_no_pixels(first: int, length: int, rest: int) -> None:
    size = 2 * (first + length + rest)
    region = Region(left=2 * first / size, width=2 * length / size)
    assert region_part(region, size, 10, 1) == (2 * first, 0, 2 * (first + length), 10)


def test_the_smallest_even_part_contains_a_box() -> None:
    assert even_part((3.2, 2.0, 9.0, 7.1), 20, 7) == (2, 2, 10, 7)
