"""The policy in force in a worker, and the refresh of the policy's remote key sets."""

from collections.abc import Awaitable

from extproc.policy.compiled import Policy, compile_policy
from sluice.config import PolicyDocument
from sluice.keys.remote_key_sets import RemoteKeySets


class CurrentPolicy:
    """Holds the policy in force; None until the first one arrives."""

    def __init__(self) -> None:
        self.current: Policy | None = None
        self._remote: RemoteKeySets | None = None

    def compile(self, document: PolicyDocument) -> Policy:
        """Compile a policy, without putting it in force. Raises ValueError."""
        return compile_policy(document, self.current)

    def commit(self, policy: Policy) -> None:
        """Put a compiled policy in force."""
        previous, self.current = self.current, policy
        if previous is None or previous.authenticator is not policy.authenticator:
            self.close()
            self._remote = RemoteKeySets(policy.authenticator)
            self._remote.start()

    def apply(self, document: PolicyDocument) -> None:
        """Compile a policy and put it in force. If it raises ValueError, nothing has changed."""
        self.commit(self.compile(document))

    def refresh_keys(self, issuer: str) -> Awaitable[None] | None:
        """Fetch an issuer's key set again; None if this is not possible now.

        The issuer may have no `jwks_uri`, or the last fetch may be too recent.
        """
        if self._remote is None or not self._remote.may_refresh(issuer):
            return None
        return self._remote.refresh(issuer)

    def close(self) -> None:
        """Stop fetching keys."""
        if self._remote is not None:
            self._remote.stop()
            self._remote = None
