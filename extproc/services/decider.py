"""Decides on a request with the current policy, for ext_proc and ext_authz.

In addition to the pure function `decide`, the decider fetches unknown keys of tokens, and applies
the breaker and the limits. An exception becomes a refusal.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from extproc.decision import Admission, Decision, Refusal, Request, decide
from extproc.policy.compiled import Policy
from extproc.policy.current import CurrentPolicy
from extproc.protection import RequestProtection
from extproc.services.responses import NO_POLICY, log_failure


class Observer(Protocol):
    """Runs decisions and records their results."""

    def decide(self, policy: Policy, request: Request) -> Decision:
        """Call `extproc.decision.decide`."""

    def record(self, decision: Decision) -> None:
        """Record the final decision on a request, after the breaker and the limits."""


class NullObserver:
    """Runs decisions and records nothing."""

    decide = staticmethod(decide)

    def record(self, decision: Decision) -> None:
        """Record nothing."""


class Decider:
    """Makes decisions. A decision is awaitable only if it must wait for keys or for a limit.

    `clock` returns seconds since the epoch.
    """

    def __init__(
        self,
        current_policy: CurrentPolicy,
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
        protection: RequestProtection | None = None,
    ) -> None:
        self.current_policy = current_policy
        self.clock = clock
        self._observer = observer or NullObserver()
        self._protection = protection

    def decide(
        self, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        """Admit or refuse a request. Neither the call nor the awaitable raises an exception."""
        decision = self._decide_by_policy(headers, has_body=has_body)
        if type(decision) is Refusal and decision.unknown_key_issuer is not None:
            refreshed = self.current_policy.refresh_keys(decision.unknown_key_issuer)
            if refreshed is not None:
                return self._decide_after_refresh(refreshed, headers, has_body=has_body)
        return self._protect(decision, headers, has_body=has_body)

    @property
    def can_readmit(self) -> bool:
        """Whether `readmit` may be used. With limits, each request must be checked again."""
        return self._protection is None or self._protection.limiter is None

    def readmit(self, admission: Admission) -> Decision:
        """Decide on a request with the admission of an equal request. Raises no exception.

        Only the breaker is checked again. Use it only if `can_readmit`.
        """
        decision: Decision = admission
        if self._protection is not None:
            try:
                decision = self._protection.check_breaker(admission) or admission
            except Exception as error:
                decision = log_failure(error)
        return self._record(decision)

    def _decide_by_policy(self, headers: dict[str, bytes], *, has_body: bool) -> Decision:
        policy = self.current_policy.current
        if policy is None:
            return NO_POLICY
        try:
            return self._observer.decide(policy, Request(headers, has_body, self.clock()))
        except Exception as error:
            return log_failure(error)

    async def _decide_after_refresh(
        self, refreshed: Awaitable[None], headers: dict[str, bytes], *, has_body: bool
    ) -> Decision:
        """Decide again after the issuer's key set has been fetched, because a key was unknown."""
        await refreshed
        decision = self._decide_by_policy(headers, has_body=has_body)
        protected = self._protect(decision, headers, has_body=has_body)
        return protected if isinstance(protected, Admission | Refusal) else await protected

    def _protect(
        self, decision: Decision, headers: dict[str, bytes], *, has_body: bool
    ) -> Decision | Awaitable[Decision]:
        """Apply the breaker and the limits to an admission."""
        if self._protection is None or type(decision) is Refusal:
            return self._record(decision)
        assert isinstance(decision, Admission)
        try:
            protected = self._protection.admit(decision, headers, has_body=has_body)
        except Exception as error:
            return self._record(log_failure(error))
        if isinstance(protected, Admission | Refusal):
            return self._record(protected)
        return self._record_later(protected)

    async def _record_later(self, decision: Awaitable[Decision]) -> Decision:
        try:
            return self._record(await decision)
        except Exception as error:
            return self._record(log_failure(error))

    def _record(self, decision: Decision) -> Decision:
        """Record the decision, and return it."""
        self._observer.record(decision)
        return decision
