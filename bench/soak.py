"""A callout worker under full load for minutes: does its memory stay, are all streams closed?

Envoy asks the worker for every request, with the full policy; `wrk` keeps it busy. The first minute
is warm-up. Run it by `python -m bench.soak --minutes 10`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from bench.callout import PATH, Variant, gateway_config
from bench.processes import envoy, free_port, resident_bytes, serving, wrk
from bench.tokens import token_and_jwks

SAMPLE_EVERY = 5.0
WARM_UP = 60.0
ALLOWED = 0.05


def main() -> int:
    """Run, sample, judge; the exit status is 1 where memory grew or a stream leaked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    variant = Variant("direct", "asyncio", "ext_proc", "full")
    token, jwks = token_and_jwks()
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as name, ExitStack() as stack:
        directory = Path(name)
        (directory / "jwks.json").write_text(jwks)
        address = f"unix:{directory}/worker"
        argv = [sys.executable, "-m", "bench.callout_server", "asyncio", address, "full"]
        counters = stack.enter_context((directory / "counters").open("w+"))
        argv += [str(directory / "jwks.json")]
        worker = stack.enter_context(serving(argv, address, stdout=counters))
        port = free_port()
        config = gateway_config({variant: port}, "127.0.0.1:1", {("asyncio", "full"): address})
        stack.enter_context(envoy(config, directory / "gateway.json", [port]))
        load = start_load(port, token, options)
        samples = sample(worker.pid, load, options.minutes * 60)
        report = load.communicate()[0]
        worker.terminate()
        worker.wait(30)
        counters.seek(0)
        open_streams = json.loads(counters.read())["open_streams"]
    print(report)
    return judge(samples, open_streams)


def start_load(port: int, token: str, options: argparse.Namespace) -> "subprocess.Popen[str]":
    """wrk against the listener, for the whole time."""
    sent = {"Authorization": f"Bearer {token}"}
    argv = wrk(port, PATH, sent, options.connections, options.minutes * 60)
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def sample(pid: int, load: "subprocess.Popen[str]", seconds: float) -> list[tuple[float, int]]:
    """Seconds since the start, and resident bytes then."""
    found: list[tuple[float, int]] = []
    began = time.monotonic()
    pause = threading.Event()
    while load.poll() is None and time.monotonic() - began < seconds + 10:
        pause.wait(SAMPLE_EVERY)
        found.append((time.monotonic() - began, resident_bytes(pid)))
    return found


def judge(samples: list[tuple[float, int]], open_streams: int) -> int:
    """Print what was seen; 1 where it is not good."""
    warm = [size for when, size in samples if when >= min(WARM_UP, samples[-1][0] / 2)]
    change = max(abs(size - warm[0]) for size in warm) / warm[0]
    print(f"RSS after warm-up {warm[0] / 1e6:.1f} MB, then {min(warm) / 1e6:.1f} to ", end="")
    print(f"{max(warm) / 1e6:.1f} MB: {change:.1%} at most; streams left open: {open_streams}")
    return int(change > ALLOWED or open_streams != 0)


if __name__ == "__main__":
    sys.exit(main())
