"""The event `rollout`, and the log: what happens to a config that is rolled out."""

import logging
from collections.abc import Collection
from typing import Final

from xds.events import Events
from xds.resources.compiled import CompiledConfig
from xds.rollout.stage import StageView, named
from xds.rollout.task import RolloutResult

log = logging.getLogger(__name__)

MAX_TOLD: Final = 100
"""Envoys of a stage that an event names."""


class RolloutEvents:
    """Tells operators how rollouts go on."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def on_step(self, target: CompiledConfig, step: str) -> None:
        """A step begins."""
        log.info("version %s: step %s", target.snapshot.version, step)
        self._emit(target, step)

    def on_unresponsive(self, step: str | None, timeout: float, nodes: Collection[str]) -> None:
        """A step goes on without these nodes. `timeout`: seconds that it has waited for them."""
        text = "step %s continues without nodes that did not respond within %g s: %s"
        log.warning(text, step, timeout, ", ".join(nodes))

    def on_in_force(self, in_force: CompiledConfig, unresponsive: Collection[str]) -> None:
        """All nodes have the config, except for unresponsive ones."""
        log.info("version %s is in force", in_force.snapshot.version)
        self._emit(in_force, "in_force", unresponsive=list(unresponsive))

    def on_renewed(self, in_force: CompiledConfig) -> None:
        """The config in force has other key sets or endpoints."""
        log.info("version %s has new key sets or endpoints", in_force.snapshot.version)

    def on_staged(
        self, target: CompiledConfig, view: StageView, until: float, unresponsive: Collection[str]
    ) -> None:
        """Only the Envoys of the stage have the config, and are judged until a time."""
        log.info("version %s is staged at %s", view.version, named(view.nodes))
        self._emit(
            target, "staged", until=until, nodes=list(view.nodes[:MAX_TOLD]),
            number=len(view.nodes), unresponsive=list(unresponsive),
        )  # fmt: skip

    def on_stage_renewed(self, target: CompiledConfig) -> None:
        """The stage goes on, with other resources of the staged config or of the one in force."""
        log.info("version %s is still staged, with other resources", target.snapshot.version)

    def on_not_staged(self, target: CompiledConfig) -> None:
        """The config has a stage, but goes to all Envoys at once."""
        reason = "fewer than two Envoys are connected"
        log.warning("version %s goes to all Envoys at once: %s", target.snapshot.version, reason)
        self._emit(target, "not_staged", reason=reason)

    def on_failure(self, result: RolloutResult, in_force: str | None) -> None:
        """The config does not come into force, or does not stay. `in_force`: the version that is in
        force instead; None if there is none.
        """
        assert result.rejected is not None
        version, failure = result.rejected.snapshot.version, result.failure
        self._emit(result.rejected, "rejected", reason=failure)
        if result.nack is None:
            log.error("version %s is rolled back: %s", version, failure)
        else:
            text = "version %s is not in force: %s; the version in force is %s"
            log.error(text, version, failure, in_force or "none")

    def _emit(self, config: CompiledConfig, step: str, **data: object) -> None:
        version, revision = config.snapshot.version, config.revision
        self._events.emit("rollout", version=version, revision=revision, step=step, **data)
