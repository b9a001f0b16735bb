"""Measures what clients see when a callout worker is killed, and when one hangs.

A `sluice up` with two workers gets requests at a constant rate in three phases: undisturbed, with
SIGKILL of one worker after another, and with SIGSTOP of one worker until it is replaced. The model
server is an Envoy that responds at once. A latency counts from the time at which the request was
due, so a client that waits hides no delay. Run it with `python -m bench.kill`.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from bench.callout import PATH
from bench.callout_server import full_policy
from bench.envoy_config import upstream_config
from bench.ports import GatewayPorts
from bench.processes import envoy, free_port, local_address, sluice_up
from bench.tokens import token_and_jwks
from sluice.contract.names import CALLOUT_CLUSTER

TICK = 0.002
"""Seconds between two batches of requests."""
POLL = 0.05
"""Seconds between two readings of Envoy's view of the workers."""
MAX_CONNECTIONS = 2000
FIRST_CONNECTIONS = 128
REQUEST_TIMEOUT = 15.0
"""Seconds. A request without a response after this time counts as failed."""
REPLACEMENT_TIMEOUT = 30.0

NO_RESPONSE = "no response"
HEAD = f"{'':<24}{'requests':>9}{'failed':>8}{'p50 ms':>9}{'p99 ms':>9}{'p99.9 ms':>9}{'max ms':>9}"


