"""What watching costs: whole gateways with and without reports, side by side in one run.

Each gateway is a `sluice up` of its own, with one Envoy, one callout worker and the policy of
bench.callout_server whose every stage has something to decide. They share a model server: one that
answers at once (an Envoy), which makes their own cost as large a part of a request as it can be, or
the example model `sentiment`. Rounds are interleaved, so that noise from the machine meets all
alike.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.callout import latency, load, number, upstream_config
from bench.callout_server import full
from bench.processes import (
    callout,
    cpu_seconds,
    envoy,
    family,
    free_port,
    local,
    serving,
    sluice_up,
)
from bench.tokens import token_and_jwks

OFF = "reports off"
KINDS = (OFF, "metrics", "log and metrics")


def settings(kind: str, log: Path) -> dict[str, object]:
    """`telemetry` of one of these gateways."""
    output = str(log) if kind == "log and metrics" else "none"
    return {"reports": {"enabled": kind != OFF}, "access_log": {"output": output}}


INFER = """
wrk.method = "POST"
wrk.path = "/v2/models/sentiment/infer"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a wonderful film"]}]}'
"""
"""For wrk: a request for the example model."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where it listens, and its processes."""

    port: int
    envoy: list[int]
    callout: list[int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: latency in milliseconds, CPU in microseconds a request."""

    rate: float
    p99: float
    envoy_cpu: float
    callout_cpu: float


@contextmanager
def gateway(directory: Path, jwks: str, upstream: str, kind: str) -> Iterator[Gateway]:
    """Start one; its files go to `directory`."""
    directory.mkdir()
    listener, http, xds, admin, metrics = (free_port() for _ in range(5))
    watched = {"metrics": {"address": local(metrics)}, **settings(kind, directory / "access.log")}
    config = {
        **full(jwks, upstream),
        "listener": {"address": local(listener)},
        "control_plane": {"http": local(http), "xds": local(xds)},
        "callout": {"address": f"unix:{directory}/callout", "workers": 1},
        "envoy": {"admin": local(admin), "concurrency": 1},
        "telemetry": watched,
        "limits": {"listener": None},
    }
    with sluice_up(config, directory) as pid:
        workers = callout(pid)
        others = [one for one in family(pid) if one not in workers]
        yield Gateway(listener, [one for one in others if _is_envoy(one)], workers)


@contextmanager
def example(port: int) -> Iterator[None]:
    """Run the example model at a port."""
    argv = [sys.executable, "-m", "examples.model_server", "--model", "sentiment"]
    argv += ["--version", "v2", "--rest", local(port), "--grpc", local(free_port())]
    with serving(argv, local(port), stdout=sys.stderr):
        yield


def _is_envoy(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().startswith("envoy")


def measure(one: Gateway, token: str, options: argparse.Namespace) -> Sample:
    """One round on one gateway. Raises RuntimeError where a request fails."""
    before = [sum(map(cpu_seconds, pids)) for pids in (one.envoy, one.callout)]
    report = load(one.port, {"Authorization": f"Bearer {token}"}, options, options.script)
    if "Non-2xx" in report:
        raise RuntimeError(report)
    after = [sum(map(cpu_seconds, pids)) for pids in (one.envoy, one.callout)]
    requests = number(report, r"(\d+) requests in")
    spent = [(end - start) / requests * 1e6 for start, end in zip(before, after, strict=True)]
    return Sample(
        number(report, r"Requests/sec:\s+([\d.]+)"), latency(report, "99"), spent[0], spent[1]
    )


def main() -> None:
    """Measure, and print medians with their ratio to reports off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="of one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--example", action="store_true", help="ask the example model")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: needs wrk on PATH (make bench-telemetry installs it)")
    token, jwks = token_and_jwks()
    samples: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as name, ExitStack() as stack:
        directory, port = Path(name), free_port()
        options.script = None
        if options.example:
            options.script = directory / "infer.lua"
            options.script.write_text(INFER)
            stack.enter_context(example(port))
        else:
            stack.enter_context(envoy(upstream_config(port), directory / "upstream.json", [port]))
        running = {
            kind: stack.enter_context(
                gateway(directory / kind.replace(" ", "-"), jwks, local(port), kind)
            )
            for kind in KINDS
        }
        for _ in range(options.rounds):
            for kind, one in running.items():
                samples[kind].append(measure(one, token, options))
    print_report(samples)


def print_report(samples: dict[str, list[Sample]]) -> None:
    """Medians over the rounds; ratios are medians of each round's own."""
    head = f"{'':<24}{'req/s':>8}{'of off':>8}{'p99 ms':>8}{'Envoy us':>10}{'callout us':>12}"
    print(head)
    off = samples[OFF]
    for kind, found in samples.items():
        ratio = statistics.median(
            one.rate / plain.rate for one, plain in zip(found, off, strict=True)
        )
        rate, p99, by_envoy, by_callout = (
            statistics.median(getattr(one, name) for one in found)
            for name in ("rate", "p99", "envoy_cpu", "callout_cpu")
        )
        print(f"{kind:<24}{rate:>8.0f}{ratio:>8.3f}{p99:>8.2f}{by_envoy:>10.1f}{by_callout:>12.1f}")


if __name__ == "__main__":
    main()
