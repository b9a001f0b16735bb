"""Measures the cost of telemetry: whole gateways with and without reports, in one run.

The load is a POST of 512 bytes, which the callout or Envoy alone admits.

Each gateway is a `sluice up` with one Envoy, one callout worker and the full policy of
bench.callout_server. The gateways share a model server. By default, the model server is an Envoy
that responds at once, so that the cost of the gateway is the largest possible part of a request.
`--example` uses the example model `sentiment`. The rounds of the gateways alternate, so that other
load on the machine affects all gateways equally.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import wrk
from bench.callout import PATH
from bench.callout_server import full_policy
from bench.envoy_config import upstream_config
from bench.ports import GatewayPorts
from bench.processes import (
    callout_processes,
    cpu_seconds,
    envoy,
    envoy_processes,
    free_port,
    local_address,
    serving,
    sluice_up,
)
from bench.tokens import token_and_jwks

OFF, LOGGED = "reports off", "log and metrics"
KINDS = (OFF, "metrics", LOGGED)
PLACEMENTS = ("callout", "native")

Scenario = tuple[str, str]
"""The placement and the kind of telemetry of a gateway."""

BODY_BYTES = 512

INFER = """
wrk.method = "POST"
wrk.path = "/v2/models/sentiment/infer"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a wonderful film"]}]}'
"""
"""wrk script that sends requests to the example model."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Port of a running gateway, and its process ids."""

    port: int
    envoy: list[int]
    callout: list[int]


@dataclass(frozen=True, slots=True)
class Sample:
    """Result of one round: requests/s, latency in ms, CPU time in µs for each request."""

    rate: float
    p99: float
    envoy_cpu: float
    callout_cpu: float


@contextmanager
def gateway(directory: Path, jwks: str, upstream: str, scenario: Scenario) -> Iterator[Gateway]:
    """Run a gateway. Its files are in `directory`."""
    placement, kind = scenario
    directory.mkdir()
    ports = GatewayPorts()
    log = str(directory / "access.log") if kind == LOGGED else "none"
    config = {
        **full_policy(jwks, upstream),
        # `auto` places requests natively if that is possible.
        "placement": "auto" if placement == "native" else placement,
        **ports.sections(directory, log=log, reports=kind != OFF),
        "limits": {"listener": None},
    }
    with sluice_up(config, directory) as pid:
        yield Gateway(ports.listener, envoy_processes(pid), callout_processes(pid))


@contextmanager
def example_model(port: int) -> Iterator[None]:
    """Run the example model on a port."""
    argv = [sys.executable, "-m", "examples.model_server", "--model", "sentiment"]
    argv += ["--version", "v2", "--rest", local_address(port), "--grpc", local_address(free_port())]
    with serving(argv, local_address(port), stdout=sys.stderr):
        yield


def measure(target: Gateway, token: str, options: argparse.Namespace) -> Sample:
    """Load one gateway for one round. Raises RuntimeError if a request fails."""
    before = [sum(map(cpu_seconds, pids)) for pids in (target.envoy, target.callout)]
    headers = {"Authorization": f"Bearer {token}"}
    report = wrk.run(
        target.port, PATH, headers, options.connections, options.seconds, options.script
    )
    if report.failed:
        raise RuntimeError(report.text)
    after = [sum(map(cpu_seconds, pids)) for pids in (target.envoy, target.callout)]
    spent = [
        (end - start) / report.requests * 1e6 for start, end in zip(before, after, strict=True)
    ]
    return Sample(report.rate, report.p99, spent[0], spent[1])


def main() -> None:
    """Run all rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--example", action="store_true", help="use the example model")
    parser.add_argument(
        "--placements", default=",".join(PLACEMENTS), help="placements, separated by commas"
    )
    options = parser.parse_args()
    wrk.require_wrk("bench-telemetry")
    token, jwks = token_and_jwks()
    scenarios = [
        (placement, kind)
        for placement in PLACEMENTS
        if placement in options.placements.split(",")
        for kind in KINDS
    ]
    samples: dict[Scenario, list[Sample]] = {scenario: [] for scenario in scenarios}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        options.script = directory / "requests.lua"
        options.script.write_text(INFER if options.example else wrk.POST % BODY_BYTES)
        if options.example:
            stack.enter_context(example_model(port))
        else:
            stack.enter_context(envoy(upstream_config(port), directory / "upstream.json", [port]))
        running = {
            scenario: stack.enter_context(
                gateway(directory / str(number), jwks, local_address(port), scenario)
            )
            for number, scenario in enumerate(scenarios)
        }
        for _ in range(options.rounds):
            for scenario, target in running.items():
                samples[scenario].append(measure(target, token, options))
    print_report(samples)


def print_report(samples: dict[Scenario, list[Sample]]) -> None:
    """Print medians over the rounds, and the median of each round's ratio to reports off."""
    print(f"{'':<26}{'req/s':>8}{'of off':>8}{'p99 ms':>8}{'Envoy us':>10}{'callout us':>12}")
    for (placement, kind), rounds in samples.items():
        baseline = samples[placement, OFF]
        ratio = statistics.median(
            sample.rate / off.rate for sample, off in zip(rounds, baseline, strict=True)
        )
        rate, p99, envoy_cpu, callout_cpu = (
            statistics.median(getattr(sample, name) for sample in rounds)
            for name in ("rate", "p99", "envoy_cpu", "callout_cpu")
        )
        name = f"{placement}, {kind}"
        print(
            f"{name:<26}{rate:>8.0f}{ratio:>8.3f}{p99:>8.2f}{envoy_cpu:>10.1f}{callout_cpu:>12.1f}"
        )


if __name__ == "__main__":
    main()
