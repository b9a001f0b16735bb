"""Where budgets are kept for several workers: the interface that Redis and the broker implement."""

from collections.abc import Sequence
from typing import Protocol

from extproc.limits.arithmetic import LeaseGrant, LeaseRequest


class StoreError(Exception):
    """The store cannot be reached, or answered nonsense. Nothing is known of what it has done."""


class Store(Protocol):
    """Atomic for each ask; requests for different keys are independent of each other."""

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """One grant for each ask, in order. Raises StoreError."""

    async def close(self) -> None:
        """Give up connections."""
