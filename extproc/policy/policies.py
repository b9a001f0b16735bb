"""The policies of a worker: the one in force and, during a staged rollout, the staged one.

Some Envoys, the staged ones, have the routes of the next config already. Their calls have a mark,
and the staged policy decides on them. The policy in force decides on all other calls.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from extproc.policy.compiled import NativeRoutes, Policy, compile_received
from extproc.policy.current import CurrentPolicy, KeySetFetches
from extproc.policy.received import ReceivedPolicy
from sluice.config.breaker import BreakerConfig
from sluice.contract.headers import STAGE_METADATA


@dataclass(frozen=True, slots=True)
class CompiledPolicies:
    """The policies of one response of the control plane. `staged` is None without a stage."""

    in_force: Policy
    staged: Policy | None

    @property
    def staged_breakers(self) -> Mapping[str, BreakerConfig]:
        """The breakers of the staged policy, by the names of the clusters."""
        return {} if self.staged is None else self.staged.breakers

    @property
    def native_routes(self) -> tuple[NativeRoutes, ...]:
        """The native routes of each model of both policies."""
        if self.staged is None:
            return self.in_force.native_routes
        return tuple(dict.fromkeys((*self.in_force.native_routes, *self.staged.native_routes)))

    @property
    def versions(self) -> Mapping[str, frozenset[str]]:
        """The names of the versions of each model of both policies."""
        versions = self.in_force.versions
        if self.staged is not None:
            for model, names in self.staged.versions.items():
                versions[model] = versions.get(model, frozenset()) | names
        return versions


class Policies:
    """Holds the policies. Without a stage, `staged` has the policy in force, too."""

    def __init__(self) -> None:
        key_sets = KeySetFetches()
        self.in_force, self.staged = CurrentPolicy(key_sets), CurrentPolicy(key_sets)
        self.mark: tuple[str, str] | None = None
        """The metadata of the calls that the staged policy decides. None without a stage."""
        self._on_stage_end: Callable[[], None] = _ignore

    def on_stage_end(self, callback: Callable[[], None]) -> None:
        """Call this when there is no staged policy any more."""
        self._on_stage_end = callback

    def compile(self, received: ReceivedPolicy) -> CompiledPolicies:
        """Compile both policies, without putting them in force. Raises ValueError.

        Models that one of the present policies has are not compiled again.
        """
        known = [] if self.staged.current is None else [self.staged.current]
        policy = compile_received(received, self.in_force.current, *known)
        if received.staged is None:
            return CompiledPolicies(policy, None)
        staged = compile_received(received.staged, policy, *known)
        # Both share the pool of conversions, which has the timeout of the policy in force.
        staged = replace(staged, conversion_timeout=policy.conversion_timeout)
        return CompiledPolicies(policy, staged)

    def commit(self, compiled: CompiledPolicies) -> None:
        """Put compiled policies in force."""
        staged, had_stage = compiled.staged, self.mark is not None
        self.staged.commit(compiled.in_force if staged is None else staged)
        self.in_force.commit(compiled.in_force)
        self.mark = None if staged is None else (STAGE_METADATA, staged.version)
        if had_stage and staged is None:
            self._on_stage_end()

    def close(self) -> None:
        """Stop fetching keys."""
        self.in_force.close()
        self.staged.close()


def _ignore() -> None:
    """Nothing depends on the end of a stage."""
