"""The interface of a store of budgets for several workers. Redis and the broker implement it."""

from collections.abc import Sequence
from typing import Protocol

from extproc.limits.arithmetic import LeaseGrant, LeaseRequest


class StoreError(Exception):
    """The store is unreachable or its response is invalid. The requests may have been executed."""


class Store(Protocol):
    """Each request is atomic. Requests for different keys are independent of each other."""

    async def exchange(self, requests: Sequence[LeaseRequest]) -> list[LeaseGrant]:
        """Return one grant for each request, in order. Raises StoreError."""

    async def close(self) -> None:
        """Close all connections."""
