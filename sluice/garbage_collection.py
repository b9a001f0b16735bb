"""Turns Python's garbage collection off for functions that create many objects at once."""

import gc
from collections.abc import Callable
from typing import TypeVar

_Source = TypeVar("_Source")
_Result = TypeVar("_Result")


def without_collection(create: Callable[[_Source], _Result], source: _Source) -> _Result:
    """The result of `create(source)`, which runs without garbage collection.

    The collector would visit the objects many times while they are created, although none of them
    is garbage: those of a large document, or the classes of a large module. Other threads have no
    collection meanwhile, unless `create` holds the interpreter lock.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return create(source)
    finally:
        if enabled:
            gc.enable()
