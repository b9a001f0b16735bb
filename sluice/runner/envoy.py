"""Checks the health of the callout workers in a local Envoy, through its admin interface."""

import asyncio
from urllib.parse import urlencode

from sluice.config.addresses import reachable
from sluice.contract.names import CALLOUT_CLUSTER
from sluice.http.client import NoAnswerError, fetch

POLL_INTERVAL = 0.05
TIMEOUT = 2.0

MAX_ANSWER = 256 << 20
"""Bytes. One endpoint takes about two kilobytes."""

_PATH = "/clusters?" + urlencode({"filter": f"^{CALLOUT_CLUSTER}$"})
"""An Envoy that does not know the filter answers with all clusters."""


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
