"""The signals that stop a gateway or one of its Envoys."""

import asyncio
import signal
from dataclasses import dataclass, field

from sluice.runner.race import ends_first


@dataclass(frozen=True, slots=True)
class StopSignals:
    """`drain` is set by the first SIGTERM; `end` by SIGINT and by the second SIGTERM."""

    drain: asyncio.Event = field(default_factory=asyncio.Event)
    end: asyncio.Event = field(default_factory=asyncio.Event)

    def handle(self) -> None:
        """Take the signals of this process from now on. Needs a running event loop."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        loop.add_signal_handler(signal.SIGINT, self.end.set)

    async def wait(self) -> None:
        """Wait for the first of them."""
        await ends_first(self.drain.wait(), self.end.wait())

    def _on_sigterm(self) -> None:
        (self.end if self.drain.is_set() else self.drain).set()
