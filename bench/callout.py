"""Compares Envoy without a callout, with our transport, and with grpcio.

One Envoy has a listener for each variant. An nginx replaces the model server. `wrk` loads the
listeners in turn, in several rounds, so that other load on the machine affects all listeners
equally. Run it with `make bench-callout`.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import wrk
from bench.envoy_config import Variant, gateway_config
from bench.processes import (
    cpu_seconds,
    envoy,
    free_port,
    local_address,
    model_server,
    require_nginx,
    resident_bytes,
    serving,
)
from bench.tokens import token_and_jwks

PATH = "/v2/models/bench/infer"

BODY_BYTES = 512
"""Bytes of the body of a POST."""

TRANSPORTS = ("asyncio", "grpcio")
FILTERS = ("ext_proc", "ext_authz")
POLICIES = ("trivial", "full")

METHODS = {"direct": ("GET",), "proxy": ("GET", "POST")}
"""Methods of the requests, by hop. Envoy responds to a POST before it has read the body if it
responds itself, and must then close the connection."""

_POST = f"""
wrk.method = "POST"
wrk.body = string.rep(" ", {BODY_BYTES})
wrk.headers["content-type"] = "application/json"
"""

_DISTINCT = """
local n = 0
function request()
  n = n + 1
  wrk.headers["x-note"] = n
  return wrk.format()
end
"""
"""Gives every request a different header value."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Result of one round: requests/s, latencies in ms, CPU time in µs for each request."""

    rate: float
    p50: float
    p99: float
    envoy_cpu: float
    python_cpu: float
    failed: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """The running processes: ports of the listeners, and process ids."""

    ports: Mapping[Variant, int]
    envoy_pid: int
    callout_pids: Mapping[tuple[str, str], int]
    """By transport and policy."""


def variants(transports: Sequence[str]) -> Iterator[Variant]:
    """Every listener of the comparison."""
    for hop, methods in METHODS.items():
        for method in methods:
            yield Variant(hop, method)
            for transport in transports:
                for filter_name in FILTERS:
                    for policy in POLICIES:
                        yield Variant(hop, method, transport, filter_name, policy)
                if transport == "asyncio":
                    yield Variant(hop, method, transport, "ext_proc", "full", distinct=True)


@contextmanager
def running_gateway(directory: Path, jwks: Path, transports: Sequence[str]) -> Iterator[Gateway]:
    """Run the model server, the callouts and the gateway's Envoy."""
    with ExitStack() as stack:
        upstream = free_port()
        stack.enter_context(model_server(upstream, directory))
        addresses, pids = {}, {}
        for transport in transports:
            for policy in POLICIES:
                address = f"unix:{directory}/{transport}-{policy}"
                argv = [sys.executable, "-m", "bench.callout_server"]
                argv += [transport, address, policy, str(jwks)]
                addresses[transport, policy] = address
                pids[transport, policy] = stack.enter_context(serving(argv, address)).pid
        ports = {variant: free_port() for variant in variants(transports)}
        config = gateway_config(ports, local_address(upstream), addresses)
        listening = list(ports.values())
        gateway = stack.enter_context(envoy(config, directory / "gateway.json", listening))
        yield Gateway(ports, gateway.pid, pids)


def wrk_script(variant: Variant) -> str:
    """The wrk script for the requests of a variant."""
    return (_POST if variant.method == "POST" else "") + (_DISTINCT if variant.distinct else "")


def measure(
    gateway: Gateway, variant: Variant, token: str, directory: Path, options: argparse.Namespace
) -> Sample:
    """Load one listener for one round."""
    callout_pid = gateway.callout_pids.get((variant.transport or "", variant.policy))
    pids = [gateway.envoy_pid, *([callout_pid] if callout_pid else [])]
    headers = {} if variant.policy == "trivial" else {"Authorization": f"Bearer {token}"}
    script = directory / "wrk.lua"
    script.write_text(wrk_script(variant))
    before = [cpu_seconds(pid) for pid in pids]
    report = wrk.run(
        gateway.ports[variant], PATH, headers, options.connections, options.seconds, script
    )
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    return Sample(
        rate=report.rate,
        p50=report.p50,
        p99=report.p99,
        envoy_cpu=spent[0] / report.requests * 1e6,
        python_cpu=spent[1] / report.requests * 1e6 if callout_pid else 0.0,
        failed=report.failed,
    )


def main() -> None:
    """Measure, and print the figures and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="seconds of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--transports", nargs="+", default=list(TRANSPORTS), choices=TRANSPORTS)
    parser.add_argument("--methods", nargs="+", default=["GET", "POST"], choices=["GET", "POST"])
    parser.add_argument("--json", action="store_true", help="print every sample too")
    options = parser.parse_args()
    wrk.require_wrk("bench-callout")
    require_nginx("bench-callout")
    token, key_set = token_and_jwks()
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name:
        directory = Path(name)
        jwks = directory / "jwks.json"
        jwks.write_text(key_set)
        with running_gateway(directory, jwks, options.transports) as gateway:
            measured = [each for each in gateway.ports if each.method in options.methods]
            samples: dict[Variant, list[Sample]] = {variant: [] for variant in measured}
            for _ in range(options.rounds):
                for variant, found in samples.items():
                    found.append(measure(gateway, variant, token, directory, options))
            print_report(samples)
            for (transport, policy), pid in gateway.callout_pids.items():
                megabytes = resident_bytes(pid) / 1e6
                print(f"RSS after the run, {transport} {policy}: {megabytes:.0f} MB")
    if options.json:
        print(json.dumps({v.name: [repr(s) for s in found] for v, found in samples.items()}))


def print_report(samples: dict[Variant, list[Sample]]) -> None:
    """Print medians over the rounds, with ratios to the plain listener of the same requests."""
    head = f"{'':<45}{'req/s':>8}{'/ plain':>9}{'p50 ms':>8}{'p99 ms':>8}{'/ plain':>9}"
    print(f"{head}{'Envoy µs':>10}{'Python µs':>10}")
    medians = {variant: median(found) for variant, found in samples.items()}
    for variant, sample in medians.items():
        plain = medians[Variant(variant.hop, variant.method)]
        print(
            f"{variant.name:<45}{sample.rate:>8.0f}{sample.rate / plain.rate:>9.2f}"
            f"{sample.p50:>8.2f}{sample.p99:>8.2f}{sample.p99 / plain.p99:>9.2f}"
            f"{sample.envoy_cpu:>10.1f}{sample.python_cpu:>10.1f}"
            + (f"  {sample.failed} FAILED" if sample.failed else "")
        )
    for variant, sample in medians.items():
        if variant.distinct:
            continue
        reference = replace(variant, transport="grpcio")
        if variant.transport == "asyncio" and reference in medians:
            ratio = sample.rate / medians[reference].rate
            print(f"{variant.name}: {ratio:.2f} times the rate of grpcio")


def median(samples: Sequence[Sample]) -> Sample:
    """The median of each figure, and the sum of failures."""
    columns = {
        name: statistics.median(getattr(sample, name) for sample in samples)
        for name in ("rate", "p50", "p99", "envoy_cpu", "python_cpu")
    }
    return Sample(**columns, failed=sum(sample.failed for sample in samples))


if __name__ == "__main__":
    main()
