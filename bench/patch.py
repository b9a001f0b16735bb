"""Measures how long a change by the admin API takes to reach the traffic of a gateway.

    python -m bench.patch [--models N] [--changes N]

A `sluice up` with N models and a history in SQLite gets changes of one model, one after another: a
changed endpoint, another percentage of a canary, and a new model. The time of a change counts from
the request to the admin API to the first response that only the new config can give. Requests are
sent meanwhile, so a change may reach the traffic before the admin API responds. Prints the
distributions, the times of the steps, the bytes that were sent by type, and the CPU time.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.edits import (
    MAX_WAIT,
    SETTLE,
    Client,
    Config,
    ModelState,
    cpu_by_kind,
    model_servers,
    name,
    pushed_bytes,
    resident_by_kind,
    steps_since,
    wait_until_in_force,
)
from bench.ports import GatewayPorts
from bench.processes import sluice_up

KINDS = ("endpoint", "canary", "new model")
"""What a change does, in turn."""

IDLE = 5.0
"""Seconds of the measurement without changes."""

JSON = {"content-type": "application/json"}
MERGE_PATCH = {"content-type": "application/merge-patch+json"}


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the admin API. `headers` has the type of the body, if there is one."""

    method: str
    path: str
    body: object
    headers: Mapping[str, str]

    def send(self, port: int) -> int:
        """Send the request. Returns the revision. Raises RuntimeError if it is refused."""
        connection = http.client.HTTPConnection("127.0.0.1", port)
        body = None if self.body is None else json.dumps(self.body)
        connection.request(self.method, self.path, body, dict(self.headers))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{self.method} {self.path}: {response.status} {content!r}")
        revision: int = json.loads(content)["revision"]
        return revision


@dataclass(frozen=True, slots=True)
class Measured:
    """A change: seconds from the request to the traffic and to each step; bytes sent by type.

    `cpu`: CPU milliseconds by kind of process, in the `lasted` seconds until everything was quiet.
    """

    kind: str
    seconds: float
    steps: Mapping[str, float]
    sent: Counter[str]
    cpu: Counter[str]
    lasted: float


@dataclass(slots=True)
class Gateway:
    """The running gateway, its config and the number of configs that were in force."""

    config: Config
    ports: GatewayPorts
    client: Client
    log: Path
    up: int
    in_force: int = 1

    def change(self, kind: str, model: int) -> Measured:
        """Make a change, and wait until the gateway has nothing left to do."""
        call = _MAKE[kind](self.config, model)
        start, cpu = len(self.log.read_text()), cpu_by_kind(self.up)
        sent, responded = pushed_bytes(self.ports.http), 0.0

        def send() -> None:
            nonlocal responded
            call.send(self.ports.http)
            responded = time.time()

        began = time.time()
        sender = threading.Thread(target=send)
        sender.start()
        served = self.client.wait_for(name(model), self.config.expected(model))
        sender.join()
        self.in_force += 1
        wait_until_in_force(self.log, self.in_force)
        time.sleep(SETTLE)
        steps = {"response": responded - began, **steps_since(self.log, start, began)}
        return Measured(
            kind,
            served - began,
            steps,
            pushed_bytes(self.ports.http) - sent,
            cpu_by_kind(self.up) - cpu,
            time.time() - began,
        )


def _endpoint(config: Config, model: int) -> Call:
    state = config.states[model] = config.states[model].edited("endpoint")
    address = f"127.0.0.1:{config.servers[state.server]}"
    versions = {each: {"endpoints": [{"address": address}]} for each in ("v1", "v2", "v3")}
    return Call("PATCH", f"/v1/models/{name(model)}", {"versions": versions}, MERGE_PATCH)


def _canary(config: Config, model: int) -> Call:
    state = config.states[model] = config.states[model].edited("canary")
    path = f"/v1/models/{name(model)}/canaries/v3"
    return Call("PUT", path, {"percent": state.percent}, JSON)


def _new_model(config: Config, model: int) -> Call:
    assert model == len(config.states)
    config.states.append(ModelState())
    version = {"endpoints": [{"address": f"127.0.0.1:{config.servers[0]}"}]}
    body = {
        "type": "text-classification",
        "stable": "v1",
        "access": {"public": True},
        "bucket": {"header": "x-user"},
        "canaries": [{"version": "v3", "percent": 0}],
        "versions": dict.fromkeys(("v1", "v2", "v3"), version),
    }
    return Call("PUT", f"/v1/models/{name(model)}", body, JSON)


