"""Runs a whole gateway for a test: Envoy, control plane, callout workers and model servers."""

import contextlib
import copy
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from sluice.envoy_binary import find_envoy
from tests import plain_http
from tests.tokens import key_set, signed

ISSUER = "https://issuer.test"
AUDIENCE = "sluice-test"
PRIVATE_KEY = rsa.generate_private_key(65537, 2048)
INFER = "/v2/models/echo/infer"
START_TIMEOUT = 120.0
PATIENCE = 60.0
"""Seconds after which a condition will not hold any more, also on a busy machine. No test is about
how long something takes, so no test needs less."""

REQUESTS_TO_OPEN = 30
"""Failed requests that open a breaker: more than its minimum volume."""

Config = dict[str, Any]


def jwks(key: rsa.RSAPrivateKey = PRIVATE_KEY, key_id: str = "test") -> str:
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return key_set({**jwk, "kid": key_id, "use": "sig", "alg": "RS256"})


def token(
    subject: str = "1234",
    *,
    key: rsa.RSAPrivateKey = PRIVATE_KEY,
    key_id: str = "test",
    **claims: object,
) -> str:
    now = int(time.time())
    standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600}
    return signed({**standard, **claims}, key, kid=key_id)


def bearer(subject: str = "1234", **claims: object) -> dict[str, str]:
    return {"authorization": f"Bearer {token(subject, **claims)}"}


_PORTS, _PARTS = range(12_000, 20_000), 16
"""Below the ports that the kernel gives to outgoing connections: none of these takes such a port
between its choice and its use. Test processes that run at the same time use different parts."""


def _candidates() -> Iterator[int]:
    part = _PORTS[os.getpid() % _PARTS :: _PARTS]
    first = random.randrange(len(part))
    return itertools.cycle([*part[first:], *part[:first]])


_candidate_ports = _candidates()


def free_ports(count: int) -> list[int]:
    """Ports that no process listens on. All stay bound until the last is chosen, so they differ."""
    chosen: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(chosen) < count:
            port, candidate = next(_candidate_ports), stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                chosen.append(port)
    return chosen


