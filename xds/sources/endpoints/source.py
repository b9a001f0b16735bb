"""The interface of an endpoint source.

A source finds the endpoints of any number of origins, such as files. It may share one watch between
them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sluice.config.endpoints import Endpoint, EndpointsFrom


@dataclass(frozen=True, slots=True)
class NoEndpoints:
    """The source cannot say which endpoints there are; `error` says why."""

    error: str


Found: TypeAlias = tuple[Endpoint, ...] | NoEndpoints

Report: TypeAlias = Callable[[EndpointsFrom, Found], None]
"""Takes what a source has found."""


class EndpointSource(Protocol):
    """Finds endpoints."""

    def handles(self, origin: EndpointsFrom) -> bool:
        """Whether this source finds the endpoints of the origin."""

    def find(self, origin: EndpointsFrom) -> Found:
        """Find the endpoints now. May block for a moment. Raises no exception."""

    def follow(self, origins: Collection[EndpointsFrom]) -> None:
        """Watch these origins from now on, and no others."""

    async def run(self, report: Report) -> None:
        """Report every change, until the task is cancelled."""