_MAKE: Mapping[str, Callable[[Config, int], Call]] = {
    "endpoint": _endpoint,
    "canary": _canary,
    "new model": _new_model,
}


def measure(options: argparse.Namespace, directory: Path) -> None:
    """Start a gateway, make the changes, and print the results."""
    log, store = directory / "log", f"sqlite:{directory}/history.db"
    with model_servers() as servers:
        ports = GatewayPorts()
        states = [ModelState() for _ in range(options.models)]
        config = Config(servers, ports.sections(directory), states, 1, options.placement)
        with sluice_up(config.text(), directory, "--store", store, timeout=MAX_WAIT * 10) as up:
            client = Client(ports.listener)
            client.wait_for(name(0), config.expected(0))
            wait_until_in_force(log, 1)
            gateway = Gateway(config, ports, client, log, up)
            print(f"{options.models} models, resident MiB: {resident_by_kind(up)}", flush=True)
            print(f"CPU ms in a second without changes: {idle_cpu(up)}", flush=True)
            done = []
            for number in range(options.changes):
                kind = options.kinds[number % len(options.kinds)]
                model = len(states) if kind == "new model" else number % options.models
                done.append(gateway.change(kind, model))
            print(f"resident MiB after the changes: {resident_by_kind(up)}")
    report(done)


def idle_cpu(up: int) -> dict[str, int]:
    """CPU milliseconds that each kind of process uses in a second without changes."""
    time.sleep(IDLE)  # the start is over
    before = cpu_by_kind(up)
    time.sleep(IDLE)
    return {kind: round(used / IDLE) for kind, used in (cpu_by_kind(up) - before).items()}


def report(done: Sequence[Measured]) -> None:
    """Print the times in ms, the medians of the steps, the bytes and the CPU time."""
    kinds = ("all", *dict.fromkeys(each.kind for each in done))
    groups = {kind: [each for each in done if kind in ("all", each.kind)] for kind in kinds}
    print_distributions({kind: [e.seconds for e in members] for kind, members in groups.items()})
    for kind, members in groups.items():
        if kind != "all":
            _report_kind(kind, members)


def print_distributions(groups: Mapping[str, Sequence[float]]) -> None:
    """Print the distribution of the times of each group, which are in seconds, in ms."""
    print(f"{'ms':<10}{'count':>6}{'min':>6}{'median':>8}{'p90':>6}{'p99':>6}{'max':>6}")
    for group, seconds in groups.items():
        taken = sorted(each * 1000 for each in seconds)
        p90, p99 = (taken[int(len(taken) * share)] for share in (0.9, 0.99))
        print(
            f"{group:<10}{len(taken):>6}{taken[0]:>6.0f}{statistics.median(taken):>8.0f}"
            f"{p90:>6.0f}{p99:>6.0f}{taken[-1]:>6.0f}"
        )


def _report_kind(kind: str, members: Sequence[Measured]) -> None:
    """Print the median of each step, in ms, and means of bytes and CPU milliseconds."""
    names = dict.fromkeys(step for each in members for step in each.steps)
    steps = {
        step: round(statistics.median([e.steps[step] for e in members if step in e.steps]) * 1000)
        for step in names
    }
    sent, cpu = Counter[str](), Counter[str]()
    for each in members:
        sent.update(each.sent)
        cpu.update(each.cpu)
    print(f"{kind}: median ms of steps {dict(sorted(steps.items(), key=lambda each: each[1]))}")
    print(f"  bytes a change {_mean(sent, len(members))}")
    lasted = statistics.fmean(each.lasted for each in members)
    print(f"  CPU ms a change {_mean(cpu, len(members))}, in {lasted:.1f} s")


def _mean(total: Counter[str], count: int) -> dict[str, int]:
    return {name: round(amount / count) for name, amount in total.items()}


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.patch", description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--placement", default="auto", help="auto or callout")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure(options, Path(directory))


if __name__ == "__main__":
    main()
