"""What a callout costs: plain Envoy, our transport and grpcio's, side by side in one run.

One Envoy has a listener for each way of deciding; a second one is the model server. Every listener
is loaded in turn by `wrk`, several rounds interleaved, so that noise from the machine meets all
alike. Run it by `make bench-callout`.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import cpu_seconds, envoy, free_port, resident_bytes, serving, wrk
from bench.tokens import token_and_jwks
from sluice.config.gateway import Callout
from xds.resources.listener import ext_proc

PATH = "/v2/models/bench/infer"
"""Asked for by GET: Envoy answers a POST before it has read the body, and then has to close."""

DECIDERS = ("asyncio", "grpcio")
FILTERS = ("ext_proc", "ext_authz")
POLICIES = ("trivial", "full")
HOPS = ("direct", "proxy")

DISTINCT = """
local n = 0
function request()
  n = n + 1
  wrk.headers["x-note"] = n
  return wrk.format()
end
"""
"""For wrk: no request is like one before, so that none is found again and each is decided on."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One listener: where it answers from, and who decides (nobody: no callout)."""

    hop: str
    decider: str | None = None
    filter: str = ""
    policy: str = ""
    distinct: bool = False
    """Whether every request differs from those before."""

    @property
    def name(self) -> str:
        decided = f"{self.decider} {self.filter} {self.policy}" if self.decider else "no callout"
        return f"{self.hop:<7}{decided}{' distinct' if self.distinct else ''}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of load: latencies in milliseconds, CPU in microseconds a request."""

    rate: float
    p50: float
    p99: float
    envoy_cpu: float
    python_cpu: float
    failed: int


def variants(transports: Sequence[str]) -> Iterator[Variant]:
    """Every listener of the comparison."""
    for hop in HOPS:
        yield Variant(hop)
        for decider in transports:
            for kind in FILTERS:
                for policy in POLICIES:
                    yield Variant(hop, decider, kind, policy)
            if decider == "asyncio":
                yield Variant(hop, decider, "ext_proc", "full", distinct=True)


def cluster(name: str, address: str, *, http2: bool = False) -> dict[str, object]:
    """An Envoy cluster of one endpoint."""
    if address.startswith("unix:"):
        where: dict[str, object] = {"pipe": {"path": address.removeprefix("unix:")}}
    else:
        host, _, port = address.rpartition(":")
        where = {"socket_address": {"address": host, "port_value": int(port)}}
    endpoint = {"endpoint": {"address": where}}
    made: dict[str, object] = {
        "name": name,
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    if http2:
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        made["typed_extension_protocol_options"] = {
            options: {
                "@type": f"type.googleapis.com/{options}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    return made


def callout_filter(variant: Variant, target: str) -> dict[str, object]:
    """The HTTP filter that asks a worker: ext_proc is the gateway's own."""
    service = {"cluster_name": target}
    if variant.filter == "ext_proc":
        kind = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor"
        settings = ext_proc(Callout()).to_dict()
        settings["grpcService"]["envoyGrpc"] = service
    else:
        kind = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
        settings = {
            "grpc_service": {"envoy_grpc": service, "timeout": "2s"},
            "transport_api_version": "V3",
            "clear_route_cache": True,
            "encode_raw_headers": False,
        }
    return {
        "name": variant.filter,
        "typed_config": {"@type": f"type.googleapis.com/{kind}", **settings},
    }


def listener(name: str, port: int, route: dict[str, object], filters: Sequence[object]) -> object:
    """A listener with one route for everything."""
    manager = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
    host = {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **route}]}
    return {
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "http",
                        "typed_config": {
                            "@type": f"type.googleapis.com/{manager}",
                            "stat_prefix": "bench",
                            "route_config": {"virtual_hosts": [host]},
                            "http_filters": [
                                *filters,
                                {"name": "router", "typed_config": {"@type": router}},
                            ],
                        },
                    }
                ]
            }
        ],
    }


DIRECT = {"direct_response": {"status": 200, "body": {"inline_string": '{"outputs":[]}'}}}


def upstream_config(port: int) -> dict[str, object]:
    """The model server's stand-in: an Envoy that answers at once."""
    return {"static_resources": {"listeners": [listener("model", port, DIRECT, [])]}}


def gateway_config(
    ports: dict[Variant, int], upstream: str, callouts: dict[tuple[str, str], str]
) -> dict[str, object]:
    """One listener per variant; plain proxying names the model's cluster as decisions do."""
    listeners = []
    for variant, port in ports.items():
        route = DIRECT
        if variant.hop == "proxy":
            chosen = (
                {"cluster_header": "x-model-service"} if variant.decider else {"cluster": MODEL}
            )
            route = {"route": chosen}
        filters = []
        if variant.decider:
            filters = [callout_filter(variant, f"{variant.decider}-{variant.policy}")]
        listeners.append(listener(variant.name, port, route, filters))
    clusters = [cluster(MODEL, upstream)]
    clusters += [cluster(f"{d}-{p}", where, http2=True) for (d, p), where in callouts.items()]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


MODEL = "bench/v1"


def load(
    port: int, headers: dict[str, str], options: argparse.Namespace, script: Path | None = None
) -> str:
    """Run wrk against a listener; its report."""
    argv = wrk(port, PATH, headers, options.connections, options.seconds, script)
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def latency(report: str, percentile: str) -> float:
    """Milliseconds, out of wrk's report."""
    match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", report)
    assert match is not None, report
    return float(match[1]) * _UNITS[match[2]]


