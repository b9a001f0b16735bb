"""Logs when a store begins to fail, and when it works again."""

import logging

log = logging.getLogger(__name__)


class Availability:
    """Whether the latest exchange with a store succeeded. `name` is that of the store."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._available = True

    def failed(self, failure: str) -> None:
        """An exchange has failed."""
        if self._available:
            log.error(
                "%s; until the store works, no config changes, and writes are refused", failure
            )
        self._available = False

    def succeeded(self) -> None:
        """An exchange has succeeded."""
        if not self._available:
            log.info("the store %s responds again", self._name)
        self._available = True
