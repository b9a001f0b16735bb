"""The event loop for tests that use grpcio."""

from collections.abc import AsyncIterator

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all tests that use this fixture.

    grpcio polls for all event loops of a process, and passes late events to the loop that is
    running. With one loop for each test, it would pass events of closed loops.
    """
    yield  # noqa: PT022 (`return` would end the loop)
