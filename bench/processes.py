"""Starts the processes of a benchmark, and reads their CPU time and memory from the kernel."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

import envoy as envoy_wheel

ENVOY = Path(str(envoy_wheel.__file__)).parent / "_bin" / "envoy"
START_TIMEOUT = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def local_address(port: int) -> str:
    """The address of a port on this machine."""
    return f"127.0.0.1:{port}"


def accepts(address: str) -> bool:
    """Whether a process listens at `host:port` or `unix:/path`."""
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
    timeout: float = START_TIMEOUT,
    tree: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while the `with` block runs. The block begins when all addresses accept.

    `tree`: the source tree whose Python modules the process imports. Raises RuntimeError if the
    process does not listen in time.
    """
    environment = None if tree is None else {**os.environ, "PYTHONPATH": str(tree)}
    with subprocess.Popen(argv, stdout=stdout, stderr=stderr, env=environment, cwd=tree) as process:
        try:
            deadline = time.monotonic() + timeout
            while not all(map(accepts, addresses)):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{' '.join(argv)} did not start")
                time.sleep(0.02)
            yield process
        finally:
            process.terminate()


@contextmanager
def envoy(
    config: dict[str, object], file: Path, ports: Sequence[int], threads: int = 1,
    binary: Path = ENVOY,
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """Run an Envoy with worker threads and a static config, which is written to `file`."""
    file.write_text(json.dumps(config))
    argv = [str(binary), "-c", str(file), "--concurrency", str(threads), "--disable-hot-restart"]
    addresses = [local_address(port) for port in ports]
    with serving([*argv, "--log-level", "error"], *addresses) as process:
        yield process


NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {directory};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{{"outputs":[]}}'; }}
  }}
}}
"""


def require_nginx(target: str) -> None:
    """Exit with a message if nginx is not installed. `target`: the make target that installs it."""
    if shutil.which("nginx") is None:
        sys.exit(f"bench: nginx is not on PATH (make {target} installs it)")


@contextmanager
def model_server(port: int, directory: Path) -> Iterator[None]:
    """Run an nginx that replaces a model server: it reads the body, and responds at once."""
    file = directory / "nginx.conf"
    file.write_text(NGINX.format(directory=directory, port=port))
    with serving(["nginx", "-c", str(file)], local_address(port)):
        yield


@contextmanager
def sluice_up(
    config: dict[str, object] | str,
    directory: Path,
    *options: str,
    timeout: float = START_TIMEOUT,
    tree: Path | None = None,
) -> Iterator[int]:
    """Run `sluice up`, with its config and log in `directory`; yields its process id.

    `config` is written to `gateway.json`, or to `gateway.yaml` if it is a text. `timeout`: seconds
    until the gateway is ready. `tree`: another source tree, whose gateway runs.
    """
    file, log = directory / "gateway.json", directory / "log"
    if isinstance(config, str):
        file = file.with_suffix(".yaml")
    file.write_text(config if isinstance(config, str) else json.dumps(config))
    argv = [sys.executable, "-m", "sluice.cli", "up", str(file), *options]
    argv += ["--ready-timeout", str(timeout)] if "--ready-timeout" not in options else []
    with (
        log.open("w") as output,
        serving(argv, stdout=output, stderr=output, tree=tree) as process,
    ):
        _wait_until_ready(log, timeout)
        yield process.pid


def _wait_until_ready(log: Path, timeout: float) -> None:
    """Wait until `sluice up` logs that it is ready. Raises RuntimeError with the log otherwise."""
    deadline = time.monotonic() + timeout
    while "Sluice is ready." not in log.read_text():
        if time.monotonic() > deadline:
            raise RuntimeError(log.read_text())
        time.sleep(0.05)


def process_tree(pid: int) -> Iterator[int]:
    """A process and all its descendants."""
    yield pid
    with suppress(OSError):  # a thread or a process ends meanwhile
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from process_tree(int(child))


def callout_processes(sluice_up_pid: int) -> list[int]:
    """The supervisor and the workers of a `sluice up`. Raises RuntimeError without a callout."""
    for pid in process_tree(sluice_up_pid):
        if b"callout" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return list(process_tree(pid))
    raise RuntimeError("no callout is running")


def processes_by_kind(sluice_up_pid: int) -> dict[str, list[int]]:
    """All processes of a `sluice up`: `envoy`, `callout`, `control plane`, and `up` itself."""
    callout = callout_processes(sluice_up_pid)
    envoys = envoy_processes(sluice_up_pid)
    others = set(process_tree(sluice_up_pid)) - {sluice_up_pid, *callout, *envoys}
    return {
        "envoy": envoys,
        "callout": callout,
        "control plane": list(others),
        "up": [sluice_up_pid],
    }


def envoy_processes(sluice_up_pid: int) -> list[int]:
    """The Envoy of a `sluice up`."""
    return [pid for pid in process_tree(sluice_up_pid) if _is_envoy(pid)]


def _is_envoy(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").read_text().startswith("envoy")


class CpuTime(NamedTuple):
    """Seconds that a process has used outside and inside the kernel."""

    user: float
    kernel: float

    @property
    def total(self) -> float:
        """Seconds in all."""
        return self.user + self.kernel


def cpu_time(pid: int) -> CpuTime:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return CpuTime(int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    return cpu_time(pid).total


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
