"""Measures the largest heap of Envoy while it loads a change of a whole config.

    python -m bench.envoy_heap [--models N ...] [--placement auto|callout] [--threads N]

A control plane without workers serves a config with N models of three versions, and then one in
which every version has another name and every model other rules, in the steps of a rollout. Prints
what Envoy's overload manager counts: the heap without what is free.
"""

import argparse
import asyncio
import copy
import json
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.gateway_config import Config, gateway, issuers
from bench.processes import ENVOY, serving
from sluice.bootstrap import render
from sluice.config.checked import LoadedConfig, load_checked
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from xds.protocol.nodes import Nodes
from xds.protocol.resource_types import ROUTE
from xds.protocol.server import XdsServer
from xds.resources.compiled import compile_config
from xds.rollout.rollout import Rollout

POLL = 0.005
"""Seconds between two readings of the heap."""

SETTLE = 5.0
"""Seconds in which Envoy loads its routes, and then frees what it needs no more."""


def changed(config: Config) -> Config:
    """The config with other names of all versions, and other rules."""
    other = copy.deepcopy(config)
    for model in other["models"].values():
        model["versions"] = {f"new-{name}": each for name, each in model["versions"].items()}
        model["stable"], model["timeout"] = "new-v1", "77s"
        model["claim_rules"] = [{"claim": "tier", "value": "silver", "version": "new-v3"}]
        model["canaries"] = [{"version": "new-v2", "percent": 20}]
    return other


def read(config: Config, directory: Path) -> LoadedConfig:
    """Read a config as the control plane does."""
    file = directory / "gateway.json"
    file.write_text(json.dumps(config))
    return load_checked(file, MAY_RUN_ELSEWHERE)


class Heap:
    """The heap of an Envoy. `largest`: bytes since the last call of `reset`."""

    def __init__(self, admin: str) -> None:
        self._url = f"http://{admin}/memory"
        self.largest = self.latest = 0

    def reset(self) -> None:
        """Forget the largest heap."""
        self.largest = 0

    async def follow(self) -> None:
        """Read the heap again and again, until the task is cancelled."""
        while True:
            with suppress(OSError):  # Envoy starts
                self.latest = await asyncio.to_thread(self._read)
                self.largest = max(self.largest, self.latest)
            await asyncio.sleep(POLL)

    def _read(self) -> int:
        with urllib.request.urlopen(self._url, timeout=60) as response:
            found = {key: int(value) for key, value in json.load(response).items()}
        return found["heap_size"] - found["pageheap_unmapped"] - found["pageheap_free"]


@contextmanager
def envoy(loaded: LoadedConfig, directory: Path, threads: int) -> Iterator[None]:
    """Run an Envoy that gets its config from the control plane of the config."""
    file = directory / "bootstrap.yaml"
    file.write_text(render(loaded.config, directory=directory))
    argv = [str(ENVOY), "-c", str(file), "--concurrency", str(threads)]
    argv += ["--disable-hot-restart", "--log-level", "error"]
    with serving(argv, loaded.config.envoy.admin):
        yield


async def measure(placement: str, models: int, threads: int, directory: Path) -> list[int]:
    """Bytes of the heap: at rest, largest at the start, largest during the change."""
    _, config = gateway(placement, models, threads, "127.0.0.1:9", issuers(), directory)
    config["envoy"]["max_heap"] = "64GiB"
    first, second = read(config, directory), read(changed(config), directory)
    nodes, heap = Nodes(time.time), Heap(first.config.envoy.admin)
    server, rollout = XdsServer(nodes, first.config.control_plane.xds), Rollout(nodes, 300.0)
    await server.start()
    tasks = [asyncio.create_task(each) for each in (rollout.run(), heap.follow())]
    largest = []
    with envoy(first, directory, threads):
        for loaded in (first, second):
            heap.reset()
            rollout.submit(compile_config(loaded, first.config))
            await rollout.ended.wait()
            rollout.ended.clear()
            while not any(ROUTE in node.stream.types for node in nodes):
                nodes.progress.clear()
                await nodes.progress.wait()
            await asyncio.sleep(SETTLE)
            largest.append(heap.largest)
    for task in tasks:
        task.cancel()
    await server.stop()
    return [heap.latest, *largest]


def main() -> None:
    """Measure each number of models."""
    parser = argparse.ArgumentParser(prog="python -m bench.envoy_heap", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[100, 500, 2000])
    parser.add_argument("--placement", choices=["auto", "callout"], default="auto")
    parser.add_argument("--threads", type=int, default=1, help="of Envoy")
    options = parser.parse_args()
    print(f"{'models':>6}{'versions':>10}{'at rest':>10}{'start':>8}{'change':>8} MiB")
    for models in options.models:
        with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
            found = asyncio.run(measure(options.placement, models, options.threads, Path(name)))
        rest, start, change = (each >> 20 for each in found)
        print(f"{models:>6}{3 * models:>10}{rest:>10}{start:>8}{change:>8}", flush=True)


if __name__ == "__main__":
    main()
