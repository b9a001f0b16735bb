"""Decides on one request by the policy in force, for ext_proc and ext_authz alike.

Around the pure `decide` it adds what may have to wait: keys of a token that are not known yet, the
breaker and the limits. A failure on the way becomes a refusal.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from extproc.decision import Admission, Decision, Refusal, Request, decide
from extproc.policy.compiled import Policy
from extproc.policy.current import CurrentPolicy
from extproc.protection import Protection
from extproc.services.responses import NO_POLICY, failed


class Observer(Protocol):
    """Runs decisions and records their results."""

    def decide(self, policy: Policy, request: Request) -> Decision:
        """As `extproc.decision.decide`."""

    def decided(self, decision: Decision) -> None:
        """Record a request's final decision, after breaker and limits. Called once for each."""


class Unobserved:
    """Runs decisions and records nothing."""

    decide = staticmethod(decide)

    def decided(self, decision: Decision) -> None:
        """Record nothing."""


class Decider:
    """Decides at once where it can. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        current_policy: CurrentPolicy,
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
        protection: Protection | None = None,
    ) -> None:
        self.current_policy = current_policy
        self.clock = clock
        self._observer = observer or Unobserved()
        self._protection = protection

    def decide(
        self, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        """Admit or refuse. Never raises, neither at once nor when awaited."""
        decision = self._decide_by_policy(headers, has_body=has_body)
        if type(decision) is Refusal and decision.unknown_key_issuer is not None:
            refreshed = self.current_policy.refresh_keys(decision.unknown_key_issuer)
            if refreshed is not None:
                return self._decide_after_refresh(refreshed, headers, has_body=has_body)
        return self._protect(decision, headers, has_body=has_body)

    @property
    def reusable(self) -> bool:
        """Whether `readmit` may reuse an admission for other requests: no rule limits them."""
        return self._protection is None or self._protection.limiter is None

    def readmit(self, admission: Admission) -> Decision:
        """Decide on a request with the admission of an earlier one, if `reusable`. Never raises."""
        decision: Decision = admission
        if self._protection is not None:
            try:
                decision = self._protection.check_breaker(admission) or admission
            except Exception as error:
                decision = failed(error)
        return self._recorded(decision)

    def _decide_by_policy(self, headers: dict[str, bytes], *, has_body: bool) -> Decision:
        policy = self.current_policy.current
        if policy is None:
            return NO_POLICY
        try:
            return self._observer.decide(policy, Request(headers, has_body, self.clock()))
        except Exception as error:
            return failed(error)

    async def _decide_after_refresh(
        self, refreshed: Awaitable[None], headers: dict[str, bytes], *, has_body: bool
    ) -> Decision:
        """Decide again with the keys that the issuer has now: the token's key was unknown."""
        await refreshed
        decision = self._decide_by_policy(headers, has_body=has_body)
        protected = self._protect(decision, headers, has_body=has_body)
        return protected if isinstance(protected, Admission | Refusal) else await protected

    def _protect(
        self, decision: Decision, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        """Apply breaker and limits to an admission."""
        if self._protection is None or type(decision) is Refusal:
            return self._recorded(decision)
        assert isinstance(decision, Admission)
        try:
            protected = self._protection.admit(decision, headers, has_body=has_body)
        except Exception as error:
            return self._recorded(failed(error))
        if isinstance(protected, Admission | Refusal):
            return self._recorded(protected)
        return self._await(protected)

    async def _await(self, decision: Awaitable[Decision]) -> Decision:
        try:
            return self._recorded(await decision)
        except Exception as error:
            return self._recorded(failed(error))

    def _recorded(self, decision: Decision) -> Decision:
        self._observer.decided(decision)
        return decision
