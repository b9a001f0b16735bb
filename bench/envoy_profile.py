"""Shows which parts of Envoy use its CPU time: plain Envoy beside the gateway of `bench.gateway`.

Needs `perf` and `c++filt`. The released Envoy has no symbols, so a copy with the names of its
classes runs (`bench.envoy_symbols`). Each sample of the CPU counts for the innermost function on
its stack that belongs to a part. The shares are those of a round under `perf`, which slows Envoy
down; the CPU time that they divide is that of rounds without it.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.envoy_symbols import add_symbols
from bench.gateway import add_options, measured, require_tools, scenarios
from bench.processes import ENVOY
from bench.rounds import Load, median

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
    add_options(parser, seconds=5, warm_up=20)
    parser.set_defaults(models=[1], placements=["auto"])
    options = parser.parse_args()
    require_tools()
    for tool in ("perf", "c++filt"):
        if shutil.which(tool) is None:
            sys.exit(f"bench: {tool} is not on PATH")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        directory = Path(name)
        named = directory / "envoy"
        add_symbols(ENVOY, named)
        with scenarios(options, directory, named) as loads:
            rounds = measured(loads, options)
            spent = {load: median(found).cpu["envoy"] for load, found in rounds.items()}
            samples = {
                load.name: profile(
                    load, options.connections, options.seconds, directory / "samples"
                )
                for load in loads
            }
        print_report(spent, samples)


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
