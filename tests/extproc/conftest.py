"""The event loop of tests that talk gRPC."""

from collections.abc import AsyncIterator

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps one loop for all tests that use this.

    grpcio polls on behalf of all event loops of a process, and hands late events to whichever runs:
    a loop for each test would meet events of loops that are closed.
    """
    yield  # noqa: PT022 (returning would give the loop back)
