"""`python -m bench.redis_leases`: what a lease request costs Redis and a worker.

Starts a `redis-server` without persistence, and sends lease requests for a token bucket of each of
many keys, in batches as `LeasedBudgets` does. Prints the CPU time of Redis and of the client for
one lease request, and the memory of Redis for one budget.
"""

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import cpu_seconds, free_port, resident_bytes
from extproc.limits.arithmetic import Algorithm, LeaseRequest, Limit
from extproc.limits.leases import MAX_BATCH
from extproc.limits.redis import redis_store
from sluice.config.limit_backend import LimitBackend

MICROS = 1_000_000
START_TIMEOUT = 10.0

HOUR = Limit(Algorithm.TOKEN_BUCKET, rate=100_000, unit=3600 * MICROS, capacity=1000)
"""A budget that stays in Redis while the benchmark runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=20_000, help="number of budgets")
    parser.add_argument("--rounds", type=int, default=3, help="lease requests for each budget")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, MAX_BATCH])
    options = parser.parse_args()
    print("| requests in a batch | CPU of Redis, us | CPU of the client, us | bytes of a budget |")
    print("|---|---|---|---|")
    for batch in options.batches:
        with redis_server() as (port, process):
            print(asyncio.run(measure(port, process, batch, options.keys, options.rounds)))


async def measure(port: int, process: int, batch: int, keys: int, rounds: int) -> str:
    """A row of the table."""
    backend = LimitBackend(kind="redis", urls=(f"redis://127.0.0.1:{port}/0",), timeout=5)
    store = redis_store(backend)
    await store.exchange([request("warm-up", 1)])
    before, memory = cpu_seconds(process), resident_bytes(process)
    own = time.process_time()
    for sequence in range(1, rounds + 1):
        for start in range(0, keys, batch):
            names = (f"subject-{n}" for n in range(start, min(start + batch, keys)))
            await store.exchange([request(name, sequence) for name in names])
    own = time.process_time() - own
    used, grown = cpu_seconds(process) - before, resident_bytes(process) - memory
    await store.close()
    count = keys * rounds / MICROS
    return f"| {batch} | {used / count:.1f} | {own / count:.1f} | {grown / keys:.0f} |"


def request(key: str, sequence: int) -> LeaseRequest:
    """A holder asks for a token of a budget."""
    return LeaseRequest(key, HOUR, "worker", sequence, 0, 0, want=1, lifetime=2 * MICROS)


@contextmanager
def redis_server() -> Iterator[tuple[int, int]]:
    """The port and the process id of a server."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        argv = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(argv, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while "Ready to accept" not in log.read_text():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, "redis-server does not start"
                time.sleep(0.05)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
