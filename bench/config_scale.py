"""`python -m bench.config_scale [MODELS ...]`: CPU time of an edit of one model of many.

For each number of models, prints the milliseconds that the control plane takes to read a whole
config and an edited one, to check it and to compile it to resources, also after an edit of a limit,
and those for which a worker blocks its event loop to put the first and an edited policy in force.
Each is the median of `ROUNDS` edits.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extproc.counter_table import CounterTable, create
from extproc.policy.current import CurrentPolicy
from extproc.policy.received import ReceivedPolicy
from extproc.protection import Protection, ProtectionSettings
from sluice.config.checked import check_files
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from sluice.config.reader import ConfigReader
from xds.protocol.resource_types import POLICY
from xds.protocol.snapshot import Changes, ResourceSet
from xds.resources.compiled import compile_config

ROUNDS = 9

AUTH = """auth:
  issuers:
    - {issuer: i, audiences: [a], algorithms: [RS256], jwks: '{"keys": []}'}
models:
"""
LIMITS = "limits: {{listener: {{rate: {rate}, burst: 3000}}}}\n"
MODEL = """  m{number}:
    type: text-classification
    stable: v1
    paths: [/predict/{number}]
    versions:
      v1:
        protocol: grpc
        endpoints:
          - {{address: "127.0.0.1:{port}"}}
          - {{address: "127.0.0.2:{port}"}}
      v2: {{endpoints: [{{address: "127.0.0.3:{port}"}}]}}
    claim_rules: [{{value: vip, version: v2}}]
    canaries: [{{version: v2, percent: 5}}]
    access: {{allow: [{{groups: [a, b]}}]}}
"""


class Stages:
    """CPU times of named stages, in seconds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count the CPU time of a block for a stage."""
        start = time.thread_time()
        yield
        self.times.setdefault(name, []).append(time.thread_time() - start)

    def __str__(self) -> str:
        medians = {name: statistics.median(times) for name, times in self.times.items()}
        return "  ".join(f"{name} {median * 1000:.1f}" for name, median in medians.items())


class Worker:
    """The parts of a worker that a policy changes."""

    def __init__(self, directory: Path, models: int) -> None:
        create(directory / "counters", 1, 100 * models + 10_000)
        self._current = CurrentPolicy()
        self._received: ReceivedPolicy | None = None
        self._protection = Protection(CounterTable(directory / "counters", 0), ProtectionSettings())

    def apply(self, changes: Changes) -> None:
        """Put a policy in force."""
        bodies = {name: resource.body for name, resource in changes.resources.items()}
        self._received = ReceivedPolicy.read(bodies, changes.removed, self._received)
        received = self._received
        prepared = asyncio.run(self._protection.prepare(received.settings.limits))
        compiled = self._current.compile(received)
        self._protection.commit(prepared, compiled.breakers)
        self._current.current = compiled


def measure(models: int, directory: Path) -> None:
    """Print the times of a config with so many models."""
    blocks = [MODEL.format(number=number, port=number + 1) for number in range(models)]
    reader, worker, stages = ConfigReader(), Worker(directory, models), Stages()
    policy = ResourceSet.of({}, "")
    for edit in range(ROUNDS + 1):
        blocks[models // 2] = MODEL.format(number=models // 2, port=20_000 + edit)
        text, first = AUTH + "".join(blocks), "first " if edit == 0 else ""
        with stages.timed(f"{first}read"):
            config, place = reader.read(text, "gateway.yaml")
        with stages.timed(f"{first}check"):
            loaded = check_files(config, directory, MAY_RUN_ELSEWHERE, place)
        with stages.timed(f"{first}compile"):
            snapshot = compile_config(loaded, config).snapshot
        policy, before = snapshot.types[POLICY], policy
        with stages.timed(f"{first}worker"):
            worker.apply(policy.changes_since(before))
        limits = LIMITS.format(rate=1000 + edit)
        config, place = reader.read(limits + text, "gateway.yaml")
        loaded = check_files(config, directory, MAY_RUN_ELSEWHERE, place)
        with stages.timed(f"{first}compile of a limit"):
            compile_config(loaded, config)
    print(f"{models:6} models, ms: {stages}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", type=int, default=[1, 1_000, 10_000])
    for models in parser.parse_args().models:
        with tempfile.TemporaryDirectory() as folder:
            measure(models, Path(folder))


if __name__ == "__main__":
    main()
