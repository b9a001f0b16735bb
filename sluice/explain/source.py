"""Where an explanation gets the policy and the present state from."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from sluice.config import PolicyDocument
from sluice.tls import NO_CREDENTIALS, ClientCredentials


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Addresses of a running gateway, and the credentials for its gRPC servers."""

    xds: str
    workers: tuple[str, ...]
    xds_credentials: ClientCredentials = NO_CREDENTIALS
    worker_credentials: ClientCredentials = NO_CREDENTIALS


@dataclass(frozen=True, slots=True)
class ServedPolicy:
    """The policy that a control plane serves, for an explanation in its own process.

    `workers` are the addresses of the callout workers, and `worker_credentials` those for them.
    """

    document: PolicyDocument = field(repr=False)
    workers: tuple[str, ...]
    worker_credentials: ClientCredentials = NO_CREDENTIALS


@dataclass(frozen=True, slots=True)
class NoGateway:
    """The config file that decides when no gateway is asked. `reason` says why none is."""

    config: Path
    reason: str


PolicySource: TypeAlias = RunningGateway | ServedPolicy | NoGateway


@dataclass(frozen=True, slots=True)
class Source:
    """Where the policy and the state come from, and what the reader should know about it."""

    description: str
    gateway: PolicySource
    notes: tuple[str, ...] = ()
