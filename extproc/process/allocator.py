"""Settings of glibc's allocator for the workers. Other C libraries ignore them.

By default, glibc returns the memory of each tensor to the kernel. The next tensor then takes
hundreds of page faults, which cost more than its conversion. The settings must be in the
environment before a process starts.
"""

import ctypes
from collections.abc import MutableMapping
from typing import Final

MIB: Final = 1 << 20

SETTINGS: Final = {
    # The kernel gets larger blocks back at once. This is the maximum, which glibc's own threshold
    # reaches with the blocks that a process frees. Parsed JSON can be as large.
    "MALLOC_MMAP_THRESHOLD_": str(32 * MIB),
    # Free memory that the heap keeps at its end. glibc's own threshold reaches 64 MiB for a heap.
    "MALLOC_TRIM_THRESHOLD_": str(32 * MIB),
    # One heap for all threads. Otherwise each thread would keep free memory of its own.
    "MALLOC_ARENA_MAX": "1",
}
"""Environment variables (mallopt(3))."""


def release_freed_memory() -> None:
    """Return freed memory to the kernel.

    The messages of a large policy would stay resident, although the next policy is far away.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep_freed_memory(environment: MutableMapping[str, str]) -> None:
    """Add the settings to an environment, unless the operator has set them."""
    if "GLIBC_TUNABLES" not in environment:
        for name, value in SETTINGS.items():
            environment.setdefault(name, value)
