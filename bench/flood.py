"""Measures what a flood from one address does to an honest client at another address.

A `sluice up` runs with the default limits, in front of an Envoy that replaces the model server.
`wrk` floods it without credentials from 127.0.0.1, and the honest client sends requests with an API
key from 127.0.0.2. Run it with `python -m bench.flood`.
"""

import argparse
import hashlib
import http.client
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from bench import wrk
from bench.envoy_config import upstream_config
from bench.ports import GatewayPorts
from bench.processes import envoy, free_port, local_address, sluice_up

PATH = "/v2/models/bench"
KEY = "bench-key"
HONEST_SOURCE = "127.0.0.2"
WARM_UP = 2.0
"""Seconds in which the flood empties the buckets."""


def main() -> None:
    """Run the honest client without and with the flood, and print the statuses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds of each part")
    parser.add_argument("--connections", type=int, default=4, help="connections of the flood")
    parser.add_argument("--rate", type=int, default=50, help="requests/s of the honest client")
    options = parser.parse_args()
    wrk.require_wrk("bench-callout")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        upstream, ports = free_port(), GatewayPorts()
        listener = ports.listener
        stack.enter_context(envoy(upstream_config(upstream), directory / "model.json", [upstream]))
        stack.enter_context(sluice_up(gateway_config(ports, upstream, directory), directory))
        _print("alone", honest(listener, options.rate, options.seconds))
        argv = wrk.command(listener, PATH, {}, options.connections, options.seconds + 2 * WARM_UP)
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as flood:
            time.sleep(WARM_UP)
            _print("during the flood", honest(listener, options.rate, options.seconds))
            report = wrk.parse(flood.communicate()[0])
    print(f"the flood: {report.rate:.0f} requests/s")


def gateway_config(ports: GatewayPorts, upstream: int, directory: Path) -> dict[str, object]:
    """A gateway with one model and the default limits."""
    endpoint = {"address": local_address(upstream)}
    key = {"name": "honest", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}
    return {
        **ports.sections(directory),
        "auth": {"api_keys": [key]},
        "models": {"bench": {"versions": {"v1": {"endpoints": [endpoint]}}}},
    }


def honest(port: int, rate: int, seconds: float) -> Counter[int]:
    """Send `rate` requests per second on one connection, and count the statuses."""
    source = (HONEST_SOURCE, 0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=source)
    statuses: Counter[int] = Counter()
    began = time.monotonic()
    for sent in range(round(rate * seconds)):
        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        connection.request("GET", PATH, headers={"x-api-key": KEY})
        response = connection.getresponse()
        response.read()
        statuses[response.status] += 1
    connection.close()
    return statuses


def _print(name: str, statuses: Counter[int]) -> None:
    total = sum(statuses.values())
    shares = ", ".join(f"{s}: {n / total:.1%}" for s, n in sorted(statuses.items()))
    print(f"honest client {name}: {total} requests, {shares}")


if __name__ == "__main__":
    main()
