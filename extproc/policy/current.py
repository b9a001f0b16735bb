"""The policy in force in a worker, and the key sets that are fetched for it."""

from collections.abc import Awaitable

from extproc.auth.remote_key_sets import RemoteKeySets
from extproc.policy.compiled import Policy, compile_policy
from sluice.config import PolicyDocument


class CurrentPolicy:
    """Holds one policy at a time; None until the first arrives."""

    def __init__(self) -> None:
        self.current: Policy | None = None
        self._remote: RemoteKeySets | None = None

    def apply(self, document: PolicyDocument) -> None:
        """Put a policy in force. Raises ValueError, with nothing changed, where it is not good."""
        previous = self.current
        policy = compile_policy(document, previous)
        if previous is None or previous.authenticator is not policy.authenticator:
            self.close()
            self._remote = RemoteKeySets(policy.authenticator)
            self._remote.start()
        self.current = policy

    def refresh_keys(self, issuer: str) -> Awaitable[None] | None:
        """Fetch an issuer's keys again; None where that is not worth it now."""
        if self._remote is None or not self._remote.may_refresh(issuer):
            return None
        return self._remote.refresh(issuer)

    def close(self) -> None:
        """Stop fetching keys."""
        if self._remote is not None:
            self._remote.stop()
            self._remote = None
