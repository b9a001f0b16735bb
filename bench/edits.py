"""Measures how long a gateway with many models takes to start, and to follow an edit of one model.

A `sluice up` gets a config with N models. Then the file is edited again and again: each edit
changes the endpoint, the stable version or the canary of one model, by rename or in place, and the
time counts from the write to the first response that only the new config can give. The log of the
control plane gives the times of its steps. Run it with `python -m bench.edits`.
"""

import argparse
import asyncio
import http.client
import re
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import yaml

from bench.ports import GatewayPorts
from bench.processes import (
    cpu_seconds,
    free_port,
    processes_by_kind,
    resident_bytes,
    sluice_up,
)
from sluice.contract.headers import MODEL_SERVICE

POLL = 0.005
"""Seconds between two requests that ask whether an edit has reached the traffic."""

MAX_WAIT = 60.0
"""Seconds after which an edit counts as lost."""

KINDS = ("endpoint", "version", "canary")
"""What an edit changes."""

STEPS = {
    "valid": "is valid: version",
    "make": "step make",
    "decide": "step decide",
    "switch": "step switch",
    "workers": r"policy \w+ is in force",
    "in force": r"version \w+ is in force",
}
"""Steps of the control plane, and the pattern of the line in the log when the step begins.

`workers`: a worker decides by the new config."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """What an edit can change of a model. `server`: index of the model server of its versions."""

    server: int = 0
    stable: str = "v1"
    percent: int = 0

    def edited(self, kind: str) -> "ModelState":
        """The state after an edit."""
        if kind == "endpoint":
            return replace(self, server=1 - self.server)
        if kind == "version":
            return replace(self, stable="v2" if self.stable == "v1" else "v1")
        return replace(self, percent=100 - self.percent)


@dataclass(slots=True)
class Config:
    """A config with many models, as YAML. `addresses`: the sections of `GatewayPorts`."""

    servers: Sequence[int]
    addresses: Mapping[str, object]
    states: list[ModelState]
    endpoints: int
    placement: str = "auto"

    def text(self) -> str:
        """The whole file."""
        head = yaml.safe_dump({"placement": self.placement, **self.addresses}) + "models:\n"
        return head + "".join(self._model(n, state) for n, state in enumerate(self.states))

    def _model(self, number: int, state: ModelState) -> str:
        versions = "".join(self._version(version, state) for version in ("v1", "v2", "v3"))
        return (
            f"  {name(number)}:\n    type: text-classification\n    stable: {state.stable}\n"
            "    access: {public: true}\n    bucket: {header: x-user}\n"
            f"    canaries:\n      - version: v3\n        percent: {state.percent}\n"
            f"    versions:\n{versions}"
        )

    def _version(self, version: str, state: ModelState) -> str:
        port = self.servers[state.server]
        members = "".join(
            f"          - address: 127.0.0.{number + 1}:{port}\n"
            for number in range(self.endpoints)
        )
        return f"      {version}:\n        endpoints:\n{members}"

    def expected(self, number: int) -> str:
        """What a model server answers to a request for a model, if the config is in force."""
        state = self.states[number]
        version = "v3" if state.percent else state.stable
        return f"{self.servers[state.server]} {name(number)}/{version}"


def name(number: int) -> str:
    """The name of a model."""
    return f"model-{number:05}"


@dataclass(frozen=True, slots=True)
class Edit:
    """A measured edit: seconds from the write to the traffic, and to each step."""

    kind: str
    in_place: bool
    seconds: float
    steps: Mapping[str, float]


@contextmanager
def model_servers() -> Iterator[list[int]]:
    """Two model servers that answer with their port and the version of the request."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ports = [asyncio.run_coroutine_threadsafe(_start_server(), loop).result() for _ in range(2)]
    yield ports
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def _start_server() -> int:
    server = await asyncio.start_server(_serve, "0.0.0.0", free_port())
    port: int = server.sockets[0].getsockname()[1]
    return port


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    port = writer.get_extra_info("sockname")[1]
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            found = re.search(rf"^{MODEL_SERVICE}: (\S+)", head, re.MULTILINE | re.IGNORECASE)
            length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
            await reader.readexactly(int(length[1]) if length else 0)
            body = f"{port} {found[1] if found else '-'}"
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


