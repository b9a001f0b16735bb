"""What one Envoy says about its endpoints, and the interface of the sources that ask Envoys.

A source may ask the admin interface of an Envoy, as `xds.envoys.admin` does. Others could receive
the reports of Envoys over gRPC (LRS, HDS, CSDS): they pass on the same observations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Host:
    """An endpoint with a resolved address, as one Envoy sees it.

    `address` is `host:port` or `unix:/path`; `hostname` is the name from which Envoy resolved it,
    or empty. `problems` says why Envoy sends it no requests; empty if Envoy does. `checking`: the
    first health check has not ended. `draining`: the config says so. The numbers of connections, of
    failed connections (which are also in `connections`) and of requests without an error count
    since Envoy has the host.
    """

    address: str
    hostname: str = ""
    problems: tuple[str, ...] = ()
    ejected: bool = False
    checking: bool = False
    draining: bool = False
    connections: int = 0
    failed_connections: int = 0
    successful_requests: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """What an Envoy sees. `node` is its id. `clusters` has the hosts of each active cluster."""

    node: str
    clusters: Mapping[str, tuple[Host, ...]]


@dataclass(frozen=True, slots=True)
class NoObservation:
    """A source got no answer from an Envoy; `error` says why."""

    error: str


Report = Callable[[str, Observation | NoObservation], None]
"""Takes what a source has learned, with a name for the place where it asked."""


class EnvoySource(Protocol):
    """Learns what Envoys see."""

    async def run(self, report: Report) -> None:
        """Report every observation, until the task is cancelled."""
