"""Runs the load generator `wrk` and parses its report."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.processes import local_address

POST = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = string.rep(" ", %d)
"""
"""wrk script that sends requests with a body that nobody reads. It needs the number of bytes."""

_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True)
class WrkReport:
    """Result of one run of wrk."""

    requests: int
    rate: float
    """Requests per second."""
    p50: float
    """Median latency in milliseconds."""
    p99: float
    """99th percentile of the latency in milliseconds."""
    failed: int
    """Number of responses with a status other than 2xx and 3xx."""
    text: str
    """Output of wrk."""


def require_wrk(target: str) -> None:
    """Exit with a message if wrk is not installed. `target` is the make target that installs it."""
    if shutil.which("wrk") is None:
        sys.exit(f"bench: wrk is not on PATH (make {target} installs it)")


def command(
    port: int, path: str, headers: Mapping[str, str], connections: int, seconds: float,
    script: Path | None = None,
) -> list[str]:  # fmt: skip
    """Command line of wrk: load a local port with one thread."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency"]
    argv += [item for name, value in headers.items() for item in ("-H", f"{name}: {value}")]
    argv += ["-s", str(script)] if script else []
    return [*argv, f"http://{local_address(port)}{path}"]


def run(
    port: int, path: str, headers: Mapping[str, str], connections: int, seconds: float,
    script: Path | None = None,
) -> WrkReport:  # fmt: skip
    """Load a local port for `seconds`, and return the result."""
    argv = command(port, path, headers, connections, seconds, script)
    return parse(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def parse(text: str) -> WrkReport:
    """Parse the output of `wrk --latency`."""
    return WrkReport(
        requests=int(number(text, r"(\d+) requests in")),
        rate=number(text, r"Requests/sec:\s+([\d.]+)"),
        p50=_latency(text, "50"),
        p99=_latency(text, "99"),
        failed=int(number(text, r"Non-2xx or 3xx responses: (\d+)")),
        text=text,
    )


def number(text: str, pattern: str) -> float:
    """The number that the group of the pattern matches; 0 if the pattern does not match."""
    match = re.search(pattern, text)
    return float(match[1]) if match else 0.0


def _latency(text: str, percentile: str) -> float:
    match = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", text)
    assert match is not None, text
    return float(match[1]) * _MILLISECONDS[match[2]]
