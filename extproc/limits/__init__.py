"""Fleet-wide limits: arithmetic, storage, and the limiter that decisions ask."""

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from extproc.limits.broker import BrokerStore
from extproc.limits.headers import limit_headers
from extproc.limits.leases import Budgets, LeasedBudgets, LeaseSettings, LocalBudgets
from extproc.limits.ledger import Ledger
from extproc.limits.limiter import Limiter, LimitVerdict, RuleCounts
from extproc.limits.rules import RequestView
from sluice.config.limit_backend import LimitBackend

__all__ = [
    "Budgets",
    "LeasedBudgets",
    "LimitVerdict",
    "Limiter",
    "LocalBudgets",
    "RequestView",
    "RuleCounts",
    "limit_headers",
    "open_budgets",
    "steady_clock",
]


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch as of now, from here on immune to changes of the machine's clock."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset


def open_budgets(
    backend: LimitBackend, clock: Callable[[], float], broker: Path | None = None
) -> AbstractAsyncContextManager[LeasedBudgets] | AbstractAsyncContextManager[LocalBudgets]:
    """The configured backend, to be entered by the worker's event loop.

    `clock` is the one that `Limiter.check` is given the time of, in seconds since the epoch where
    fixed windows are to keep to the calendar; `broker` is the supervisor's socket, needed as soon
    as there is more than one worker. Raises ValueError where the backend cannot be used.
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
    # The client takes 4 MB, which workers without Redis need not have.
    from extproc.limits.redis import redis_store

    return LeasedBudgets(redis_store(backend), settings, clock)
