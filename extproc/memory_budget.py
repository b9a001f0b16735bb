"""The memory that request and response data may take in one worker.

Everything that holds such data reserves its size first, and releases it when it drops the data: the
transport for messages, body checks for incomplete messages, and conversions for their results.
"""

from typing import Final

DEFAULT_LIMIT: Final = 256 << 20

RETRY_AFTER: Final = 1
"""`Retry-After` of a request that is refused because the budget is used up, in seconds. The memory
is free as soon as other requests end."""


class MemoryBudget:
    """A number of bytes, shared by all requests of one event loop. It is not thread-safe."""

    __slots__ = ("_whole", "limit", "refused", "used")

    def __init__(self, limit: int, whole: "MemoryBudget | None" = None) -> None:
        """A budget of its own, or a part of `whole`: what it reserves is reserved there too."""
        self.limit = limit
        self.used = 0
        """Bytes that are reserved now."""
        self.refused = 0
        """Reservations that were refused."""
        self._whole = whole

    @property
    def free(self) -> int:
        """Bytes that can be reserved."""
        free = self.limit - self.used
        return free if self._whole is None else min(free, self._whole.free)

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes; False if they exceed the limit. Then nothing is reserved."""
        if self.used + size > self.limit:
            self._count_refusal()
            return False
        if self._whole is not None and not self._whole.reserve(size):
            self.refused += 1
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Release bytes that were reserved."""
        self.used -= size
        if self._whole is not None:
            self._whole.release(size)

    def _count_refusal(self) -> None:
        self.refused += 1
        if self._whole is not None:
            self._whole._count_refusal()
