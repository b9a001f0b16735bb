"""Takes the items of several iterators in turn."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def in_turn(iterators: Iterable[Iterator[T]]) -> Iterator[T]:
    """The items of all iterators: one of each, again and again."""
    waiting = list(iterators)
    while waiting:
        for each in list(waiting):
            try:
                yield next(each)
            except StopIteration:
                waiting.remove(each)
