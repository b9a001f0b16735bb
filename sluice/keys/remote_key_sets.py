"""Fetches key sets from a `jwks_uri`: at intervals, and when a token names an unknown key.

A fetched key set replaces the last one at once, also with fewer keys or none: this revokes keys.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from sluice.keys.fetch import FetchCause, FetchError, fetch_document
from sluice.keys.key_set import KeySet, KeySetError

log = logging.getLogger(__name__)

REFRESH_WAIT = 1.0
"""Seconds that a request waits for new keys. Envoy waits 2 s for the decision by default."""
MIN_INTERVAL = 10.0
"""Minimum seconds between fetches for unknown keys, so that clients cannot overload an issuer."""
RETRY_INTERVAL = 5.0
"""Seconds until a failed fetch is tried again."""

Fetch = Callable[[str], Awaitable[bytes]]


class RemoteIssuer(Protocol):
    """An issuer whose key set is fetched: a `JwtIssuer` of the config."""

    @property
    def issuer(self) -> str:
        """The value of `iss`."""

    @property
    def jwks_uri(self) -> str | None:
        """The URL of the key set."""

    @property
    def jwks_refresh(self) -> float:
        """Seconds between two fetches."""

    @property
    def jwks_max_stale(self) -> float:
        """Seconds without a successful fetch after which a key set is no longer used."""


class KeySetStore(Protocol):
    """Holds the fetched key sets of issuers. `now`: monotonic seconds."""

    @property
    def remote_issuers(self) -> Iterable[RemoteIssuer]:
        """The issuers with a `jwks_uri`."""

    def fetched_at(self, issuer: str) -> float | None:
        """When the last successful fetch was started; None before the first one."""

    def replace_keys(self, issuer: str, keys: KeySet, now: float) -> None:
        """Use this key set, whose fetch was started at `now`."""

    def confirm_keys(self, issuer: str, now: float) -> None:
        """A fetch started at `now` has returned the key set that is in use."""

    def record_failure(self, issuer: str, cause: str) -> None:
        """The latest fetch has failed."""

    def expire_keys(self, issuer: str) -> bool:
        """Use the key set no longer. Returns whether it was in use."""


class RemoteKeySets:
    """Updates the fetched key sets of a store: that of a worker's authenticator, for example.

    After a failed fetch, the last key set stays in use until it is older than `jwks_max_stale`.
    `clock` returns monotonic seconds.
    """

    def __init__(
        self,
        store: KeySetStore,
        fetch: Fetch = fetch_document,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._fetch = fetch
        self._clock = clock
        self._documents: dict[str, bytes] = {}
        self._failures: dict[str, str] = {}
        """The reason of the last fetch by issuer, if it has failed."""
        self._requested: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[bool]] = {}
        self._issuers = {each.issuer: each for each in store.remote_issuers}
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
        recent = requested is not None and self._clock() - requested < MIN_INTERVAL
        return issuer in self._issuers and (issuer in self._running or not recent)

    async def refresh(self, issuer: str) -> None:
        """Fetch an issuer's key set. Waits at most `REFRESH_WAIT` seconds for the result.

        Concurrent callers share one fetch. A fetch that takes longer continues in the background.
        """
        task = self._running.get(issuer)
        if task is None:
            self._requested[issuer] = self._clock()
            task = asyncio.create_task(self._update(self._issuers[issuer]))
            self._running[issuer] = task
            task.add_done_callback(lambda _: self._running.pop(issuer, None))
        await asyncio.wait((task,), timeout=REFRESH_WAIT)

    async def _follow(self, issuer: RemoteIssuer) -> None:
        while True:
            updated = await self._update(issuer)
            await asyncio.sleep(issuer.jwks_refresh if updated else RETRY_INTERVAL)

    async def _update(self, issuer: RemoteIssuer) -> bool:
        """Fetch the issuer's key set and put it in use. Returns whether this succeeded."""
        assert issuer.jwks_uri is not None
        started = self._clock()
        try:
            document = await self._fetch(issuer.jwks_uri)
            fetched_at = self._store.fetched_at(issuer.issuer)
            if fetched_at is not None and started < fetched_at:
                return True  # a later fetch was faster: this document may have revoked keys
            if document == self._documents.get(issuer.issuer):
                self._store.confirm_keys(issuer.issuer, started)
            else:
                keys = KeySet.parse(document)
                self._store.replace_keys(issuer.issuer, keys, started)
                self._documents[issuer.issuer] = document
        except FetchError as error:
            self._on_failure(issuer, str(error), error.cause)
            return False
        except KeySetError as error:
            self._on_failure(issuer, str(error), FetchCause.INVALID_KEY_SET)
            return False
        except Exception as error:
            # A fault must not end the fetches: the keys would stay in use for ever.
            self._on_failure(issuer, f"unexpected {type(error).__name__}", FetchCause.INTERNAL)
            return False
        if self._failures.pop(issuer.issuer, None) is not None:
            log.info("the key set of %s has been fetched again", issuer.issuer)
        return True

    def _on_failure(self, issuer: RemoteIssuer, reason: str, cause: str) -> None:
        self._store.record_failure(issuer.issuer, cause)
        if self._failures.get(issuer.issuer) != reason:
            log.warning("cannot fetch the key set of %s: %s; retrying", issuer.issuer, reason)
        self._failures[issuer.issuer] = reason
        fetched_at = self._store.fetched_at(issuer.issuer)
        if fetched_at is None or self._clock() - fetched_at <= issuer.jwks_max_stale:
            return
        if self._store.expire_keys(issuer.issuer):
            log.error(
                "the key set of %s has expired: its tokens are refused until it is fetched",
                issuer.issuer,
            )
            self._documents.pop(issuer.issuer, None)
