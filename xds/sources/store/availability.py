"""Logs when a store begins to fail, and when it works again."""

import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

LOG_INTERVAL: Final = 60.0
"""Seconds between two lines about failures: a part of a damaged store may fail again and again."""


class Availability:
    """Whether the latest exchange with a store succeeded. `name` is that of the store."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._logged_at = -LOG_INTERVAL
        self._told = False

    def failed(self, failure: str) -> None:
        """An exchange has failed."""
        if self._told or self._clock() - self._logged_at < LOG_INTERVAL:
            return
        self._told, self._logged_at = True, self._clock()
        log.error("%s; until the store works, no config changes, and writes are refused", failure)

    def succeeded(self) -> None:
        """An exchange has succeeded."""
        if self._told:
            log.info("the store %s responds again", self._name)
        self._told = False
