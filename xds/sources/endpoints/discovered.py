"""Follows the sources of endpoints, and keeps what they have found.

A source that fails leaves the endpoints as they were.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from sluice.config import GatewayConfig
from sluice.config.endpoints import Endpoint, EndpointsFrom
from sluice.printable import printable
from xds.sources.endpoints.source import EndpointSource, Found, NoEndpoints

log = logging.getLogger(__name__)

MAX_WAIT = 5.0
"""Seconds after which a config waits for no further origin."""

MAX_ERROR = 500
"""Characters of an error of a source that are kept."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What is known of one origin. `endpoints` are the latest that were found.

    `error` says why they may be outdated; None if they are not.
    """

    endpoints: tuple[Endpoint, ...] = ()
    error: str | None = None


class DiscoveredEndpoints:
    """The endpoints of the origins of one or more configs."""

    def __init__(self, sources: Sequence[EndpointSource] = ()) -> None:
        self._sources = sources
        self._known: Mapping[EndpointsFrom, Discovery] = {}
        self._latest: tuple[GatewayConfig, frozenset[EndpointsFrom]] | None = None
        """The config whose origins were read last: one change reads them several times."""
        self.changed = asyncio.Event()
        """Is set when endpoints have changed. The reader clears it."""

    @property
    def errors(self) -> Mapping[EndpointsFrom, str]:
        """Why the endpoints of an origin may be outdated."""
        return {key: each.error for key, each in self._known.items() if each.error is not None}

    async def find(
        self, config: GatewayConfig, *, ask: bool = True
    ) -> Mapping[EndpointsFrom, Discovery]:
        """The endpoints of all origins of a config, so that a rollout has them from its begin.

        With `ask`, origins that are not followed yet are asked now, also those of a mere candidate.
        Those for which there is no time have no endpoints until they are followed.
        """
        found, end = {}, monotonic() + MAX_WAIT
        for origin in self._origins(config):
            if origin in self._known:
                found[origin] = self._known[origin]
            elif not ask:
                found[origin] = Discovery(error="the source is not asked")
            elif monotonic() < end:
                found[origin] = await asyncio.to_thread(self._ask, origin)
            else:
                found[origin] = Discovery(error="the source has not answered yet")
        return found

    def follow(self, found: Mapping[EndpointsFrom, Discovery]) -> None:
        """Follow these origins too, from what was found."""
        new = {key: each for key, each in found.items() if key not in self._known}
        for each in new.values():
            if each.error is not None:
                log.warning("no endpoints: %s", each.error)
        self._replace({**self._known, **new})

    def follow_only(self, config: GatewayConfig) -> None:
        """Follow no other origins than those of this config."""
        origins = self._origins(config)
        self._replace({key: each for key, each in self._known.items() if key in origins})

    async def run(self) -> None:
        """Run the sources until the task is cancelled."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                group.create_task(source.run(self._on_change))

    def _origins(self, config: GatewayConfig) -> frozenset[EndpointsFrom]:
        """The origins that need a source: Envoy resolves names itself."""
        if self._latest is None or self._latest[0] is not config:
            named: Iterable[EndpointsFrom | None] = (
                version.endpoints_from for _, version in config.referring_versions()
            )
            origins = frozenset(each for each in named if each is not None and each.dns is None)
            self._latest = config, origins
        return self._latest[1]

    def _ask(self, origin: EndpointsFrom) -> Discovery:
        for source in self._sources:
            if source.handles(origin):
                return _discovery(Discovery(), source.find(origin))
        return Discovery(error="the control plane has no such source")

    def _replace(self, known: Mapping[EndpointsFrom, Discovery]) -> None:
        if known.keys() != self._known.keys():
            for source in self._sources:
                source.follow([origin for origin in known if source.handles(origin)])
        self._known = known

    def _on_change(self, origin: EndpointsFrom, found: Found) -> None:
        known = self._known.get(origin)
        if known is None:
            return
        new = _discovery(known, found)
        if new.error is not None and new.error != known.error:
            log.warning("endpoints stay as they were: %s", new.error)
        self._known = {**self._known, origin: new}
        if new.endpoints != known.endpoints:
            self.changed.set()


def endpoints_of(
    found: Mapping[EndpointsFrom, Discovery],
) -> dict[EndpointsFrom, tuple[Endpoint, ...]]:
    """The endpoints of each origin."""
    return {origin: each.endpoints for origin, each in found.items()}


def _discovery(known: Discovery, found: Found) -> Discovery:
    if isinstance(found, NoEndpoints):
        return Discovery(known.endpoints, printable(found.error, MAX_ERROR))
    return Discovery(found)
