"""The part of the config that listeners depend on, so that other edits leave them as they are."""

from dataclasses import dataclass
from typing import Self

from sluice.config import GatewayConfig
from sluice.config.gateway import Callout, Listener, Requests
from sluice.config.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """The sections of the config that the builders of listeners and their filters read."""

    listener: Listener
    callout: Callout
    requests: Requests
    telemetry: Telemetry

    @classmethod
    def of(cls, config: GatewayConfig) -> Self:
        """The sections of a config."""
        return cls(config.listener, config.callout, config.requests, config.telemetry)
