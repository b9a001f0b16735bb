"""The event loop for tests that use grpcio."""

from tests.extproc.conftest import anyio_backend, one_event_loop

__all__ = ["anyio_backend", "one_event_loop"]
