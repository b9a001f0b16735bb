"""Shapes of tensors, as a model server declares them."""

import math
from collections.abc import Sequence

MAX_OUTPUT_DIMENSIONS = 32
"""Length of an output's shape. numpy 1 has this limit too."""


def element_count(shape: Sequence[int]) -> int:
    """Number of elements of a tensor with this shape. The caller has bounded its length."""
    return math.prod(shape)


def fitting_shape(sizes: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """The sizes, with one -1 replaced by what is left; None if they do not fit `count` elements.

    A server may omit the shape of a flat array.
    """
    if not sizes:
        return (count,) if count != 1 else ()
    product, smallest = element_count(sizes), min(sizes)
    if smallest >= 0:
        return sizes if product == count else None
    if smallest == -1 and sizes.count(-1) == 1 and product < 0 and count % product == 0:
        return tuple([count // -product if size == -1 else size for size in sizes])
    return None
