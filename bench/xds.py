"""Measures how a change of one endpoint reaches many clients of the incremental variant.

    python -m bench.xds [--clients N ...] [--clusters N ...] [--plane whole|publish]

Client processes hold many simulated Envoys. Each is a gRPC client with a connection of its own,
which subscribes to all clusters and to the endpoints of each. Then one endpoint changes again and
again: by the admin API of a whole control plane with a history in SQLite (`whole`), or by a server
that only publishes snapshots (`publish`). The time of a change counts from the request until the
last client has the new endpoint. Prints for each size the times, the bytes and responses of a
client, and CPU time and resident memory of the server.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc.aio
import uvloop

from bench.patch import MERGE_PATCH, Call
from bench.processes import cpu_seconds, free_port, local_address, resident_bytes, serving
from protos.discovery_pb2 import DeltaDiscoveryRequest, DeltaDiscoveryResponse
from sluice.config.checked import check_files
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from sluice.config.reader import ConfigReader
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.resources.compiled import compile_config

METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
OPTIONS: Final = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
]
"""Each client has a connection of its own."""

STARTED_AT_ONCE: Final = 20
SETTLE: Final = 2.0
"""Seconds after each change, until the server has read all acknowledgements."""

CHANGED: Final = 0
"""The number of the model whose endpoint changes."""


def config_text(clusters: int, xds: int, http: int, port: int) -> str:
    """A config with one cluster for each model. `port` is that of the endpoint that changes."""
    text = f"control_plane: {{xds: '127.0.0.1:{xds}', http: '127.0.0.1:{http}'}}\nmodels:\n"
    return text + "".join(
        f"  m{number:05}:\n    access: {{public: true}}\n    versions:\n      v1:\n"
        "        endpoints:\n"
        f"          - address: 10.0.0.1:{port if number == CHANGED else 9000}\n"
        for number in range(clusters)
    )


@dataclass(slots=True)
class Client:
    """One simulated Envoy. `names` are the clusters whose endpoints it requests."""

    id: str
    names: Sequence[str]
    received: int = 0
    responses: int = 0
    changed_at: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, port: int) -> None:
        """Subscribe, and acknowledge every response, until cancelled."""
        async with grpc.aio.insecure_channel(local_address(port), OPTIONS) as channel:
            call = channel.stream_stream(
                METHOD, request_serializer=DeltaDiscoveryRequest.SerializeToString
            )(wait_for_ready=True)
            clusters, endpoints = resource_types.CLUSTER.url, resource_types.ENDPOINT.url
            subscribe = DeltaDiscoveryRequest(type_url=clusters)
            subscribe.node.id = self.id
            await call.write(subscribe)
            known = False
            while True:
                message = await call.read()
                if message is grpc.aio.EOF:
                    raise RuntimeError(f"the server has closed the stream of {self.id}")
                self.received += len(message)
                self.responses += 1
                response = DeltaDiscoveryResponse.FromString(message)
                url = response.type_url
                await call.write(DeltaDiscoveryRequest(type_url=url, response_nonce=response.nonce))
                if url == endpoints:
                    self.changed_at = time.time()
                    self.changed.set()
                elif not known:
                    known = True
                    await call.write(
                        DeltaDiscoveryRequest(
                            type_url=endpoints, resource_names_subscribe=self.names
                        )
                    )


async def run_clients(port: int, first: int, count: int, clusters: int) -> None:
    """Hold clients. For each line of the input, wait until all have a change, and print a report.

    The first report comes when all clients have all endpoints.
    """
    names = [f"m{number:05}/v1" for number in range(clusters)]
    clients = [Client(f"envoy-{first + number}", names) for number in range(count)]
    async with asyncio.TaskGroup() as group:
        for number in range(0, count, STARTED_AT_ONCE):
            some = clients[number : number + STARTED_AT_ONCE]
            for client in some:
                group.create_task(client.run(port))
            await asyncio.gather(*(client.changed.wait() for client in some))
        while True:
            await asyncio.gather(*(client.changed.wait() for client in clients))
            at = [client.changed_at for client in clients]
            received = sum(client.received for client in clients)
            responses = sum(client.responses for client in clients)
            for client in clients:
                client.changed.clear()
            report = {"first": min(at), "last": max(at), "received": received}
            print(json.dumps({**report, "responses": responses}), flush=True)
            # The next line comes after the report of every process.
            if not await asyncio.to_thread(sys.stdin.readline):
                break
        raise SystemExit


async def publish(file: Path, port: int) -> None:
    """Serve the config of a file, and publish it again after each line of the input."""
    nodes = Nodes(time.time)
    server = XdsServer(nodes, local_address(port))
    reader = ConfigReader()
    await server.start()
    while True:
        text = await asyncio.to_thread(file.read_text)
        config, place = reader.read(text, str(file))
        loaded = check_files(config, file.parent, MAY_RUN_ELSEWHERE, place)
        nodes.publish(compile_config(loaded, config).snapshot)
        if not await asyncio.to_thread(sys.stdin.readline):
            return


@dataclass(frozen=True, slots=True)
class Report:
    """What all clients have received since their start. Times of the first and the last change."""

    first: float
    last: float
    received: int
    responses: int


class Clients:
    """The processes with the clients."""

    def __init__(self, stack: ExitStack, port: int, count: int, clusters: int, processes: int):
        self._processes = []
        for number in range(processes):
            begin, end = (count * each // processes for each in (number, number + 1))
            argv = [sys.executable, "-m", "bench.xds", "--hold"]
            argv += [str(each) for each in (port, begin, end - begin, clusters)]
            self._processes.append(stack.enter_context(_piped(argv)))

    def report(self) -> Report:
        """Wait until all clients have a change."""
        reports = []
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("a process with clients has ended")
            reports.append(json.loads(line))
        return Report(
            min(each["first"] for each in reports),
            max(each["last"] for each in reports),
            sum(each["received"] for each in reports),
            sum(each["responses"] for each in reports),
        )

    def expect_change(self) -> None:
        """Let the clients report again after the next change."""
        for process in self._processes:
            _send_line(process)


@contextmanager
def _piped(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _send_line(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


@dataclass(slots=True)
class Server:
    """The server: a whole control plane, or one that only publishes."""

    directory: Path
    clusters: int
    whole: bool
    xds: int = field(default_factory=free_port)
    http: int = field(default_factory=free_port)
    pid: int = 0
    _publisher: subprocess.Popen[str] | None = None

    def start(self, stack: ExitStack) -> None:
        """Start the process."""
        file = self._write(9000)
        if self.whole:
            log = stack.enter_context((self.directory / "log").open("w"))
            store = f"sqlite:{self.directory}/history.db"
            argv = [sys.executable, "-m", "sluice.cli", "control-plane", str(file)]
            addresses = [local_address(port) for port in (self.xds, self.http)]
            self.pid = stack.enter_context(
                serving([*argv, "--store", store], *addresses, stdout=log, stderr=log, timeout=120)
            ).pid
            return
        argv = [sys.executable, "-m", "bench.xds", "--publish", str(file), str(self.xds)]
        self._publisher = stack.enter_context(_piped(argv))
        self.pid = self._publisher.pid

    def change(self, number: int) -> None:
        """Change the endpoint."""
        port = 9001 + number
        if self._publisher is not None:
            self._write(port)
            _send_line(self._publisher)
            return
        endpoints = {"versions": {"v1": {"endpoints": [{"address": f"10.0.0.1:{port}"}]}}}
        Call("PATCH", f"/v1/models/m{CHANGED:05}", endpoints, MERGE_PATCH).send(self.http)

    def _write(self, port: int) -> Path:
        file = self.directory / "gateway.yaml"
        file.write_text(config_text(self.clusters, self.xds, self.http, port))
        return file


HEAD = (
    f"{'clients':>8}{'clusters':>9}{'connect s':>10}{'CPU s':>7}{'MiB':>6}{'RSS MiB':>9}"
    f"{'change: first ms':>18}{'all ms':>8}{'max ms':>8}{'CPU ms':>8}{'bytes':>7}{'responses':>10}"
    f"{'RSS MiB':>9}"
)
"""`MiB` and `bytes` are what one client receives: at its start, and after a change."""


def measure(clients: int, clusters: int, options: argparse.Namespace) -> None:
    """Print one line."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        server = Server(Path(directory), clusters, options.plane == "whole")
        server.start(stack)
        began, cpu = time.time(), cpu_seconds(server.pid)
        held = Clients(stack, server.xds, clients, clusters, options.processes)
        before = held.report()
        time.sleep(SETTLE)
        connected = (
            f"{clients:>8}{clusters:>9}{before.last - began:>10.1f}"
            f"{cpu_seconds(server.pid) - cpu:>7.1f}{before.received / clients / 2**20:>6.2f}"
            f"{resident_bytes(server.pid) >> 20:>9}"
        )
        start, cpu, firsts, lasts = before, cpu_seconds(server.pid), [], []
        for number in range(options.changes):
            held.expect_change()
            changed_at = time.time()
            server.change(number)
            latest = held.report()
            firsts.append((latest.first - changed_at) * 1000)
            lasts.append((latest.last - changed_at) * 1000)
            time.sleep(SETTLE)
        count = options.changes
        print(
            f"{connected}{sorted(firsts)[count // 2]:>18.0f}{sorted(lasts)[count // 2]:>8.0f}"
            f"{max(lasts):>8.0f}{(cpu_seconds(server.pid) - cpu) / count * 1000:>8.0f}"
            f"{(latest.received - start.received) / clients / count:>7.0f}"
            f"{(latest.responses - start.responses) / clients / count:>10.1f}"
            f"{resident_bytes(server.pid) >> 20:>9}",
            flush=True,
        )


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.xds", description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--clusters", type=int, nargs="+", default=[1000])
    parser.add_argument("--plane", choices=("whole", "publish"), default="whole")
    parser.add_argument("--changes", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2, help="processes with clients")
    parser.add_argument("--hold", nargs=4, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--publish", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold:
        uvloop.run(run_clients(*options.hold))
    elif options.publish:
        uvloop.run(publish(Path(options.publish[0]), int(options.publish[1])))
    else:
        print(HEAD)
        for clusters in options.clusters:
            for clients in options.clients:
                measure(clients, clusters, options)


if __name__ == "__main__":
    main()
