"""Fetches key sets from a `jwks_uri`: at intervals, and when a token names an unknown key."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPException

from extproc.auth.authenticator import Authenticator
from sluice.config import JwtIssuer
from sluice.keys.fetch import fetch_document
from sluice.keys.key_set import KeySet

log = logging.getLogger(__name__)

REFRESH_WAIT = 1.0
"""Seconds that a request waits for new keys. Envoy waits 2 s for the decision by default."""
MIN_INTERVAL = 10.0
"""Minimum seconds between fetches for unknown keys, so that clients cannot overload an issuer."""
RETRY_INTERVAL = 5.0
"""Seconds until a failed fetch is tried again."""

Fetch = Callable[[str], Awaitable[bytes]]


class RemoteKeySets:
    """Updates the fetched key sets of an authenticator.

    After a failed fetch, the last key set stays in use.
    """

    def __init__(self, authenticator: Authenticator, fetch: Fetch = fetch_document) -> None:
        self._authenticator = authenticator
        self._fetch = fetch
        self._documents: dict[str, bytes] = {}
        self._requested: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._issuers = {i.issuer: i for i in authenticator.auth.issuers if i.jwks_uri is not None}
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Fetch the key set of each issuer now, and then at the issuer's interval."""
        self._loops = [asyncio.create_task(self._follow(i)) for i in self._issuers.values()]

    def stop(self) -> None:
        """Stop all fetches."""
        for task in (*self._loops, *self._running.values()):
            task.cancel()

    def may_refresh(self, issuer: str) -> bool:
        """Whether the issuer's key set can be fetched now for an unknown key."""
        requested = self._requested.get(issuer)
        recent = requested is not None and time.monotonic() - requested < MIN_INTERVAL
        return issuer in self._issuers and (issuer in self._running or not recent)

    async def refresh(self, issuer: str) -> None:
        """Fetch an issuer's key set. Waits at most `REFRESH_WAIT` seconds for the result.

        Concurrent callers share one fetch. A fetch that takes longer continues in the background.
        """
        task = self._running.get(issuer)
        if task is None:
            self._requested[issuer] = time.monotonic()
            task = asyncio.create_task(self._update(self._issuers[issuer]))
            self._running[issuer] = task
            task.add_done_callback(lambda _: self._running.pop(issuer, None))
        await asyncio.wait((task,), timeout=REFRESH_WAIT)

    async def _follow(self, issuer: JwtIssuer) -> None:
        while True:
            updated = await self._update(issuer)
            await asyncio.sleep(issuer.jwks_refresh if updated else RETRY_INTERVAL)

    async def _update(self, issuer: JwtIssuer) -> bool:
        """Fetch the issuer's key set and put it in use. Returns whether this succeeded."""
        assert issuer.jwks_uri is not None
        try:
            document = await self._fetch(issuer.jwks_uri)
            if document != self._documents.get(issuer.issuer):
                self._authenticator.replace_keys(issuer.issuer, KeySet.parse(document))
                self._documents[issuer.issuer] = document
        except (OSError, ValueError, HTTPException) as error:
            log.warning("cannot fetch the key set of %s: %s", issuer.issuer, error)
            return False
        return True
