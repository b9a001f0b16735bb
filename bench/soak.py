"""Checks that a callout worker under load neither grows in memory nor leaks streams.

`wrk` sends requests for several minutes, and Envoy calls the worker for each. The worker has the
full policy. Memory is compared after a warm-up. Run it with `python -m bench.soak --minutes 10`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import wrk
from bench.callout import PATH
from bench.envoy_config import Variant, gateway_config
from bench.processes import envoy, free_port, local_address, resident_bytes, serving
from bench.tokens import token_and_jwks

SAMPLE_SECONDS = 5.0
WARM_UP_SECONDS = 60.0
MAX_CHANGE = 0.05
"""Maximum change of the resident memory after the warm-up, as a fraction."""
UNUSED_PORT = 1

Sample = tuple[float, int]
"""Seconds since the start, and resident bytes."""


def main() -> int:
    """Run the check. Returns 1 if memory has changed too much or a stream has leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    wrk.require_wrk("bench-callout")
    variant = Variant("direct", "GET", "asyncio", "ext_proc", "full")
    token, key_set = token_and_jwks()
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as name, ExitStack() as stack:
        directory = Path(name)
        jwks = directory / "jwks.json"
        jwks.write_text(key_set)
        address = f"unix:{directory}/worker"
        argv = [sys.executable, "-m", "bench.callout_server", "asyncio", address, "full", str(jwks)]
        counters = stack.enter_context((directory / "counters").open("w+"))
        worker = stack.enter_context(serving(argv, address, stdout=counters))
        port = free_port()
        callouts = {("asyncio", "full"): address}
        config = gateway_config({variant: port}, local_address(UNUSED_PORT), callouts)
        stack.enter_context(envoy(config, directory / "gateway.json", [port]))
        load = start_load(port, token, options)
        samples = sample_memory(worker.pid, load, options.minutes * 60)
        report = load.communicate()[0]
        worker.terminate()
        worker.wait(30)
        counters.seek(0)
        open_streams = json.loads(counters.read())["open_streams"]
    print(report)
    return check(samples, open_streams)


def start_load(port: int, token: str, options: argparse.Namespace) -> "subprocess.Popen[str]":
    """Start wrk for the whole run."""
    headers = {"Authorization": f"Bearer {token}"}
    argv = wrk.command(port, PATH, headers, options.connections, options.minutes * 60)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def sample_memory(pid: int, load: "subprocess.Popen[str]", seconds: float) -> list[Sample]:
    """Sample the memory of a process while the load runs."""
    samples: list[Sample] = []
    began = time.monotonic()
    while load.poll() is None and time.monotonic() - began < seconds + 10:
        time.sleep(SAMPLE_SECONDS)
        samples.append((time.monotonic() - began, resident_bytes(pid)))
    return samples


def check(samples: list[Sample], open_streams: int) -> int:
    """Print the result. Returns 1 if memory has changed too much or a stream is still open."""
    warm_up = min(WARM_UP_SECONDS, samples[-1][0] / 2)
    sizes = [size for seconds, size in samples if seconds >= warm_up]
    change = max(abs(size - sizes[0]) for size in sizes) / sizes[0]
    print(
        f"RSS after warm-up {sizes[0] / 1e6:.1f} MB, then {min(sizes) / 1e6:.1f} to"
        f" {max(sizes) / 1e6:.1f} MB: changed by {change:.1%} at most;"
        f" open streams: {open_streams}"
    )
    return int(change > MAX_CHANGE or open_streams != 0)


if __name__ == "__main__":
    sys.exit(main())
