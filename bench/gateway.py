"""Measures whole gateways beside plain Envoy: text by native placement and by the callout.

The gateways have the config `gateway.yaml`, with one model and with many. The load is a POST of 512
bytes with one of 10,000 different tokens. The rounds of all scenarios alternate, so that other load
on the machine affects all scenarios equally. Only the ratios of a run are comparable with others.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import wrk
from bench.gateway_config import PLAIN, gateway, issuers, model_name, plain_envoy
from bench.processes import (
    cpu_seconds,
    envoy,
    free_port,
    local_address,
    model_server,
    processes_by_kind,
    require_nginx,
    resident_bytes,
    sluice_up,
)
from bench.tokens import distinct_tokens

TOKENS = 10_000
BODY_BYTES = 512
PROCESSES = ("envoy", "callout", "control plane")

SCRIPT = """
local requests, number = {}, 0
function init()
  local body = string.rep(" ", %d)
  for token in io.lines("%s") do
    local headers = {["authorization"] = "Bearer " .. token, ["content-type"] = "application/json"}
    requests[#requests + 1] = wrk.format("POST", "%s", headers, body)
  end
end
function request()
  number = number %% #requests + 1
  return requests[number]
end
"""
"""wrk script that sends each token in turn. The body is not read on the way."""


@dataclass(frozen=True, slots=True)
class Target:
    """A running gateway: its port, and its process ids by kind (`PROCESSES`)."""

    port: int
    pids: Mapping[str, Sequence[int]]

    def cpu(self) -> dict[str, float]:
        """CPU seconds that each kind of process has used."""
        return {kind: sum(map(cpu_seconds, pids)) for kind, pids in self.pids.items()}

    def resident_mib(self, kind: str) -> float:
        """Resident memory of the largest process of a kind."""
        return max(map(resident_bytes, self.pids.get(kind, ())), default=0) / (1 << 20)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A load: the target, and the model that the requests are for."""

    name: str
    target: Target
    model: str


@dataclass(frozen=True, slots=True)
class Sample:
    """Result of one round: requests/s, latencies in ms, CPU time in us per request by process."""

    rate: float
    p50: float
    p99: float
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """What all scenarios have in common."""

    tokens: Path
    connections: int
    seconds: float
    directory: Path

    def run(self, scenario: Scenario, seconds: float | None = None) -> Sample:
        """Load a target for one round. Raises RuntimeError if a request fails."""
        path = f"/v2/models/{scenario.model}/infer"
        script = self.directory / f"{scenario.model}.lua"
        script.write_text(SCRIPT % (BODY_BYTES, self.tokens, path))
        before = scenario.target.cpu()
        report = wrk.run(
            scenario.target.port, path, {}, self.connections, seconds or self.seconds, script
        )
        after = scenario.target.cpu()
        if report.failed or not report.requests:
            raise RuntimeError(f"{scenario.name}: {report.text}")
        spent = {kind: (after[kind] - before[kind]) / report.requests * 1e6 for kind in after}
        return Sample(report.rate, report.p50, report.p99, spent)


@contextmanager
def running_gateway(port: int, config: dict[str, object], directory: Path) -> Iterator[Target]:
    """Run a gateway. Its files are in `directory`."""
    with sluice_up(config, directory) as pid:
        found = processes_by_kind(pid)
        yield Target(port, {kind: found[kind] for kind in PROCESSES})


@contextmanager
def scenarios(options: argparse.Namespace, directory: Path) -> Iterator[list[Scenario]]:
    """All targets, running."""
    trusted = issuers()
    (directory / "tokens").write_text("\n".join(distinct_tokens(trusted, TOKENS)))
    port, plain_port = free_port(), free_port()
    upstream = local_address(port)
    with ExitStack() as stack:
        stack.enter_context(model_server(port, directory))
        plain = stack.enter_context(
            envoy(
                plain_envoy(plain_port, upstream),
                directory / "plain.json",
                [plain_port],
                options.threads,
            )
        )
        found = [Scenario(PLAIN, Target(plain_port, {"envoy": [plain.pid]}), model_name(0))]
        for models in options.models:
            for placement in options.placements:
                own = directory / f"{placement}-{models}"
                own.mkdir()
                gateway_port, config = gateway(
                    placement, models, options.threads, upstream, trusted, own
                )
                target = stack.enter_context(running_gateway(gateway_port, config, own))
                found += _of_gateway(f"{placement} {models}", target, models)
        yield found


def _of_gateway(name: str, target: Target, models: int) -> Iterator[Scenario]:
    if models == 1:
        yield Scenario(name, target, model_name(0))
        return
    yield Scenario(f"{name}, first", target, model_name(0))
    yield Scenario(f"{name}, last", target, model_name(models - 1))


def main() -> None:
    """Run all rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=float, default=8, help="seconds before the first round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each Envoy")
    parser.add_argument("--models", type=int, nargs="*", default=[1, 1000])
    parser.add_argument("--placements", nargs="*", default=["auto", "callout"])
    options = parser.parse_args()
    wrk.require_wrk("bench-gateway")
    require_nginx("bench-gateway")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        directory = Path(name)
        load = Load(directory / "tokens", options.connections, options.seconds, directory)
        with scenarios(options, directory) as running:
            for scenario in running:
                load.run(scenario, seconds=options.warm_up)  # verifies tokens, opens connections
            samples: dict[str, list[Sample]] = {each.name: [] for each in running}
            for _ in range(options.rounds):
                for scenario in running:
                    samples[scenario.name].append(load.run(scenario))
            print_report(running, samples)


def print_report(running: Sequence[Scenario], samples: Mapping[str, Sequence[Sample]]) -> None:
    """Print medians over the rounds. Ratios are medians of each round's ratio to plain Envoy."""
    plain = samples[PLAIN]
    head = f"{'text, POST, 512 bytes':<24}{'req/s':>8}{'of plain':>10}{'p50 ms':>8}{'p99 ms':>8}"
    print(f"{head}{'of plain':>10}", *(f"{kind[:9] + ' us':>13}" for kind in PROCESSES), end="")
    print("", *(f"{kind[:9] + ' MiB':>14}" for kind in PROCESSES))
    for scenario in running:
        rounds = samples[scenario.name]
        rate, p50, p99 = (
            statistics.median(getattr(sample, name) for sample in rounds)
            for name in ("rate", "p50", "p99")
        )
        rates, tails = (
            statistics.median(
                getattr(sample, name) / getattr(base, name)
                for sample, base in zip(rounds, plain, strict=True)
            )
            for name in ("rate", "p99")
        )
        print(f"{scenario.name:<24}{rate:>8.0f}{rates:>10.3f}{p50:>8.2f}{p99:>8.2f}", end="")
        print(f"{tails:>10.2f}", *(f"{_cpu(rounds, kind):>13.1f}" for kind in PROCESSES), end="")
        print("", *(f"{scenario.target.resident_mib(kind):>14.0f}" for kind in PROCESSES))


def _cpu(rounds: Sequence[Sample], kind: str) -> float:
    return statistics.median(sample.cpu.get(kind, 0.0) for sample in rounds)


if __name__ == "__main__":
    main()
