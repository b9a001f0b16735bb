"""Drains a local Envoy, so that it can end without ending a request.

Envoy's admin interface takes each of the two requests for it only while a file exists in a private
folder: other users, web pages and other machines may reach the interface.
"""

import asyncio
import logging
from pathlib import Path

from sluice.bootstrap import FAIL_READINESS, STOP_LISTENING, drain_file
from sluice.config.addresses import reachable
from sluice.config.gateway import Drain
from sluice.http.client import NoAnswerError, request
from sluice.runner.envoy import POLL_INTERVAL, TIMEOUT, open_requests

log = logging.getLogger(__name__)

_MAX_ANSWER = 1 << 16
"""Bytes of an answer to a request that drains Envoy."""


async def drain(admin: str, folder: Path, settings: Drain) -> None:
    """Return when Envoy can end: when it has no open request, or after the timeout.

    `folder`: that of the bootstrap (`plan.envoy`).

    From the beginning, its readiness fails. It closes each connection after the next response
    (`connection: close`, GOAWAY). At the end, it takes no new connections.
    """
    try:
        async with asyncio.timeout(settings.timeout):
            await _tell(admin, folder, FAIL_READINESS)
            await asyncio.sleep(settings.minimum)
            await _wait_for_requests(admin)
            # Otherwise Envoy could accept a connection just before it ends.
            await _tell(admin, folder, STOP_LISTENING)
            await _wait_for_requests(admin)
    except TimeoutError:
        log.warning(
            "Envoy has not become idle in %g s (envoy.drain.timeout): open requests are ended",
            settings.timeout,
        )


async def drain_if_busy(admin: str, folder: Path, settings: Drain) -> None:
    """Drain an Envoy if it has open requests now, without a minimum time."""
    # An Envoy that does not answer has no request that could end.
    if await asyncio.to_thread(_has_requests, admin, if_silent=False):
        await drain(admin, folder, settings.model_copy(update={"minimum": 0.0}))


async def _tell(admin: str, folder: Path, path: str) -> None:
    """Repeat a request to the admin interface until it succeeds: Envoy may be starting."""
    _allow(drain_file(folder, path))
    while not await asyncio.to_thread(_succeeds, admin, path):  # noqa: ASYNC110 (polled)
        await asyncio.sleep(POLL_INTERVAL)


def _allow(file: Path) -> None:
    file.touch(mode=0o600)


def _succeeds(admin: str, path: str) -> bool:
    url = f"http://{reachable(admin)}{path}"
    try:
        return request(url, TIMEOUT, _MAX_ANSWER, method="POST").is_success
    except NoAnswerError:
        return False


async def _wait_for_requests(admin: str) -> None:
    # An Envoy that does not answer may have requests.
    while await asyncio.to_thread(_has_requests, admin, if_silent=True):  # noqa: ASYNC110 (polled)
        await asyncio.sleep(POLL_INTERVAL)


def _has_requests(admin: str, *, if_silent: bool) -> bool:
    """Whether requests are open. `if_silent`: the answer for an Envoy that does not answer."""
    try:
        return open_requests(admin) > 0
    except NoAnswerError:
        return if_silent
