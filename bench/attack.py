"""Measures what two hostile clients do to an honest client of another model.

A `sluice up` with two workers converts bodies. One attacker sends the worst JSON documents, another
one the worst pictures, each at full rate from an address of its own. The honest client sends small
JSON documents, larger ones and JPEGs at a constant rate. A latency counts from the time at which
the request was due, so a client that waits hides no delay. The model server is an Envoy that
responds at once. Run it with `python -m bench.attack`.
"""

import argparse
import http.client
import multiprocessing
import tempfile
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue

from bench.convert import encoded, photo
from bench.envoy_config import upstream_config
from bench.kill import Gateway
from bench.ports import GatewayPorts
from bench.processes import envoy, free_port, local_address, resident_bytes, sluice_up
from bench.worst_bodies import v2_elements
from bench.worst_images import png

HONEST, JSON_ATTACKER, PICTURE_ATTACKER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
SIDE, TENSOR_SIDE = 224, 32
TIMEOUT = 15.0
WARM_UP = 2.0
NO_RESPONSE = "no response"
GOAL_SUCCESS, GOAL_P99 = 0.999, 0.25


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a client."""

    name: str
    path: str
    content_type: str
    body: bytes


@dataclass(slots=True)
class Results:
    """Statuses and latencies in seconds, by name of the request."""

    statuses: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    waited: float = 0.0
    """Share of the time in which the client's main thread waited for a CPU."""

    def add(self, name: str, status: str, seconds: float) -> None:
        """Record a response."""
        self.statuses[name][status] += 1
        self.seconds[name].append(seconds)


def json_attack() -> list[Request]:
    """An expensive document that is accepted, and one that is refused at its end."""
    path, media = "/v2/models/attacked/infer", "application/json"
    return [
        Request("10 MB of numbers", path, media, v2_elements(b"FP32", b"0.123456")),
        Request("10 MB, last wrong", path, media, v2_elements(b"FP32", b"0.123456", b'"x"')),
    ]


def picture_attack() -> list[Request]:
    """Interlaced pictures, the first with as many pixels as an input may have."""
    path, media = "/v2/models/attacked-images/infer", "image/png"
    return [
        Request(
            f"Adam7 {side} x {side}",
            path,
            media,
            png(side, side, row_filter=0, interlaced=True, level=9),
        )
        for side in (5000, 3000)
    ]


def honest_requests() -> list[Request]:
    """Requests that are converted on the event loop and on both kinds of threads."""
    path, images = "/v2/models/honest/infer", "/v2/models/honest-images/infer"
    small = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[4],"data":[1.5,2.5,3.5,4.5]}]}'
    numbers = b",".join([b"0.12345678"] * 3000)
    large = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[3000],"data":[%b]}]}' % numbers
    jpeg = encoded(photo(SIDE, SIDE), "JPEG")
    few = Request("JSON, 80 bytes", path, "application/json", small)
    many = Request("JSON, 33 KB", path, "application/json", large)
    return [few, many, few, Request("JPEG 224 x 224", images, "image/jpeg", jpeg)]


class Client:
    """Sends requests on keep-alive connections, each used by one thread."""

    def __init__(self, port: int, source: str) -> None:
        self._port = port
        self._source = source
        self._local = threading.local()

    def send(self, request: Request) -> str:
        """Send a request. Returns the status, with the reason of a refusal."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(
                "127.0.0.1", self._port, timeout=TIMEOUT, source_address=(self._source, 0)
            )
        try:
            connection.request(
                "POST", request.path, request.body, {"content-type": request.content_type}
            )
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._local.connection = None
            return NO_RESPONSE
        reason = response.headers.get("x-sluice-reason", "")
        return str(response.status) if response.status == 200 else f"{response.status} {reason}"


def attack(
    port: int, source: str, requests: Sequence[Request], connections: int, seconds: float
) -> Results:
    """Send requests at full rate on each connection."""
    client, results = Client(port, source), Results()
    end = time.monotonic() + seconds

    def work(first: int) -> None:
        for request in cycle([*requests[first:], *requests[:first]]):
            began = time.monotonic()
            if began >= end:
                return
            results.add(request.name, client.send(request), time.monotonic() - began)

    with ThreadPoolExecutor(connections) as executor:
        list(executor.map(work, [i % len(requests) for i in range(connections)]))
    return results


def honest(port: int, rate: float, seconds: float) -> Results:
    """Send `rate` requests per second, whether or not earlier ones have got a response."""
    client, results = Client(port, HONEST), Results()
    requests = cycle(honest_requests())

    def work(request: Request, due: float) -> None:
        status = client.send(request)
        results.add(request.name, status, time.monotonic() - due)

    began, waited = time.monotonic(), cpu_wait()
    with ThreadPoolExecutor(64) as executor:
        for sent in range(round(rate * seconds)):
            due = began + sent / rate
            time.sleep(max(0.0, due - time.monotonic()))
            executor.submit(work, next(requests), due)
    results.waited = (cpu_wait() - waited) / (time.monotonic() - began)
    return results


def cpu_wait() -> float:
    """Seconds in which the main thread was ready to run, but had no CPU (sched-stats.rst)."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def _in_process(
    target: "SimpleQueue[Results]", work: Callable[..., Results], arguments: Sequence[object]
) -> None:
    """Run a client in a process of its own, so that clients do not delay each other."""
    results = work(*arguments)
    target.put(Results(dict(results.statuses), dict(results.seconds), results.waited))


