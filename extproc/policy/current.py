"""The policy in force in a worker, and the refresh of the policy's remote key sets."""

from collections.abc import Awaitable

from extproc.policy.compiled import Policy, compile_policy, compile_received
from extproc.policy.received import ReceivedPolicy
from sluice.config import PolicyDocument
from sluice.keys.remote_key_sets import RemoteKeySets


class CurrentPolicy:
    """Holds the policy in force; None until the first one arrives."""

    def __init__(self) -> None:
        self.current: Policy | None = None
        self._remote: RemoteKeySets | None = None

    def compile(self, policy: PolicyDocument | ReceivedPolicy) -> Policy:
        """Compile a policy, without putting it in force. Raises ValueError.

        Models of a received policy that are in force already are not compiled again.
        """
        if isinstance(policy, ReceivedPolicy):
            return compile_received(policy, self.current)
        return compile_policy(policy, self.current)

    def commit(self, policy: Policy) -> None:
        """Put a compiled policy in force."""
        previous, self.current = self.current, policy
        if previous is None or previous.authenticator is not policy.authenticator:
            self.close()
            self._remote = RemoteKeySets(policy.authenticator)
            self._remote.start()

    def apply(self, policy: PolicyDocument | ReceivedPolicy) -> None:
        """Compile a policy and put it in force. If it raises ValueError, nothing has changed."""
        self.commit(self.compile(policy))

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
