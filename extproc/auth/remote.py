"""Key sets behind a `jwks_uri`: fetched regularly, and again when a token names an unknown key."""

import asyncio
import logging
import time
import urllib.request
from collections.abc import Awaitable, Callable
from http.client import HTTPException

from extproc.auth.authenticator import Authenticator
from extproc.auth.keys import KeySet
from sluice.config import JwtIssuer

log = logging.getLogger(__name__)

FETCH_TIMEOUT = 5.0
"""Seconds for one fetch, and twice that at the very most, however slowly it answers."""
MAX_DOCUMENT = 1 << 20
CHUNK = 1 << 16
REFRESH_WAIT = 1.0
"""Seconds that a request waits for its issuer's new keys: Envoy waits 2 s for the decision."""
MIN_INTERVAL = 10.0
"""Seconds between fetches of one issuer that tokens ask for: they cannot be made to hammer it."""
RETRY_INTERVAL = 5.0
"""Seconds until a fetch that failed is tried again."""

Fetch = Callable[[str], Awaitable[bytes]]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the config says: no redirect leads elsewhere, or away from https."""

    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


async def fetch_document(uri: str) -> bytes:
    """GET a document over http(s), off the event loop. Raises OSError, ValueError, HTTPException.

    A redirect is an error.
    """
    # The thread watches the time between reads of the body only: headers can trickle, too.
    return await asyncio.wait_for(asyncio.to_thread(_get, uri), 2 * FETCH_TIMEOUT)


def _get(uri: str) -> bytes:
    deadline = time.monotonic() + FETCH_TIMEOUT
    document = bytearray()
    with _OPENER.open(uri, timeout=FETCH_TIMEOUT) as answer:
        while piece := answer.read1(CHUNK):
            document += piece
            if len(document) > MAX_DOCUMENT:
                raise ValueError("the key set is larger than 1 MiB")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the key set took longer than {FETCH_TIMEOUT:.0f} s")
    return bytes(document)


class RemoteKeys:
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
