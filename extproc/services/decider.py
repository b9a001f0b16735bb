"""What ext_proc and ext_authz have in common: a decision on one request, by the policy in force.

Around `decide` it puts what may have to wait, the keys of a token that are not known yet and the
limits; and whatever fails on the way becomes a refusal.
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
    """Decides, and takes note of it."""

    def decide(self, policy: Policy, request: Request) -> Decision:
        """As `extproc.decision.decide`."""

    def decided(self, decision: Decision) -> None:
        """What became of a request's headers, breaker and limits included; once for each."""


class Unobserved:
    """Decides, and tells nobody."""

    decide = staticmethod(decide)

    def decided(self, decision: Decision) -> None:
        """Nothing."""


class Decider:
    """Answers at once where it can. `clock`: seconds since the epoch."""

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
        decision = self._by_policy(headers, has_body=has_body)
        if type(decision) is Refusal and decision.unknown_key_issuer is not None:
            refreshed = self.current_policy.refresh_keys(decision.unknown_key_issuer)
            if refreshed is not None:
                return self._by_new_keys(refreshed, headers, has_body=has_body)
        return self._protected(decision, headers, has_body=has_body)

    @property
    def repeatable(self) -> bool:
        """Whether all requests with one admission are judged alike by `admit_again`."""
        return self._protection is None or self._protection.limiter is None

    def admit_again(self, admission: Admission) -> Decision:
        """Judge a request with an admission from before, where `repeatable`. Never raises."""
        decision: Decision = admission
        if self._protection is not None:
            try:
                decision = self._protection.by_breaker(admission) or admission
            except Exception as error:
                decision = failed(error)
        return self._told(decision)

    def _by_policy(self, headers: dict[str, bytes], *, has_body: bool) -> Decision:
        policy = self.current_policy.current
        if policy is None:
            return NO_POLICY
        try:
            return self._observer.decide(policy, Request(headers, has_body, self.clock()))
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
            return self._told(decision)
        assert isinstance(decision, Admission)
        try:
            protected = self._protection.admit(decision, headers, has_body=has_body)
        except Exception as error:
            return self._told(failed(error))
        if isinstance(protected, Admission | Refusal):
            return self._told(protected)
        return self._awaited(protected)

    async def _awaited(self, decision: Awaitable[Decision]) -> Decision:
        try:
            return self._told(await decision)
        except Exception as error:
            return self._told(failed(error))

    def _told(self, decision: Decision) -> Decision:
        self._observer.decided(decision)
        return decision