@dataclass(slots=True)
class Results:
    """Every request of a phase: latencies in seconds, and number of requests by status."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)

    def report(self, phase: str) -> str:
        """One line: requests, failures and latencies in ms."""
        ordered = sorted(self.latencies)
        failed = {status: n for status, n in sorted(self.statuses.items()) if status != "200"}
        p50, p99, p999 = (ordered[int(len(ordered) * q)] * 1e3 for q in (0.5, 0.99, 0.999))
        return (
            f"{phase:<24}{len(ordered):>9}{sum(failed.values()):>8}{p50:>9.2f}{p99:>9.1f}"
            f"{p999:>9.1f}{ordered[-1] * 1e3:>9.0f}  {failed or ''}"
        )


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._received = b""
        self.due: float | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection into use."""
        # The transports of uvloop are no subclasses of asyncio.Transport.
        self.transport = cast("asyncio.Transport", transport)
        self._load.on_idle(self)

    def send(self, due: float) -> None:
        """Send the request that is due."""
        assert self.transport is not None
        self.due, self._received = due, b""
        self.transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Read until the response is complete."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or self.due is None:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if len(body) < int(length or 0):
            return
        due, self.due = self.due, None
        self._load.record(head[9:12].decode(), due)
        self._load.on_idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the request that got no response."""
        if self.due is not None:
            self._load.record(NO_RESPONSE, self.due)
            self.due = None
        self._load.on_lost(self)


class Load:
    """Sends requests at a constant rate, on as many connections as the open requests need."""

    def __init__(self, port: int, token: str, rate: float) -> None:
        self._port, self._rate = port, rate
        lines = (f"GET {PATH} HTTP/1.1", "host: bench", f"authorization: Bearer {token}")
        self.request = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self._idle: list[Connection] = []
        self._connections: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: deque[float] = deque()
        self.results = Results()

    async def run(self) -> None:
        """Send until cancelled."""
        sent, began = 0, time.monotonic()
        for _ in range(FIRST_CONNECTIONS):
            self._open()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            while (due := began + sent / self._rate) <= now:
                sent += 1
                self._send(due)
            self._abandon(now - REQUEST_TIMEOUT)

    def take_results(self) -> Results:
        """The results since the last call."""
        results, self.results = self.results, Results()
        return results

    def record(self, status: str, due: float) -> None:
        """Record the end of a request."""
        self.results.statuses[status] += 1
        self.results.latencies.append(time.monotonic() - due)

    def on_idle(self, connection: Connection) -> None:
        """Send a waiting request, or keep the connection for the next one."""
        self._connections.add(connection)
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def on_lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)

    def _send(self, due: float) -> None:
        if self._idle:
            self._idle.pop().send(due)
            return
        self._waiting.append(due)
        if len(self._connections) + len(self._opening) < MAX_CONNECTIONS:
            self._open()

    def _open(self) -> None:
        task = asyncio.ensure_future(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._port)

    def _abandon(self, before: float) -> None:
        for connection in [c for c in self._connections if c.due is not None and c.due < before]:
            assert connection.transport is not None
            connection.transport.abort()


@dataclass(frozen=True, slots=True)
class Gateway:
    """Ports of a running gateway."""

    listener: int
    http: int
    admin: int

    def workers(self) -> dict[str, int]:
        """Process ids of the workers that the control plane knows, by index."""
        nodes = _fetch(f"http://{local_address(self.http)}/v1/status")["nodes"]
        return {
            node["id"].rpartition("-")[2]: node["pid"]
            for node in nodes
            if node["kind"] == "callout"
        }

    def in_rotation(self) -> dict[str, bool]:
        """Whether Envoy sends requests to a worker, by index."""
        clusters = _fetch(f"http://{local_address(self.admin)}/clusters?format=json")
        (callout,) = (c for c in clusters["cluster_statuses"] if c["name"] == CALLOUT_CLUSTER)
        return {
            host["address"]["pipe"]["path"].rpartition("-")[2]: _is_healthy(host["health_status"])
            for host in callout["host_statuses"]
        }


def _is_healthy(status: dict[str, object]) -> bool:
    return not any(value is True for value in status.values())


def _fetch(url: str) -> Mapping[str, Any]:
    with urllib.request.urlopen(url, timeout=5) as response:
        found: Mapping[str, Any] = json.load(response)
    return found


async def seconds_until(
    condition: Callable[[], bool], began: float, limit: float = REPLACEMENT_TIMEOUT
) -> float | None:
    """Wait for a condition. Returns the seconds since `began`; None after `limit` seconds."""
    while not await asyncio.to_thread(condition):
        if time.monotonic() - began > limit:
            return None
        await asyncio.sleep(POLL)
    return time.monotonic() - began


async def disturb(
    gateway: Gateway, index: str, number: int, resume_after: float = REPLACEMENT_TIMEOUT
) -> str:
    """Send a signal to a worker, and report when Envoy avoids it and when it is replaced.

    A stopped worker that nobody has replaced after `resume_after` seconds continues.
    """
    pid = (await asyncio.to_thread(gateway.workers))[index]
    began = time.monotonic()
    os.kill(pid, number)
    out = await seconds_until(lambda: not gateway.in_rotation()[index], began, 5.0)
    replaced = await seconds_until(lambda: _is_replaced(gateway, index, pid), began, resume_after)
    if replaced is None and number == signal.SIGSTOP:
        os.kill(pid, signal.SIGCONT)
    back = await seconds_until(lambda: gateway.in_rotation()[index], began)
    return f"{_seconds(out)} out, {_seconds(replaced)} new process, {_seconds(back)} back"


def _is_replaced(gateway: Gateway, index: str, pid: int) -> bool:
    return gateway.workers().get(index, pid) != pid


def _seconds(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.2f} s"


@contextmanager
def running_gateway(directory: Path, jwks: str) -> Iterator[Gateway]:
    """Run the model server and the gateway."""
    upstream, ports = free_port(), GatewayPorts()
    config = {
        **full_policy(jwks, local_address(upstream)),
        **ports.sections(directory, workers=2),
        "limits": {"listener": None},
    }  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(
            envoy(upstream_config(upstream), directory / "upstream.json", [upstream])
        )
        stack.enter_context(sluice_up(config, directory))
        yield Gateway(ports.listener, ports.http, ports.admin)


async def measure(gateway: Gateway, token: str, options: argparse.Namespace) -> None:
    """Run the phases under load, and print a line for each."""
    load = Load(gateway.listener, token, options.rate)
    sending = asyncio.create_task(load.run())
    await asyncio.sleep(options.seconds)
    print(HEAD)
    print(load.take_results().report("undisturbed"), flush=True)
    notes = []
    for kill in range(options.kills):
        began = time.monotonic()
        notes.append(await disturb(gateway, str(kill % 2), signal.SIGKILL))
        await asyncio.sleep(max(0.0, 2.0 - (time.monotonic() - began)))
    print(load.take_results().report(f"SIGKILL x{options.kills}"))
    print(*(f"    {note}" for note in notes), sep="\n", flush=True)
    note = await disturb(gateway, "0", signal.SIGSTOP, options.resume_after)
    await asyncio.sleep(1.0)
    print(load.take_results().report("SIGSTOP"))
    print(f"    {note}", flush=True)
    sending.cancel()


def main() -> None:
    """Start a gateway and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=1500.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=8.0, help="seconds without disturbance")
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument(
        "--resume-after", type=float, default=REPLACEMENT_TIMEOUT,
        help="seconds until a stopped worker continues, if it is not replaced before",
    )  # fmt: skip
    options = parser.parse_args()
    token, jwks = token_and_jwks()
    with (
        tempfile.TemporaryDirectory(prefix="sluice-bench-") as name,
        running_gateway(Path(name), jwks) as gateway,
    ):
        uvloop.run(measure(gateway, token, options))


if __name__ == "__main__":
    main()
