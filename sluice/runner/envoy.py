"""Checks the health of the callout workers in a local Envoy, through its admin interface."""

import asyncio
import urllib.request

from sluice.contract.names import CALLOUT_CLUSTER
from sluice.http.client import open_url

POLL_INTERVAL = 0.05
TIMEOUT = 2.0


async def wait_for_callout(admin: str, workers: int) -> None:
    """Wait until Envoy has found all callout workers healthy. Before that, it refuses requests."""
    while await asyncio.to_thread(healthy_workers, admin) < workers:  # noqa: ASYNC110 (polled)
        await asyncio.sleep(POLL_INTERVAL)


def healthy_workers(admin: str) -> int:
    """The number of callout workers that Envoy has found healthy."""
    try:
        request = urllib.request.Request(f"http://{admin}/clusters")
        with open_url(request, TIMEOUT) as response:
            lines = response.read().decode().splitlines()
    except OSError:
        return 0
    return sum(
        line.startswith(f"{CALLOUT_CLUSTER}::") and line.endswith("::health_flags::healthy")
        for line in lines
    )