@contextmanager
def running_gateway(directory: Path) -> Iterator[tuple[Gateway, int]]:
    """Run the model server and the gateway. Yields it with the port of the metrics."""
    upstream, ports = free_port(), GatewayPorts()
    model = {
        "access": {"public": True}, "breaker": {"enabled": False},
        "versions": {"v1": {"endpoints": [{"address": local_address(upstream)}]}},
    }  # fmt: skip
    image = {
        "name": "image", "datatype": "UINT8", "shape": [-1, TENSOR_SIDE, TENSOR_SIDE, 3],
        "image": {"width": TENSOR_SIDE, "height": TENSOR_SIDE},
    }  # fmt: skip
    images = {**model, "inputs": [image]}
    numbers = {**model, "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}
    config = {
        **ports.sections(directory, workers=2),
        "requests": {"expose_reason": True},
        "limits": {"listener": None},
        "models": {
            "honest": numbers, "honest-images": images, "attacked": numbers,
            "attacked-images": images,
        },
    }  # fmt: skip
    with ExitStack() as stack:
        stack.enter_context(
            envoy(upstream_config(upstream), directory / "upstream.json", [upstream])
        )
        stack.enter_context(sluice_up(config, directory))
        yield Gateway(ports.listener, ports.http, ports.admin), ports.metrics


def measure(gateway: Gateway, metrics: int, options: argparse.Namespace) -> bool:
    """Run all clients at once, and print their results. Returns whether the goal is reached."""
    # Each worker imports the libraries with its first conversion.
    honest(gateway.listener, options.rate, WARM_UP)
    context = multiprocessing.get_context("spawn")
    port, seconds = gateway.listener, options.seconds
    clients: dict[str, tuple[Callable[..., Results], Sequence[object]]] = {
        "honest": (honest, (port, options.rate, seconds))
    }
    if "json" in options.attacks:
        arguments = (port, JSON_ATTACKER, json_attack(), options.connections, seconds)
        clients["JSON"] = (attack, arguments)
    if "pictures" in options.attacks:
        arguments = (port, PICTURE_ATTACKER, picture_attack(), options.connections, seconds)
        clients["pictures"] = (attack, arguments)
    queues = {name: context.SimpleQueue() for name in clients}
    processes = [
        context.Process(target=_in_process, args=(queues[name], *clients[name])) for name in clients
    ]
    for process in processes:
        process.start()
    peaks: Counter[int] = Counter()
    while processes[0].is_alive() and queues["honest"].empty():
        for pid in gateway.workers().values():
            try:
                peaks[pid] = max(peaks[pid], resident_bytes(pid))
            except OSError:
                continue
        time.sleep(0.2)
    results = {name: queue.get() for name, queue in queues.items()}
    for process in processes:
        process.join()
    for name in results:
        if name != "honest":
            _print_attacker(name, results[name], seconds)
    print("worker RSS at its peak:", ", ".join(f"{s / 2**20:.0f} MiB" for s in peaks.values()))
    print("worker starts:", *_starts(metrics))
    return _print_honest(results["honest"])


def _print_attacker(name: str, results: Results, seconds: float) -> None:
    for request, statuses in results.statuses.items():
        rate = sum(statuses.values()) / seconds
        print(f"{name}: {request}: {rate:.1f} requests/s: {_listed(statuses)}")


def _print_honest(results: Results) -> bool:
    print(
        f"{'honest client':<20}{'requests':>9}{'success':>9}{'p50 ms':>8}{'p99 ms':>8}{'max ms':>8}"
    )
    everything = Results()
    for name, statuses in results.statuses.items():
        everything.statuses["all"].update(statuses)
        everything.seconds["all"] += results.seconds[name]
    success, p99 = 0.0, 0.0
    for found in (results, everything):
        for name, statuses in found.statuses.items():
            ordered = sorted(found.seconds[name])
            count = len(ordered)
            success = statuses["200"] / count
            p50, p99 = ordered[count // 2], ordered[int(count * 0.99)]
            print(
                f"{name:<20}{count:>9}{success:>9.2%}{p50 * 1e3:>8.1f}{p99 * 1e3:>8.1f}"
                f"{ordered[-1] * 1e3:>8.0f}  {_listed(statuses)}"
            )
    print(f"the honest client waited for a CPU in {results.waited:.0%} of the time")
    return success >= GOAL_SUCCESS and p99 <= GOAL_P99


def _listed(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))


def _starts(metrics: int) -> list[str]:
    with urllib.request.urlopen(f"http://{local_address(metrics)}/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    return [line.rpartition(" ")[2] for line in lines if line.startswith("sluice_worker_starts_to")]


def main() -> int:
    """Run the attack. Returns 1 if the honest client did not get what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=50.0, help="requests/s of the honest client")
    parser.add_argument("--connections", type=int, default=8, help="connections of each attacker")
    parser.add_argument("--attacks", nargs="*", default=["json", "pictures"])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="sluice-bench-") as name,
        running_gateway(Path(name)) as (gateway, metrics),
    ):
        reached = measure(gateway, metrics, options)
    print("the goal is reached" if reached else "the goal is not reached")
    return int(not reached)


if __name__ == "__main__":
    raise SystemExit(main())