class Client:
    """Sends requests to one model over one connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def answer(self, model: str) -> str:
        """The body of the response."""
        headers = {"x-user": "user", "content-type": "application/json"}
        self._connection.request("POST", f"/v2/models/{model}/infer", b"{}", headers)
        return self._connection.getresponse().read().decode(errors="replace")

    def wait_for(self, model: str, expected: str) -> float:
        """Wait for this answer; returns the time of the first. Raises RuntimeError."""
        deadline = time.time() + MAX_WAIT
        while (answer := self.answer(model)) != expected:
            if time.time() > deadline:
                raise RuntimeError(f"{model} still answers {answer!r}, not {expected!r}")
            time.sleep(POLL)
        return time.time()


def write(file: Path, text: str, *, in_place: bool) -> None:
    """Write a file in place, or by renaming a complete one."""
    if in_place:
        file.write_text(text)
        return
    complete = file.with_suffix(".new")
    complete.write_text(text)
    complete.rename(file)


def wait_until_in_force(log: Path, count: int) -> None:
    """Wait until the log says that this number of configs was put in force."""
    while len(re.findall(STEPS["in force"], log.read_text())) < count:
        time.sleep(0.02)


def steps_since(log: Path, start: int, began: float) -> dict[str, float]:
    """Seconds from a time to each step in the log. `start` is the length of the log before."""
    found: dict[str, float] = {}
    for line in log.read_text()[start:].splitlines():
        stamp = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", line)
        for step, text in STEPS.items():
            if stamp and re.search(text, line):
                at = datetime.strptime(stamp[0], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                found.setdefault(step, at - began)
    return found


def cpu_by_kind(up: int) -> Counter[str]:
    """CPU milliseconds of the gateway's processes."""
    kinds = processes_by_kind(up)
    return Counter(
        {kind: round(sum(map(cpu_seconds, pids)) * 1000) for kind, pids in kinds.items()}
    )


def resident_by_kind(up: int) -> dict[str, list[int]]:
    """Resident MiB of the gateway's processes."""
    kinds = processes_by_kind(up)
    return {kind: [resident_bytes(pid) >> 20 for pid in pids] for kind, pids in kinds.items()}


def pushed_bytes(port: int) -> Counter[str]:
    """Bytes of resources that the control plane has sent, by type."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    found = re.findall(r'^sluice_xds_pushed_bytes_total\{type="(\w+)"\} (\S+)', text, re.MULTILINE)
    return Counter({each: int(float(value)) for each, value in found})


def measure(models: int, options: argparse.Namespace, directory: Path) -> None:
    """Start a gateway with so many models, edit its config, and print the results."""
    file, log = directory / "gateway.yaml", directory / "log"
    with model_servers() as servers:
        states = [ModelState() for _ in range(models)]
        ports = GatewayPorts()
        addresses = ports.sections(directory)
        config = Config(servers, addresses, states, options.endpoints, options.placement)
        began = time.time()
        with sluice_up(config.text(), directory, timeout=MAX_WAIT * 10) as up:
            client = Client(ports.listener)
            first = client.wait_for(name(0), config.expected(0))
            print(f"{models} models: first response {first - began:.2f} s after the start")
            wait_until_in_force(log, 1)
            print(f"CPU ms of the start: {dict(cpu_by_kind(up))}")
            print(f"resident MiB: {resident_by_kind(up)}")
            cpu, pushed = cpu_by_kind(up), pushed_bytes(ports.http)
            edits = [edit(config, client, file, log, number) for number in range(options.edits)]
            cpu, pushed = cpu_by_kind(up) - cpu, pushed_bytes(ports.http) - pushed
            print(f"resident MiB after the edits: {resident_by_kind(up)}")
    report(edits)
    print("CPU ms an edit: ", {kind: round(used / len(edits)) for kind, used in cpu.items()})
    print("bytes an edit: ", {kind: round(sent / len(edits)) for kind, sent in pushed.items()})


def edit(config: Config, client: Client, file: Path, log: Path, number: int) -> Edit:
    """Edit a model and wait until the edit is in force; the last model first."""
    kind, in_place = KINDS[number % len(KINDS)], number % 2 == 1
    model = len(config.states) - 1 - number // 2 % len(config.states)
    config.states[model] = config.states[model].edited(kind)
    text, start = config.text(), len(log.read_text())
    began = time.time()
    write(file, text, in_place=in_place)
    done = client.wait_for(name(model), config.expected(model))
    wait_until_in_force(log, number + 2)
    time.sleep(SETTLE)
    return Edit(kind, in_place, done - began, steps_since(log, start, began))


SETTLE = 1.5
"""Seconds after an edit, until clusters have been removed."""


def report(edits: Sequence[Edit]) -> None:
    """Print the times in ms, by how the file was written and by what changed."""
    groups: dict[str, list[Edit]] = {"all": list(edits)}
    for each in edits:
        groups.setdefault("in place" if each.in_place else "by rename", []).append(each)
        groups.setdefault(each.kind, []).append(each)
    print(f"{'ms':<12}{'edits':>6}{'min':>7}{'median':>8}{'p90':>7}{'max':>7}   median of steps")
    for group, members in groups.items():
        taken = sorted(each.seconds * 1000 for each in members)
        steps = {
            step: round(statistics.median(found) * 1000)
            for step in STEPS
            if (found := [each.steps[step] for each in members if step in each.steps])
        }
        p90 = taken[int(len(taken) * 0.9)]
        print(
            f"{group:<12}{len(taken):>6}{taken[0]:>7.0f}{statistics.median(taken):>8.0f}"
            f"{p90:>7.0f}{taken[-1]:>7.0f}   {steps}"
        )


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.edits", description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[1000], help="numbers of models")
    parser.add_argument("--endpoints", type=int, default=1, help="endpoints of each version")
    parser.add_argument("--placement", default="auto", help="auto or callout")
    parser.add_argument("--edits", type=int, default=50)
    options = parser.parse_args()
    for models in options.models:
        with tempfile.TemporaryDirectory() as directory:
            measure(models, options, Path(directory))


if __name__ == "__main__":
    main()
