"""Shows which parts of Envoy use its CPU time: plain Envoy beside the gateway of `bench.gateway`.

Needs `perf` and `c++filt`. The released Envoy has no symbols, so a copy with the names of its
classes runs (`bench.envoy_symbols`). Each sample of the CPU counts for the innermost function on
its stack that belongs to a part. The shares are those of a round under `perf`, which slows Envoy
down; the CPU time that they divide is that of rounds without it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench import wrk
from bench.envoy_symbols import add_symbols
from bench.gateway import PROCESSES, TOKENS, text_load
from bench.gateway_config import PLAIN, gateway, issuers, plain_envoy
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
from bench.rounds import Load, Target, alternate, median
from bench.tokens import distinct_tokens

FREQUENCY = 399
"""Samples per second. It is no divisor of the kernel's timer."""

STACK_BYTES = 16_000
"""Of the stack that a sample has."""

KERNEL = "kernel"
REST = "rest of Envoy"
PARTS: Final = {
    "match the route": ("Envoy::Matcher::", "Router::ConfigImpl"),
    "verify the token": ("HttpFilters::JwtAuthn",),
    "limits": ("LocalRateLimit",),
    "report": ("AccessLoggers::", "Http::Http2::"),
    "other filters": ("HeaderMutation", "Composite::", "MatchDelegate"),
    "create filters": (
        "FilterChainFactoryCallbacks",
        "HttpConnectionManagerConfig",
        "Router::FilterConfig",
    ),
    "router": ("Envoy::Router::", "Upstreams::", "ConnPool"),
    "connection manager": ("Http::ConnectionManagerImpl", "Http::FilterManager"),
    "HTTP/1": ("Http::Http1", "quiche::Balsa", "Http::CodecClient"),
}
"""Parts of Envoy, and texts in the names of their classes."""


def part_of(symbol: str) -> str | None:
    """The part that a function belongs to."""
    matches = (part for part, texts in PARTS.items() if any(text in symbol for text in texts))
    return next(matches, None)


def attribute(script: Iterator[str]) -> Counter[str]:
    """Numbers of samples by part. `script`: the output of `perf script -F ip,sym`."""
    found: Counter[str] = Counter()
    stack: list[str] = []
    for line in script:
        if line.strip():
            stack.append(line.strip())
        elif stack:
            found[_part(stack)] += 1
            stack = []
    return found


def _part(stack: list[str]) -> str:
    """The part that a stack belongs to, whose frames begin with the innermost."""
    if stack[0].startswith("ffffffff"):
        return KERNEL
    return next(filter(None, map(part_of, stack)), REST)


def profile(load: Load, connections: int, seconds: float, file: Path) -> Counter[str]:
    """Samples of a round under perf."""
    (pid,) = load.target.pids["envoy"]
    argv = ["perf", "record", "-e", "cpu-clock", "-F", str(FREQUENCY), "-o", str(file)]
    argv += ["--call-graph", f"dwarf,{STACK_BYTES}", "-p", str(pid)]
    with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as recording:
        load.run(connections, seconds)
        recording.terminate()
    script = ["perf", "script", "-i", str(file), "-F", "ip,sym"]
    with subprocess.Popen(
        script, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as output:
        assert output.stdout is not None
        return attribute(output.stdout)


def main() -> None:
    """Run both, and print microseconds per request by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=float, default=20, help="seconds before the first round")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each Envoy")
    options = parser.parse_args()
    wrk.require_wrk("bench-gateway")
    require_nginx("bench-gateway")
    for tool in ("perf", "c++filt"):
        if shutil.which(tool) is None:
            sys.exit(f"bench: {tool} is not on PATH")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        loads = _loads(options.threads, directory, stack)
        for load in loads:
            load.run(options.connections, options.warm_up)
        rounds = alternate(
            loads, options.rounds, lambda load: load.run(options.connections, options.seconds)
        )
        spent = {name: median(found).cpu["envoy"] for name, found in rounds.items()}
        samples = {
            load.name: profile(load, options.connections, options.seconds, directory / "samples")
            for load in loads
        }
        print_report(spent, samples)


def _loads(threads: int, directory: Path, stack: ExitStack) -> list[Load]:
    """The loads of plain Envoy and of the gateway, which run with symbols."""
    named = directory / "envoy"
    add_symbols(ENVOY, named)
    trusted = issuers()
    (directory / "tokens").write_text("\n".join(distinct_tokens(trusted, TOKENS)))
    port, plain_port = free_port(), free_port()
    upstream = local_address(port)
    stack.enter_context(model_server(port, directory))
    config = plain_envoy(plain_port, upstream)
    plain = stack.enter_context(
        envoy(config, directory / "plain.json", [plain_port], threads, binary=named)
    )
    gateway_port, settings = gateway("auto", 1, threads, upstream, trusted, directory)
    up = stack.enter_context(sluice_up(settings, directory, "--envoy", str(named)))
    pids = processes_by_kind(up)
    targets = {
        PLAIN: Target(plain_port, {"envoy": [plain.pid]}),
        "gateway": Target(gateway_port, {kind: pids[kind] for kind in PROCESSES}),
    }
    return [text_load(name, target, 0, directory) for name, target in targets.items()]


def print_report(spent: Mapping[str, float], samples: Mapping[str, Counter[str]]) -> None:
    """Print a line for each part, with microseconds per request."""
    names = list(spent)
    print(f"{'us per request':<22}", *(f"{name:>10}" for name in names), f"{'more':>8}")
    for part in (*PARTS, KERNEL, REST, None):
        shares = {
            name: 1.0 if part is None else found[part] / found.total()
            for name, found in samples.items()
        }
        values = [spent[name] * shares[name] for name in names]
        more = values[-1] - values[0]
        print(f"{part or 'all':<22}", *(f"{value:>10.1f}" for value in values), f"{more:>8.1f}")


if __name__ == "__main__":
    main()
