"""Counts finished requests of each version for the control plane: errors, and latencies in bins.

The breaker's definition says which requests count, and which are errors. The latency is that of the
model server: a client that sends or reads slowly does not change it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from extproc.breaker.outcomes import succeeded
from extproc.telemetry.entry import MAX_OUTCOMES, AccessLogEntry, Progress, RequestOutcome
from protos.observations_pb2 import VersionCounts
from sluice.contract.names import cluster_name
from sluice.contract.traffic import latency_bin

MAX_VERSIONS = 100_000
"""Versions that are counted between two reports: more than a policy has. While there is no control
plane, the versions of many policies may come together."""


@dataclass(slots=True)
class _Version:
    requests: int = 0
    errors: int = 0
    bins: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How requests of a version end. `version` is None if such requests do not count."""

    version: _Version | None
    failed: bool


class TrafficCounts:
    """The counts since the previous `take`."""

    def __init__(self) -> None:
        self._versions: dict[str, _Version] = {}
        self._endings: dict[tuple[RequestOutcome, Progress], _Ending] = {}

    def record(self, entries: Sequence[AccessLogEntry]) -> None:
        """Count finished requests."""
        endings = self._endings
        for entry in entries:
            outcome, progress, _, _, upstream_us, *_ = entry
            ending = endings.get((outcome, progress)) or self._learn(outcome, progress)
            version = ending.version
            if version is None:
                continue
            version.requests += 1
            if ending.failed:
                version.errors += 1
            if upstream_us is not None:
                number = latency_bin(upstream_us)
                version.bins[number] = version.bins.get(number, 0) + 1

    def take(self) -> list[VersionCounts]:
        """The counts, which start again at zero."""
        versions, self._versions = self._versions, {}
        self._endings.clear()
        return [
            VersionCounts(
                cluster=cluster,
                requests=each.requests,
                errors=each.errors,
                bins=each.bins.keys(),
                counts=each.bins.values(),
            )
            for cluster, each in versions.items()
        ]

    def _learn(self, outcome: RequestOutcome, progress: Progress) -> _Ending:
        if len(self._endings) >= MAX_OUTCOMES:
            self._endings.clear()
        ok = succeeded(outcome, progress)
        version = None if ok is None else self._version(outcome)
        ending = self._endings[outcome, progress] = _Ending(version, failed=ok is False)
        return ending

    def _version(self, outcome: RequestOutcome) -> _Version | None:
        cluster = cluster_name(outcome.model, outcome.version)
        found = self._versions.get(cluster)
        if found is None and len(self._versions) < MAX_VERSIONS:
            found = self._versions[cluster] = _Version()
        return found
