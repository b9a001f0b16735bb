"""What a local Envoy says of itself through its admin interface."""

import asyncio
import re
from urllib.parse import urlencode

from sluice.config.addresses import reachable
from sluice.contract.names import CALLOUT_CLUSTER, LISTENER
from sluice.http.client import NoAnswerError, fetch

POLL_INTERVAL = 0.05
TIMEOUT = 2.0

MAX_ANSWER = 256 << 20
"""Bytes. One endpoint takes about two kilobytes."""

_PATH = "/clusters?" + urlencode({"filter": f"^{CALLOUT_CLUSTER}$"})
"""An Envoy that does not know the filter answers with all clusters."""


_REQUESTS = f"http.{LISTENER}.downstream_rq_active"
_REQUESTS_PATH = "/stats?" + urlencode({"filter": f"^{re.escape(_REQUESTS)}$"})


async def wait_for_callout(admin: str, workers: int) -> None:
    """Wait until Envoy has found all callout workers healthy. Before that, it refuses requests."""
    while await asyncio.to_thread(healthy_workers, admin) < workers:  # noqa: ASYNC110 (polled)
        await asyncio.sleep(POLL_INTERVAL)


def healthy_workers(admin: str) -> int:
    """The number of callout workers that Envoy has found healthy."""
    try:
        answer = fetch(f"http://{reachable(admin)}{_PATH}", TIMEOUT, MAX_ANSWER)
    except NoAnswerError:
        return 0
    lines = answer.decode(errors="replace").splitlines()
    return sum(
        line.startswith(f"{CALLOUT_CLUSTER}::") and line.endswith("::health_flags::healthy")
        for line in lines
    )


def open_requests(admin: str) -> int:
    """The number of open requests of clients. Raises NoAnswerError."""
    answer = fetch(f"http://{reachable(admin)}{_REQUESTS_PATH}", TIMEOUT, MAX_ANSWER)
    # Without a listener, Envoy does not have the statistic.
    _, _, number = answer.decode(errors="replace").strip().partition(": ")
    return int(number) if number.isdecimal() else 0
