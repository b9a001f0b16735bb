"""Starts what a benchmark measures, and reads what the kernel says of it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import envoy as envoy_wheel

ENVOY = Path(str(envoy_wheel.__file__)).parent / "_bin" / "envoy"
START_TIMEOUT = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def accepts(address: str) -> bool:
    """Whether something listens at `host:port` or `unix:/path`."""
    unix = address.startswith("unix:")
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as probe:
        try:
            if unix:
                probe.connect(address.removeprefix("unix:"))
            else:
                host, _, port = address.rpartition(":")
                probe.connect((host, int(port)))
        except OSError:
            return False
    return True


@contextmanager
def serving(
    argv: Sequence[str],
    *addresses: str,
    stdout: IO[str] | None = None,
    stderr: IO[str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the length of a block, which begins when it listens everywhere."""
    with subprocess.Popen(argv, stdout=stdout, stderr=stderr) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT
            while not all(map(accepts, addresses)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(argv)} did not start")
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()


@contextmanager
def envoy(
    config: dict[str, object], file: Path, ports: Sequence[int]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a single-threaded Envoy with a static config, written to `file`."""
    file.write_text(json.dumps(config))
    argv = [str(ENVOY), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    with serving([*argv, "--log-level", "error"], *addresses) as process:
        yield process


def wrk(
    port: int, path: str, headers: Mapping[str, str], connections: int, seconds: float,
    script: Path | None = None,
) -> list[str]:  # fmt: skip
    """The command that loads an address on this machine from one thread, and tells latencies."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency"]
    argv += [item for name, value in headers.items() for item in ("-H", f"{name}: {value}")]
    argv += ["-s", str(script)] if script else []
    return [*argv, f"http://{local(port)}{path}"]


@contextmanager
def sluice_up(config: dict[str, object], directory: Path, *options: str) -> Iterator[int]:
    """Run `sluice up` with a config, whose file and log go to `directory`; its process id."""
    file, log = directory / "gateway.json", directory / "log"
    file.write_text(json.dumps(config))
    argv = [sys.executable, "-m", "sluice.cli", "up", str(file), *options]
    with log.open("w") as output, serving(argv, stdout=output, stderr=output) as process:
        _until_ready(log)
        yield process.pid


def _until_ready(log: Path) -> None:
    """Wait for what `sluice up` says when everything runs. Raises RuntimeError if it does not."""
    deadline = time.monotonic() + START_TIMEOUT
    while "Sluice is ready." not in log.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.05)


def callout(up: int) -> list[int]:
    """The processes of the callout below `sluice up`."""
    for pid in family(up):
        if b"callout" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return list(family(pid))
    raise RuntimeError("no callout runs")


def local(port: int) -> str:
    """An address on this machine."""
    return f"127.0.0.1:{port}"


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from family(int(child))


def cpu_seconds(pid: int) -> float:
    """User and system time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Resident set of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