def eventually(condition: Callable[[], bool], timeout: float = PATIENCE) -> None:
    """Polls the state of another process until the condition holds; fails after the timeout."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"condition not met within {timeout} s"
        time.sleep(0.02)


def base_config(placement: str = "auto") -> Config:
    """A config with the model `echo` in two versions, served by the example model server.

    Its tokens are such that Envoy admits a POST with JSON to `INFER` alone, unless `placement` says
    that the callout decides.
    """
    ports = free_ports(7)
    listener, http, xds, admin, metrics, v1, v2 = (f"127.0.0.1:{port}" for port in ports)
    issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"]}
    return {
        "placement": placement,
        "listener": {"address": listener},
        "control_plane": {"http": http, "xds": xds},
        "callout": {"workers": 2},
        "envoy": {"admin": admin},
        "telemetry": {"metrics": {"address": metrics}},
        "requests": {"expose_reason": True},
        "limits": {"listener": None},
        "auth": {"issuers": [{**issuer, "jwks_file": "jwks.json", "leeway": "30s"}]},
        "models": {
            "echo": {
                "stable": "v1",
                "versions": {
                    "v1": {"endpoints": [{"address": v1}]},
                    "v2": {"endpoints": [{"address": v2}]},
                },
                "methods": ["GET", "POST"],
                "content_types": ["*/*"],
                "extra_paths": ["*"],
                "websocket": True,
                "timeout": 0,
            },
        },
    }


@dataclass
class Gateway:
    """A `sluice up` process. Tests may edit its config while it runs."""

    config: Config
    demo: bool = True
    arguments: list[str] = field(default_factory=list)
    directory: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="sluice-test-")))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{self.config['listener']['address']}"

    @property
    def file(self) -> Path:
        return self.directory / "gateway.yaml"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def start(self) -> None:
        (self.directory / "jwks.json").write_text(jwks())
        self.config["callout"].setdefault("address", f"unix:{self.directory}/callout")
        self.write()
        argv = [sys.executable, "-m", "sluice.cli", "up", str(self.file), *self.arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*argv, "--demo", "--faults"] if self.demo else argv, stdout=log, stderr=log
            )
        eventually(self._ready, START_TIMEOUT)

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "sluice up has exited"
        return "Sluice is ready." in self.log.read_text()

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        shutil.rmtree(self.directory)

    def write(self) -> None:
        """Replaces the config file atomically, as an editor does."""
        draft = self.directory / "gateway.new"
        draft.write_text(yaml.safe_dump(self.config, sort_keys=False))
        draft.replace(self.file)

    def edit(self, change: Callable[[Config], None]) -> None:
        """Change the config and wait until every node has accepted it."""
        version = self.status()["version"]
        changed = copy.deepcopy(self.config)
        change(changed)
        self.config = changed
        self.write()
        eventually(lambda: self.status()["version"] != version and self.in_sync())

    def in_sync(self) -> bool:
        """Whether no push is in progress."""
        return bool(self.status()["in_sync"])

    def status(self) -> dict[str, Any]:
        url = f"http://{self.config['control_plane']['http']}/v1/status"
        with urllib.request.urlopen(url, timeout=5) as response:
            status: dict[str, Any] = json.load(response)
        return status

    def client(self, **options: Any) -> httpx.Client:
        return plain_http.client(base_url=self.url, **{"timeout": 30, **options})

    def workers(self) -> list[int]:
        """Process ids of the callout workers."""
        return [node["pid"] for node in self.status()["nodes"] if node["kind"] == "callout"]

    def processes(self, text: str) -> list[int]:
        """Ids of the descendants of `sluice up` whose command lines contain this text."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if text in command_line(pid)]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does not run in the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def descendants(pid: int) -> Iterator[int]:
    """Ids of the child processes, of their child processes, and so on."""
    for child in _children(pid):
        yield child
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    """Ids of the child processes. Threads and processes may end while this reads about them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def command_line(pid: int) -> str:
    """The command line of a process; empty for a zombie and for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextlib.contextmanager
def running(config: Config, *arguments: str, demo: bool = True) -> Iterator[Gateway]:
    """Runs a gateway during a with block, and prints its log if the block fails."""
    gateway = Gateway(config, demo, list(arguments))
    try:
        gateway.start()
        yield gateway
    except BaseException:
        print(gateway.log.read_text()[-20_000:])
        raise
    finally:
        gateway.stop()


@contextlib.contextmanager
def another_envoy(bootstrap: Path, *arguments: str) -> Iterator[None]:
    """Runs an Envoy beside others during a with block. Its log is beside its bootstrap."""
    argv = [str(find_envoy()), "--config-path", str(bootstrap), "--use-dynamic-base-id"]
    with bootstrap.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([*argv, *arguments], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def reported_requests(gateway: Gateway, model: str, status: str = "") -> int:
    """Requests to a model, all or those with the status, that are in Envoy's reports so far, so
    that its breaker counts them.
    """
    address = gateway.config["telemetry"]["metrics"]["address"]
    lines = plain_http.get(f"http://{address}/metrics").text.splitlines()
    prefix = f'sluice_requests_total{{model="{model}"'
    samples = (line for line in lines if line.startswith(prefix) and f'status="{status}' in line)
    return sum(int(float(line.rpartition(" ")[2])) for line in samples)


def callout_calls(gateway: Gateway) -> int:
    """Calls of Envoy to the callout so far. A native request makes none."""
    admin = gateway.config["envoy"]["admin"]
    stats = plain_http.get(f"http://{admin}/stats?filter=ext_proc.callout.streams_started").text
    return sum(int(line.split(":")[1]) for line in stats.splitlines())


@contextlib.contextmanager
def decided_by_placement(gateway: Gateway) -> Iterator[None]:
    """A block whose requests Envoy admits alone; with `placement: callout`, the callout decides."""
    before = callout_calls(gateway)
    yield
    called = callout_calls(gateway) > before
    assert called == (gateway.config["placement"] == "callout")
