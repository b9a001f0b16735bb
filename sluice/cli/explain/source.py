"""Where an explanation gets the policy and the present state from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Addresses of a running gateway."""

    xds: str
    workers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoGateway:
    """The config file that decides when no gateway is asked. `reason` says why none is."""

    config: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """Where the policy and the state come from, and what the reader should know about it."""

    description: str
    gateway: RunningGateway | NoGateway
    notes: tuple[str, ...] = ()
