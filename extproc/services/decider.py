"""What ext_proc and ext_authz have in common: a decision on one request, by the policy in force.

Around `decide` it puts what may have to wait, the keys of a token that are not known yet and the
limits; and whatever fails on the way becomes a refusal.
"""

import time
from collections.abc import Awaitable, Callable

from extproc.decision import Admission, Decide, Decision, Refusal, Request, decide
from extproc.policies import Policies
from extproc.protection import Protection
from extproc.services.outcome import NO_POLICY, failed


class Decider:
    """Answers at once where it can. `clock`: seconds since the epoch."""

    def __init__(
        self,
        policies: Policies,
        clock: Callable[[], float] = time.time,
        decide: Decide = decide,
        protection: Protection | None = None,
    ) -> None:
        self.policies = policies
        self._clock = clock
        self._decide = decide
        self._protection = protection

    def decide(
        self, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        """Admit or refuse. Never raises, neither at once nor when awaited."""
        decision = self._by_policy(headers, has_body=has_body)
        if type(decision) is Refusal and decision.refresh is not None:
            refreshed = self.policies.refresh_keys(decision.refresh)
            if refreshed is not None:
                return self._by_new_keys(refreshed, headers, has_body=has_body)
        return self._protected(decision, headers, has_body=has_body)

    def _by_policy(self, headers: dict[str, bytes], *, has_body: bool) -> Decision:
        policy = self.policies.current
        if policy is None:
            return NO_POLICY
        try:
            return self._decide(policy, Request(headers, has_body, self._clock()))
        except Exception as error:
            return failed(error)

    async def _by_new_keys(
        self, refreshed: Awaitable[None], headers: dict[str, bytes], *, has_body: bool
    ) -> Decision:
        """The token's key was unknown: decide with the keys that the issuer has now."""
        await refreshed
        decision = self._by_policy(headers, has_body=has_body)
        protected = self._protected(decision, headers, has_body=has_body)
        return protected if isinstance(protected, Admission | Refusal) else await protected

    def _protected(
        self, decision: Decision, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        if self._protection is None or type(decision) is Refusal:
            return decision
        assert isinstance(decision, Admission)
        try:
            protected = self._protection.admit(decision, headers, has_body=has_body)
        except Exception as error:
            return failed(error)
        return protected if isinstance(protected, Admission | Refusal) else _awaited(protected)


async def _awaited(decision: Awaitable[Decision]) -> Decision:
    try:
        return await decision
    except Exception as error:
        return failed(error)
