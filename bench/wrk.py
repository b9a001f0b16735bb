"""Runs the load generator `wrk` and parses its report."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import local_address

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class Report:
    """One run: requests a second, and latencies in milliseconds."""

    requests: int
    rate: float
    p50: float
    p99: float
    failed: int
    """Responses with a status other than 2xx and 3xx."""
    text: str
    """The report as wrk printed it."""


def require_wrk(target: str) -> None:
    """Exit with a message when wrk is not installed; `target` of the Makefile installs it."""
    if shutil.which("wrk") is None:
        sys.exit(f"bench: wrk is not on PATH (make {target} installs it)")


def command(
    port: int, path: str, headers: Mapping[str, str], connections: int, seconds: float,
    script: Path | None = None,
) -> list[str]:  # fmt: skip
    """The command line that loads a port of this machine from one thread."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency"]
    argv += [item for name, value in headers.items() for item in ("-H", f"{name}: {value}")]
    argv += ["-s", str(script)] if script else []
    return [*argv, f"http://{local_address(port)}{path}"]


def run(
    port: int, path: str, headers: Mapping[str, str], connections: int, seconds: float,
    script: Path | None = None,
) -> Report:  # fmt: skip
    """Load a port of this machine, and wait for the end."""
    argv = command(port, path, headers, connections, seconds, script)
    return parse(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def parse(text: str) -> Report:
    """Parse the output of `wrk --latency`."""
    return Report(
        requests=int(number(text, r"(\d+) requests in")),
        rate=number(text, r"Requests/sec:\s+([\d.]+)"),
        p50=_latency(text, "50"),
        p99=_latency(text, "99"),
        failed=int(number(text, r"Non-2xx or 3xx responses: (\d+)")),
        text=text,
    )


def number(text: str, pattern: str) -> float:
    """The number that the pattern's group matches; 0 without a match."""
    match = re.search(pattern, text)
    return float(match[1]) if match else 0.0


def _latency(text: str, percentile: str) -> float:
    match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", text)
    assert match is not None, text
    return float(match[1]) * _MILLISECONDS[match[2]]
