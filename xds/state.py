"""The state of the control plane: the latest valid config, that in force, and the latest error."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from sluice.config import GatewayConfig, PolicyDocument, Problem
from sluice.config.endpoints import NO_ENDPOINTS, OUTDATED_ENDPOINTS, EndpointsFrom
from sluice.config.errors import MAX_PROBLEMS, KeyPath
from sluice.config.finding import Finding
from sluice.config.validation import shown_path, shown_pointer
from xds.canary.automation import DECISIONS
from xds.envoys.configured import configure
from xds.envoys.fleet import Fleet
from xds.envoys.observations import Observations
from xds.envoys.video_streams import VideoStreams
from xds.envoys.warned import warned_by_envoys
from xds.events import Events
from xds.protocol.nodes import Nodes
from xds.resources.compiled import CompiledConfig
from xds.rollout.rollout import Rollout


class EndpointErrors(Protocol):
    """The part of the endpoint sources that the status shows."""

    @property
    def errors(self) -> Mapping[EndpointsFrom, str]:
        """Why the endpoints of an origin may be outdated."""


class ControlPlaneState:
    """Combines the states of source, rollout and nodes. `source` is the config source's name.

    `istiods`: the clients of the config source of istiod.
    """

    def __init__(
        self,
        source: str,
        compiled: CompiledConfig,
        nodes: Nodes,
        rollout: Rollout,
        observations: Observations | None = None,
        endpoints: EndpointErrors | None = None,
        events: Events | None = None,
        istiods: Nodes | None = None,
        videos: VideoStreams | None = None,
    ) -> None:
        self.source = source
        self.nodes = nodes
        self.istiods = Nodes(nodes.now) if istiods is None else istiods
        self.rollout = rollout
        self._compiled = compiled
        self._endpoints = endpoints
        self.fleet = Fleet(self.served, time.time, events)
        """What the Envoys see."""
        self.observations = observations or Observations()
        """What Envoys and workers saw of each version. Its clock is `time.monotonic`."""
        self.videos = videos or VideoStreams()
        """The streams of the video service. Their clock is `time.monotonic`."""
        self._observe(compiled)
        self._config_error: str | None = None
        self.changed_at = time.time()
        """The time at which the latest valid config was read, in Unix seconds."""
        self.reads = {"accepted": 1, "refused": 0}
        """Numbers of valid (accepted) and invalid (refused) configs that have been read."""
        self.canary_decisions: Counter[str] = Counter(dict.fromkeys(DECISIONS, 0))
        """What this control plane has decided about canaries with steps."""

    @property
    def config(self) -> GatewayConfig:
        """The latest valid config."""
        return self._compiled.config

    def served(self) -> GatewayConfig:
        """The config in force, or the latest one before, with the endpoints that were found."""
        return (self.rollout.in_force or self._compiled).served

    @property
    def in_force(self) -> GatewayConfig | None:
        """The config in force; None before the first."""
        compiled = self.rollout.in_force
        return None if compiled is None else compiled.config

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The warnings about the latest valid config."""
        return self._compiled.warnings

    def on_config(self, compiled: CompiledConfig) -> None:
        """Record a valid config."""
        self._compiled, self._config_error, self.changed_at = compiled, None, time.time()
        self.reads["accepted"] += 1
        self._observe(compiled)

    def _observe(self, compiled: CompiledConfig) -> None:
        """Count the traffic of the versions of this config and of that in force."""
        in_force = self.in_force
        configure(self.observations, (compiled.config, *(() if in_force is None else (in_force,))))

    def on_invalid_config(self, error: str) -> None:
        """Record an invalid config."""
        self._config_error = error
        self.reads["refused"] += 1

    def on_known_config(self) -> None:
        """Record a valid config that is in the history already, such as an edit that was undone."""
        self._config_error = None
        self.reads["accepted"] += 1

    @property
    def error(self) -> str | None:
        """Why the latest config is not in force; None if it is in force."""
        return self._config_error or self._rejection()

    @property
    def restart_required(self) -> tuple[str, ...]:
        """The keys of the latest valid config that need a restart."""
        return self._compiled.restart_required

    @property
    def policy_in_force(self) -> PolicyDocument | None:
        """The policy in force; None before the first."""
        compiled = self.rollout.in_force
        return None if compiled is None or compiled.loaded is None else compiled.loaded.policy

    @property
    def published_version(self) -> str | None:
        """The config version that is published to the nodes; None before the first."""
        return self.nodes.snapshot.version

    @property
    def revision(self) -> int | None:
        """The revision in force; None before the first."""
        compiled = self.rollout.in_force
        return None if compiled is None else compiled.revision

    def warnings_in_force(self) -> tuple[Problem, ...]:
        """The warnings about the config in force, about endpoints that an Envoy sees, and about
        sources of endpoints.
        """
        compiled = self.rollout.in_force
        if compiled is None:
            return ()
        errors = {} if self._endpoints is None else self._endpoints.errors
        seen = islice(warned_by_envoys(compiled.served, self.fleet.envoys), MAX_PROBLEMS)
        found = islice(_of_sources(compiled, errors), MAX_PROBLEMS)
        return (
            *compiled.warnings,
            *(each.warning(self._place) for each in (*seen, *found)),
        )

    def _place(self, path: KeyPath, message: str) -> Problem:
        """A problem without its line: the text of the config is not kept."""
        return Problem(self.source, 0, shown_path(path), message, pointer=shown_pointer(path))

    def _rejection(self) -> str | None:
        """How the latest change failed, or a NACK that a node sent when it connected later."""
        if self.rollout.failure is not None:
            return self.rollout.failure
        nacks = (node.nack() for node in self.nodes)
        return next((str(nack) for nack in nacks if nack is not None), None)


def _of_sources(compiled: CompiledConfig, errors: Mapping[EndpointsFrom, str]) -> Iterator[Finding]:
    """The warnings about the sources of endpoints."""
    for path, version in compiled.config.referring_versions() if compiled.found or errors else ():
        origin = version.endpoints_from
        if origin is None:
            continue
        key = (*path, "endpoints_from")
        if origin in errors:
            yield Finding.of(OUTDATED_ENDPOINTS, key, errors[origin])
        elif compiled.found.get(origin) == ():
            yield Finding.of(NO_ENDPOINTS, key, f"{origin.description} has no endpoint")