def number(report: str, pattern: str) -> float:
    """A figure of wrk's report, 0 where it is not mentioned."""
    match = re.search(pattern, report)
    return float(match[1]) if match else 0.0


def measure(
    port: int, headers: dict[str, str], envoy_pid: int, python_pid: int | None,
    options: argparse.Namespace, script: Path | None = None,
) -> Sample:  # fmt: skip
    """One round on one listener."""
    pids = [envoy_pid, *([python_pid] if python_pid else [])]
    before = [cpu_seconds(pid) for pid in pids]
    report = load(port, headers, options, script)
    spent = [cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
    requests = number(report, r"(\d+) requests in")
    return Sample(
        rate=number(report, r"Requests/sec:\s+([\d.]+)"),
        p50=latency(report, "50"),
        p99=latency(report, "99"),
        envoy_cpu=spent[0] / requests * 1e6,
        python_cpu=spent[1] / requests * 1e6 if python_pid else 0.0,
        failed=int(number(report, r"Non-2xx or 3xx responses: (\d+)")),
    )


@contextmanager
def everything(
    options: argparse.Namespace,
) -> Iterator[tuple[dict[Variant, int], int, dict[tuple[str, str], int]]]:
    """Start the model server, the callouts and the gateway; ports, Envoy's pid, callouts' pids."""
    directory = Path(options.directory)
    with ExitStack() as stack:
        upstream = free_port()
        stack.enter_context(
            envoy(upstream_config(upstream), directory / "upstream.json", [upstream])
        )
        callouts, pids = {}, {}
        for decider in options.transports:
            for policy in POLICIES:
                address = f"unix:{directory}/{decider}-{policy}"
                argv = [sys.executable, "-m", "bench.callout_server", decider, address]
                argv += [policy, str(directory / "jwks.json")]
                callouts[decider, policy] = address
                pids[decider, policy] = stack.enter_context(serving(argv, address)).pid
        ports = {variant: free_port() for variant in variants(options.transports)}
        config = gateway_config(ports, f"127.0.0.1:{upstream}", callouts)
        listening = list(ports.values())
        gateway = stack.enter_context(envoy(config, directory / "gateway.json", listening))
        yield ports, gateway.pid, pids


def main() -> None:
    """Measure, and print the figures and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of one round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--transports", nargs="+", default=list(DECIDERS), choices=DECIDERS)
    parser.add_argument("--json", action="store_true", help="print every sample too")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: needs wrk on PATH (make bench-callout installs it)")
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as directory:
        options.directory = directory
        token, jwks = token_and_jwks()
        (Path(directory) / "jwks.json").write_text(jwks)
        distinct = Path(directory) / "distinct.lua"
        distinct.write_text(DISTINCT)
        authorized = {"Authorization": f"Bearer {token}"}
        with everything(options) as (ports, envoy_pid, pids):
            samples: dict[Variant, list[Sample]] = {variant: [] for variant in ports}
            for _ in range(options.rounds):
                for variant, port in ports.items():
                    python = pids.get((variant.decider or "", variant.policy))
                    sent = {} if variant.policy == "trivial" else authorized
                    script = distinct if variant.distinct else None
                    found = measure(port, sent, envoy_pid, python, options, script)
                    samples[variant].append(found)
            print_report(samples)
            for (decider, policy), pid in pids.items():
                print(f"RSS after the run, {decider} {policy}: {resident_bytes(pid) / 1e6:.0f} MB")
            if options.json:
                print(
                    json.dumps({v.name: [repr(s) for s in found] for v, found in samples.items()})
                )


def print_report(samples: dict[Variant, list[Sample]]) -> None:
    """Medians over the rounds, each beside its ratio to the plain listener of the same hop."""
    head = f"{'':<32}{'req/s':>8}{'of plain':>9}{'p50 ms':>8}{'p99 ms':>8}{'of plain':>9}"
    print(f"{head}{'Envoy µs':>10}{'Python µs':>10}")
    middle = {variant: median(found) for variant, found in samples.items()}
    for variant, sample in middle.items():
        plain = middle[Variant(variant.hop)]
        print(
            f"{variant.name:<32}{sample.rate:>8.0f}{sample.rate / plain.rate:>9.2f}"
            f"{sample.p50:>8.2f}{sample.p99:>8.2f}{sample.p99 / plain.p99:>9.2f}"
            f"{sample.envoy_cpu:>10.1f}{sample.python_cpu:>10.1f}"
            + (f"  {sample.failed} FAILED" if sample.failed else "")
        )
    for variant, sample in middle.items():
        if variant.distinct:
            continue
        other = Variant(variant.hop, "grpcio", variant.filter, variant.policy)
        if variant.decider == "asyncio" and other in middle:
            ratio = sample.rate / middle[other].rate
            print(f"{variant.name}: {ratio:.2f} times grpcio")


def median(found: Sequence[Sample]) -> Sample:
    """Figure by figure; failures are added up."""
    columns = {
        name: statistics.median(getattr(sample, name) for sample in found)
        for name in ("rate", "p50", "p99", "envoy_cpu", "python_cpu")
    }
    return Sample(**columns, failed=sum(sample.failed for sample in found))


if __name__ == "__main__":
    main()
