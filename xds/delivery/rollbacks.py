"""Restores the config of the history after a node has rejected a revision."""

import logging
from dataclasses import dataclass

from sluice.config.checked import LoadedConfig
from xds.candidate.apply import Applier
from xds.delivery.latest_write import LatestWrite
from xds.resources.compiled import CompiledConfig
from xds.sources.store.store import StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rejection:
    """A revision that a node has rejected, and the config that stays in force, if there is one."""

    revision: int
    in_force: LoadedConfig | None
    reason: str


class Rollbacks:
    """Appends the config in force as a new revision. The rollout has restored it at the nodes."""

    def __init__(self, applier: Applier) -> None:
        self._applier = applier
        self._latest = LatestWrite(self._roll_back)

    def on_rejected(
        self, rejected: CompiledConfig, in_force: CompiledConfig | None, reason: str
    ) -> None:
        """Record that a node has rejected a config."""
        if rejected.revision is not None:
            good = None if in_force is None else in_force.loaded
            self._latest.set(_Rejection(rejected.revision, good, reason))

    async def run(self) -> None:
        """Append rollbacks until the task is cancelled."""
        await self._latest.run()

    async def _roll_back(self, rejection: _Rejection) -> bool:
        """Returns False if the store cannot be written now."""
        number = rejection.revision
        try:
            restored = await self._applier.roll_back(number, rejection.in_force, rejection.reason)
        except StoreError as error:
            log.error("revision %d is rejected, and its rollback waits: %s", number, error)
            return False
        if restored is not None:
            log.warning("revision %d is rolled back by revision %d", number, restored.number)
        return True
