"""One policy of a worker, and the refresh of its remote key sets."""

from collections import Counter
from collections.abc import Awaitable

from extproc.auth import Authenticator
from extproc.policy.compiled import Policy, compile_policy, compile_received
from extproc.policy.received import ReceivedPolicy
from sluice.config import PolicyDocument
from sluice.keys.remote_key_sets import RemoteKeySets


class KeySetFetches:
    """Fetches the remote key sets of authenticators while a policy with them is in use."""

    def __init__(self) -> None:
        self._running: dict[Authenticator, RemoteKeySets] = {}
        self._uses: Counter[Authenticator] = Counter()

    def start(self, authenticator: Authenticator) -> None:
        """Fetch the key sets of an authenticator, for one more policy."""
        self._uses[authenticator] += 1
        if self._uses[authenticator] == 1:
            fetches = self._running[authenticator] = RemoteKeySets(authenticator)
            fetches.start()

    def stop(self, authenticator: Authenticator) -> None:
        """A policy needs the key sets no longer."""
        self._uses[authenticator] -= 1
        if not self._uses[authenticator]:
            del self._uses[authenticator]
            self._running.pop(authenticator).stop()

    def of(self, authenticator: Authenticator) -> RemoteKeySets | None:
        """The fetches for an authenticator; None if no policy uses it."""
        return self._running.get(authenticator)


class CurrentPolicy:
    """Holds a policy that decides; None until the first one arrives.

    Policies with the same authenticator share its fetches in `key_sets`.
    """

    def __init__(self, key_sets: KeySetFetches | None = None) -> None:
        self.current: Policy | None = None
        self._key_sets = key_sets or KeySetFetches()
        self._fetches: Authenticator | None = None
        """The authenticator whose key sets are fetched."""

    def compile(self, policy: PolicyDocument | ReceivedPolicy) -> Policy:
        """Compile a policy, without putting it in force. Raises ValueError.

        Models of a received policy that are in force already are not compiled again.
        """
        if isinstance(policy, ReceivedPolicy):
            return compile_received(policy, self.current)
        return compile_policy(policy, self.current)

    def commit(self, policy: Policy) -> None:
        """Put a compiled policy in force."""
        self.current = policy
        if policy.authenticator is not self._fetches:
            self._fetch(policy.authenticator)

    def apply(self, policy: PolicyDocument | ReceivedPolicy) -> None:
        """Compile a policy and put it in force. If it raises ValueError, nothing has changed."""
        self.commit(self.compile(policy))

    def refresh_keys(self, issuer: str) -> Awaitable[None] | None:
        """Fetch an issuer's key set again; None if this is not possible now.

        The issuer may have no `jwks_uri`, or the last fetch may be too recent.
        """
        remote = None if self._fetches is None else self._key_sets.of(self._fetches)
        if remote is None or not remote.may_refresh(issuer):
            return None
        return remote.refresh(issuer)

    def close(self) -> None:
        """Stop fetching keys."""
        self._fetch(None)

    def _fetch(self, authenticator: Authenticator | None) -> None:
        previous, self._fetches = self._fetches, authenticator
        if authenticator is not None:
            self._key_sets.start(authenticator)
        if previous is not None:
            self._key_sets.stop(previous)
