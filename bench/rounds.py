"""Rounds of load by wrk on a running gateway, and what each round cost its processes."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import wrk
from bench.processes import cpu_seconds, resident_bytes

FAILURES = """
failed = 0
local threads = {}
function setup(thread) table.insert(threads, thread) end
function response(status, headers)
  if status ~= 200 or (headers["grpc-status"] or "0") ~= "0" then failed = failed + 1 end
end
function done()
  for _, thread in ipairs(threads) do io.write("failed: ", thread:get("failed"), "\\n") end
end
"""
"""Part of a wrk script that also counts gRPC errors, whose HTTP status is 200."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running gateway: its port, and its process ids by kind."""

    port: int
    pids: Mapping[str, Sequence[int]]

    def cpu(self) -> dict[str, float]:
        """CPU seconds that each kind of process has used."""
        return {kind: sum(map(cpu_seconds, pids)) for kind, pids in self.pids.items()}

    def resident_mib(self, kind: str) -> float:
        """Resident memory of the largest process of a kind."""
        return max(map(resident_bytes, self.pids.get(kind, ())), default=0) / (1 << 20)


@dataclass(frozen=True, slots=True)
class Sample:
    """Result of one round: requests/s, latencies in ms, CPU time in us per request by process."""

    rate: float
    p50: float
    p99: float
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """Requests for a target. `name`: what they are called in errors. The wrk script has a body."""

    name: str
    target: Target
    path: str
    headers: Mapping[str, str]
    script: Path

    def run(self, connections: int, seconds: float) -> Sample:
        """Load the target for one round. Raises RuntimeError if a request fails."""
        port, before = self.target.port, self.target.cpu()
        report = wrk.run(port, self.path, self.headers, connections, seconds, self.script)
        after = self.target.cpu()
        if not report.requests or report.failed or wrk.number(report.text, r"failed: (\d+)"):
            raise RuntimeError(f"{self.name}: {report.text}")
        spent = {kind: (after[kind] - before[kind]) / report.requests * 1e6 for kind in after}
        return Sample(report.rate, report.p50, report.p99, spent)


def alternate(
    loads: Sequence[Load], rounds: int, run: Callable[[Load], Sample]
) -> dict[str, list[Sample]]:
    """The samples of each load by its name. The rounds of all loads alternate."""
    samples: dict[str, list[Sample]] = {load.name: [] for load in loads}
    for _ in range(rounds):
        for load in loads:
            samples[load.name].append(run(load))
    return samples


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each figure."""
    rate, p50, p99 = (
        statistics.median(getattr(sample, name) for sample in samples)
        for name in ("rate", "p50", "p99")
    )
    kinds = samples[0].cpu
    cpu = {kind: statistics.median(sample.cpu[kind] for sample in samples) for kind in kinds}
    return Sample(rate, p50, p99, cpu)
