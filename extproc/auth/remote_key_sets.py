"""Key sets behind a `jwks_uri`: fetched regularly, and again when a token names an unknown key."""

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
"""Seconds that a request waits for its issuer's new keys: Envoy waits 2 s for the decision."""
MIN_INTERVAL = 10.0
"""Seconds between fetches of one issuer that tokens ask for: they cannot be made to hammer it."""
RETRY_INTERVAL = 5.0
"""Seconds until a fetch that failed is tried again."""

Fetch = Callable[[str], Awaitable[bytes]]


class RemoteKeySets:
    """Keeps an authenticator's fetched key sets fresh; the last good set stays on a failure."""

    def __init__(self, authenticator: Authenticator, fetch: Fetch = fetch_document) -> None:
        self._authenticator = authenticator
        self._fetch = fetch
        self._documents: dict[str, bytes] = {}
        self._asked: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._issuers = {i.issuer: i for i in authenticator.auth.issuers if i.jwks_uri is not None}
        self._loops: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to fetch, each issuer at its own interval."""
        self._loops = [asyncio.create_task(self._follow(i)) for i in self._issuers.values()]

    def stop(self) -> None:
        """Fetch no more."""
        for task in (*self._loops, *self._running.values()):
            task.cancel()

    def may_refresh(self, issuer: str) -> bool:
        """Whether an unknown key of this issuer is worth a fetch now."""
        asked = self._asked.get(issuer)
        recent = asked is not None and time.monotonic() - asked < MIN_INTERVAL
        return issuer in self._issuers and (issuer in self._running or not recent)

    async def refresh(self, issuer: str) -> None:
        """Fetch an issuer's keys now; those who ask at the same time share one fetch.

        It goes on where it takes longer than a request can wait: the next one has its result.
        """
        task = self._running.get(issuer)
        if task is None:
            self._asked[issuer] = time.monotonic()
            task = asyncio.create_task(self._load(self._issuers[issuer]))
            self._running[issuer] = task
            task.add_done_callback(lambda _: self._running.pop(issuer, None))
        await asyncio.wait((task,), timeout=REFRESH_WAIT)

    async def _follow(self, issuer: JwtIssuer) -> None:
        while True:
            loaded = await self._load(issuer)
            await asyncio.sleep(issuer.jwks_refresh if loaded else RETRY_INTERVAL)

    async def _load(self, issuer: JwtIssuer) -> bool:
        assert issuer.jwks_uri is not None
        try:
            document = await self._fetch(issuer.jwks_uri)
            if document != self._documents.get(issuer.issuer):
                self._authenticator.replace_keys(issuer.issuer, KeySet.parse(document))
                self._documents[issuer.issuer] = document
        except (OSError, ValueError, HTTPException) as error:
            log.warning("keys of %s: %s", issuer.issuer, error)
            return False
        return True
