"""A whole gateway for a test: real Envoy, control plane, callout workers and model servers."""

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://issuer.test"
AUDIENCE = "sluice-test"
PRIVATE_KEY = rsa.generate_private_key(65537, 2048)
START_TIMEOUT = 60.0
ATTEMPTS = 30
"""More than the breaker wants before it concludes anything."""

Config = dict[str, Any]


def jwks(key: rsa.RSAPrivateKey = PRIVATE_KEY, key_id: str = "test") -> str:
    jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return json.dumps({"keys": [{**jwk, "kid": key_id, "use": "sig", "alg": "RS256"}]})


def token(
    subject: str = "1234",
    *,
    key: rsa.RSAPrivateKey = PRIVATE_KEY,
    key_id: str = "test",
    **claims: object,
) -> str:
    now = int(time.time())
    standard = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600}
    return jwt.encode({**standard, **claims}, key, algorithm="RS256", headers={"kid": key_id})


def bearer(subject: str = "1234", **claims: object) -> dict[str, str]:
    return {"authorization": f"Bearer {token(subject, **claims)}"}


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now; all are held open until all are chosen."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def eventually(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for what another process does; fails loudly when it does not."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so after {timeout} s"
        time.sleep(0.02)


def base_config() -> Config:
    """Models `echo` (public), `private` and `guarded`, all served by the example echo server."""
    ports = free_ports(7)
    listener, http, xds, admin, metrics, one, two = (f"127.0.0.1:{port}" for port in ports)
    issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["RS256"]}
    return {
        "listener": {"address": listener},
        "control_plane": {"http": http, "xds": xds},
        "callout": {"workers": 2},
        "envoy": {"admin": admin},
        "telemetry": {"metrics": {"address": metrics}},
        "requests": {"expose_reason": True},
        "limits": {"listener": None},
        "auth": {"issuers": [{**issuer, "jwks_file": "jwks.json", "leeway": 0}]},
        "models": {
            "echo": {
                "stable": "v1",
                "versions": {
                    "v1": {"endpoints": [{"address": one}]},
                    "v2": {"endpoints": [{"address": two}]},
                },
                "methods": ["GET", "POST"],
                "content_types": ["*/*"],
                "websocket": True,
                "timeout": 0,
            },
        },
    }


@dataclass
class Gateway:
    """One `sluice up`; its config may be edited while it runs."""

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
                [*argv, "--demo"] if self.demo else argv, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_TIMEOUT
        while "Sluice is ready." not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30)
        shutil.rmtree(self.directory)
        return status

    def write(self) -> None:
        """Replace the config file in one step, as an editor does."""
        draft = self.directory / "gateway.new"
        draft.write_text(yaml.safe_dump(self.config, sort_keys=False))
        draft.replace(self.file)

    def edit(self, change: Callable[[Config], None]) -> float:
        """Change the config and wait until every node has it; returns the seconds that took."""
        version = self.status()["version"]
        changed = copy.deepcopy(self.config)
        change(changed)
        self.config = changed
        began = time.monotonic()
        self.write()
        eventually(lambda: self.status()["version"] != version and self.in_sync())
        return time.monotonic() - began

    def in_sync(self) -> bool:
        """Whether no push is under way."""
        return bool(self.status()["in_sync"])

    def status(self) -> dict[str, Any]:
        url = f"http://{self.config['control_plane']['http']}/v1/status"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, **options)

    def workers(self) -> list[int]:
        """Process ids of the callout's workers."""
        return [node["pid"] for node in self.status()["nodes"] if node["kind"] == "callout"]

    def children(self, name: str) -> list[int]:
        """Process ids below `sluice up` whose command line contains a text."""
        assert self.process is not None
        return [pid for pid in descendants(self.process.pid) if name in command_line(pid)]


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


@contextmanager
def running(config: Config, *arguments: str, demo: bool = True) -> Iterator[Gateway]:
    """A gateway for the length of a block; its log is shown when the block fails."""
    gateway = Gateway(config, demo, list(arguments))
    gateway.start()
    try:
        yield gateway
    except BaseException:
        print(gateway.log.read_text()[-20_000:])
        raise
    finally:
        gateway.stop()


def reported(gateway: Gateway, model: str) -> int:
    """Requests of a model that Envoy has reported, and the breaker so has heard of."""
    address = gateway.config["telemetry"]["metrics"]["address"]
    lines = httpx.get(f"http://{address}/metrics").text.splitlines()
    of_model = (
        line for line in lines if line.startswith(f'sluice_requests_total{{model="{model}"')
    )
    return sum(int(float(line.rpartition(" ")[2])) for line in of_model)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
