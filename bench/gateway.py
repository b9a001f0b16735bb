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
from pathlib import Path

from bench import wrk
from bench.gateway_config import PLAIN, gateway, issuers, model_name, plain_envoy
from bench.processes import (
    ENVOY,
    envoy,
    free_port,
    local_address,
    model_server,
    processes_by_kind,
    require_nginx,
    sluice_up,
)
from bench.rounds import Load, Sample, Target, alternate, median
from bench.tokens import distinct_tokens

TOKENS = 10_000
BODY_BYTES = 512
PROCESSES = ("envoy", "callout", "control plane")

START_TIMEOUT = 60.0
"""Seconds. A gateway with thousands of models takes longer to start than one with an example."""

SCRIPT = """
local requests, number = {}, 0
function init()
  local body = string.rep(" ", %d)
  local head = "POST %s HTTP/1.1\\r\\nHost: gateway.bench\\r\\nContent-Type: application/json\\r\\n"
  head = head .. "Content-Length: " .. #body .. "\\r\\nAuthorization: Bearer "
  for token in io.lines("%s") do
    requests[#requests + 1] = head .. token .. "\\r\\n\\r\\n" .. body
  end
  math.randomseed(os.time())
  number = math.random(#requests)
end
function request()
  number = number %% #requests + 1
  return requests[number]
end
"""
"""wrk script that sends each token in turn, from a random one on: a short round has not enough
requests for all. The headers have the same order in each round, as those of a client do. The body
is not read on the way."""


@contextmanager
def running_gateway(
    port: int, config: dict[str, object], directory: Path, binary: Path
) -> Iterator[Target]:
    """Run a gateway with this Envoy. Its files are in `directory`."""
    with sluice_up(config, directory, "--envoy", str(binary), timeout=START_TIMEOUT) as pid:
        found = processes_by_kind(pid)
        yield Target(port, {kind: found[kind] for kind in PROCESSES})


@contextmanager
def scenarios(
    options: argparse.Namespace, directory: Path, binary: Path = ENVOY
) -> Iterator[list[Load]]:
    """The loads of all targets, which run with this Envoy. The first target is plain Envoy."""
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
                binary=binary,
            )
        )
        found = [_text_load(PLAIN, Target(plain_port, {"envoy": [plain.pid]}), 0, directory)]
        for models in options.models:
            for placement in options.placements:
                own = directory / f"{placement}-{models}"
                own.mkdir()
                gateway_port, config = gateway(
                    placement, models, options.threads, upstream, trusted, own
                )
                target = stack.enter_context(running_gateway(gateway_port, config, own, binary))
                found += _of_gateway(f"{placement} {models}", target, models, directory)
        yield found


def _of_gateway(name: str, target: Target, models: int, directory: Path) -> Iterator[Load]:
    if models == 1:
        yield _text_load(name, target, 0, directory)
        return
    yield _text_load(f"{name}, first", target, 0, directory)
    yield _text_load(f"{name}, last", target, models - 1, directory)


def _text_load(name: str, target: Target, model: int, directory: Path) -> Load:
    """Requests with text for one model. `directory` has the tokens, and gets the script."""
    path = f"/v2/models/{model_name(model)}/infer"
    script = directory / f"{model_name(model)}.lua"
    script.write_text(SCRIPT % (BODY_BYTES, path, directory / "tokens"))
    return Load(name, target, path, {}, script)


def add_options(parser: argparse.ArgumentParser, *, seconds: float, warm_up: float) -> None:
    """Add the options of the load, with these defaults."""
    parser.add_argument("--seconds", type=float, default=seconds, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--warm-up", type=float, default=warm_up, help="seconds before the first round"
    )
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each Envoy")


def require_tools() -> None:
    """Exit with a message if the load generator or the model server is not installed."""
    wrk.require_wrk("bench-gateway")
    require_nginx("bench-gateway")


def measured(running: Sequence[Load], options: argparse.Namespace) -> dict[str, list[Sample]]:
    """The samples of all rounds by load, after the warm-up."""
    for load in running:
        load.run(options.connections, options.warm_up)  # verifies tokens
    return alternate(
        running, options.rounds, lambda load: load.run(options.connections, options.seconds)
    )


def main() -> None:
    """Run all rounds, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser, seconds=3, warm_up=8)
    parser.add_argument("--models", type=int, nargs="*", default=[1, 1000])
    parser.add_argument("--placements", nargs="*", default=["auto", "callout"])
    options = parser.parse_args()
    require_tools()
    with (
        tempfile.TemporaryDirectory(prefix="sluice-bench-") as name,
        scenarios(options, Path(name)) as running,
    ):
        print_report(running, measured(running, options))


def print_report(running: Sequence[Load], samples: Mapping[str, Sequence[Sample]]) -> None:
    """Print medians over the rounds. Ratios are medians of each round's ratio to plain Envoy."""
    plain = samples[PLAIN]
    head = f"{'text, POST, 512 bytes':<24}{'req/s':>8}{'of plain':>10}{'p50 ms':>8}{'p99 ms':>8}"
    print(f"{head}{'of plain':>10}", *(f"{kind[:9] + ' us':>13}" for kind in PROCESSES), end="")
    print("", *(f"{kind[:9] + ' MiB':>14}" for kind in PROCESSES))
    for scenario in running:
        rounds = samples[scenario.name]
        middle = median(rounds)
        rates, tails = (
            statistics.median(
                getattr(sample, name) / getattr(base, name)
                for sample, base in zip(rounds, plain, strict=True)
            )
            for name in ("rate", "p99")
        )
        cpu = (f"{middle.cpu.get(kind, 0.0):>13.1f}" for kind in PROCESSES)
        print(f"{scenario.name:<24}{middle.rate:>8.0f}{rates:>10.3f}", end="")
        print(f"{middle.p50:>8.2f}{middle.p99:>8.2f}{tails:>10.2f}", *cpu, end="")
        print("", *(f"{scenario.target.resident_mib(kind):>14.0f}" for kind in PROCESSES))


if __name__ == "__main__":
    main()
