"""The key sets that the control plane fetches, for issuers whose tokens Envoy verifies."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from sluice.config import JwtIssuer
from sluice.keys.fetch import fetch_document
from sluice.keys.key_set import KeySet
from sluice.keys.remote_key_sets import Fetch, RemoteKeySets


class FetchedKeySets:
    """Fetches key sets, and tells when they change. `clock` returns monotonic seconds.

    A key set is usable from its first successful fetch until it is revoked or has expired.
    """

    def __init__(
        self, fetch: Fetch = fetch_document, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._issuers: dict[str, JwtIssuer] = {}
        self._keys: dict[str, KeySet] = {}
        self._fetched: dict[str, float] = {}
        self._remote: RemoteKeySets | None = None
        self._answered: set[str] = set()
        self._answer = asyncio.Event()
        self.changed = asyncio.Event()
        """Is set when a key set has changed. The reader clears it."""

    def usable(self, issuers: Iterable[JwtIssuer]) -> Mapping[str, KeySet]:
        """The key sets that may be used now for these issuers, by issuer.

        A key set is only used for an issuer with the `jwks_uri` from which it was fetched.
        """
        return {
            each.issuer: self._keys[each.issuer]
            for each in issuers
            if each.issuer in self._keys and each.jwks_uri == self._issuers[each.issuer].jwks_uri
        }

    def follow(self, issuers: Iterable[JwtIssuer]) -> None:
        """Fetch the key sets of these issuers from now on, and of no others.

        An issuer with the same `jwks_uri` as before keeps its key set and the age of it.
        """
        former, self._issuers = self._issuers, {each.issuer: each for each in issuers}
        if former == self._issuers:
            return
        for name, issuer in former.items():
            new = self._issuers.get(name)
            if new is None or new.jwks_uri != issuer.jwks_uri:
                self._fetched.pop(name, None)
                self.expire_keys(name)
        self.close()
        self._answered.clear()
        self._remote = RemoteKeySets(self, self._fetch, self._clock)
        self._remote.start()

    async def first_answers(self) -> None:
        """Wait until the key set of each issuer has been fetched once, or its fetch has failed."""
        while not self._answered.issuperset(self._issuers):
            self._answer.clear()
            await self._answer.wait()

    def close(self) -> None:
        """Stop all fetches."""
        if self._remote is not None:
            self._remote.stop()
            self._remote = None

    @property
    def remote_issuers(self) -> list[JwtIssuer]:
        """The issuers whose key sets are fetched."""
        return list(self._issuers.values())

    def fetched_at(self, issuer: str) -> float | None:
        """When the last successful fetch of a key set was started; None before the first one."""
        return self._fetched.get(issuer)

    def replace_keys(self, issuer: str, keys: KeySet, now: float) -> None:
        """Use this key set, whose fetch was started at `now`, in monotonic seconds."""
        self._keys[issuer] = keys
        self.changed.set()
        self.confirm_keys(issuer, now)

    def confirm_keys(self, issuer: str, now: float) -> None:
        """Record that a fetch started at `now` has returned the key set that is in use."""
        self._fetched[issuer] = now
        self._note_answer(issuer)

    def record_failure(self, issuer: str, cause: str) -> None:
        """Record that the latest fetch of a key set has failed. The log has the cause."""
        self._note_answer(issuer)

    def expire_keys(self, issuer: str) -> bool:
        """Use a key set no longer. Returns whether it was in use."""
        if self._keys.pop(issuer, None) is None:
            return False
        self.changed.set()
        return True

    def _note_answer(self, issuer: str) -> None:
        self._answered.add(issuer)
        self._answer.set()
