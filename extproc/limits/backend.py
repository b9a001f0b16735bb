"""Opens the budgets of the configured backend."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from extproc.limits.broker import BrokerStore
from extproc.limits.budgets import LocalBudgets
from extproc.limits.leases import LeasedBudgets, LeaseSettings
from extproc.limits.ledger import Ledger
from sluice.config.limit_backend import LimitBackend


def steady_clock() -> Callable[[], float]:
    """Return a clock of seconds since the epoch that ignores later changes of the system clock."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


def open_budgets(
    backend: LimitBackend, clock: Callable[[], float], broker: Path | None = None
) -> AbstractAsyncContextManager[LeasedBudgets] | AbstractAsyncContextManager[LocalBudgets]:
    """Return the budgets of a backend. Enter them on the worker's event loop.

    The times passed to `Limiter.check` must be from the same `clock`. It counts seconds since the
    epoch, because fixed windows follow the calendar. `broker` is the supervisor's socket; None if
    there is only one worker. Raises ValueError if the backend cannot be used.
    """
    if backend.kind == "memory" and broker is None:
        return nullcontext(LocalBudgets(Ledger(backend.max_keys)))
    settings = LeaseSettings(
        ahead=backend.leases.ahead,
        interval=backend.leases.interval,
        lifetime=backend.leases.lifetime,
        timeout=backend.timeout,
        fail_open=backend.fail == "open",
        fail_open_share=backend.fail_open_share,
        max_keys=backend.max_keys,
    )
    if broker is not None and backend.kind == "memory":
        return LeasedBudgets(BrokerStore(broker, backend.max_keys), settings, clock)
    # Imported only if Redis is configured, because the client takes memory in every worker.
    from extproc.limits.redis import redis_store

    return LeasedBudgets(redis_store(backend), settings, clock)
