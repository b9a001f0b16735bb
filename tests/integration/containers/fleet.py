"""A gateway in containers, with two Envoys behind a load balancer."""

import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from docker.models.containers import Container

from tests import plain_http
from tests.integration.containers.engine import (
    COMPOSE,
    ENVOY,
    EXAMPLES,
    REDIS,
    SLUICE,
    Place,
    execute,
    place,
    port,
)
from tests.integration.gateway import eventually

FIXED = "fixed"
"""A model that answers at once, for load."""

ROOT = Path(__file__).parents[3]
BALANCER = Path(__file__).with_name("balancer.yaml")
SERVICES = COMPOSE["services"]
EVERYWHERE = ("parts", "data")
"""Redis is reached only over the network `data`."""


@dataclass
class Fleet:
    """The containers by name, and the file of the config."""

    place: Place
    config: Path
    containers: dict[str, Container] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """With a token for all models."""
    operator: ssl.SSLContext = field(default_factory=ssl.create_default_context)
    """With the certificate of the operator."""

    def __getitem__(self, name: str) -> Container:
        return self.containers[name]

    @property
    def url(self) -> str:
        """The address of the load balancer."""
        return f"http://{self.address}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{port(self['balancer'], 8080)}"

    def logs(self) -> str:
        """What each container said last."""
        return self.place.logs()

    def start_callout(self, name: str) -> None:
        """Start a container of the callout, which has the name `callout` for the Envoys."""
        command = ["callout", "--address", "0.0.0.0:18100", "--metrics", "0.0.0.0:9902"]
        self.containers[name] = self.place.run(
            SLUICE,
            command,
            EVERYWHERE,
            alias="callout",
            mounts=SERVICES["callout"]["volumes"],
            ports=[9902],
        )

    def edit(self, change: Callable[[Any], object]) -> None:
        """Change the config file, as an operator does."""
        config = yaml.safe_load(self.config.read_text())
        change(config)
        new = self.config.with_suffix(".new")
        new.write_text(yaml.safe_dump(config))
        new.rename(self.config)

    def infer(self, model: str = "sentiment", **headers: str) -> httpx.Response:
        body = (ROOT / "examples" / "sentiment.json").read_bytes()
        sent = {"content-type": "application/json", **self.headers}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return plain_http.post(
            f"{self.url}/v2/models/{model}/infer", content=body, headers=sent, timeout=30
        )

    def served(self) -> bool:
        """Whether both Envoys get answers of models. The load balancer chooses them in turn."""
        try:
            return all(
                self.infer(model).status_code == 200
                for model in ("sentiment", "sentiment", FIXED, FIXED) * 2
            )
        except httpx.TransportError:
            return False

    def workers(self, envoy: str) -> int:
        """The number of callout workers to which an Envoy sends calls."""
        answer = plain_http.get(
            f"http://127.0.0.1:{port(self[envoy], 9901)}/clusters?filter=^sluice-callout$"
        )
        lines = answer.text.splitlines()
        return sum(
            line.startswith("sluice-callout::") and line.endswith("::health_flags::healthy")
            for line in lines
        )

    def balanced(self) -> int:
        """The number of Envoys to which the load balancer sends requests."""
        answer = plain_http.get(f"http://127.0.0.1:{port(self['balancer'], 9901)}/clusters")
        return sum(line.endswith("health_flags::healthy") for line in answer.text.splitlines())

    def in_sync(self) -> bool:
        """Whether both Envoys and all workers have the config in force."""
        try:
            status = self._ask("control plane", 8081, "/v1/status").json()
        except httpx.TransportError:  # It starts.
            return False
        kinds = [node["kind"] for node in status["nodes"]]
        return status["in_sync"] and kinds.count("envoy") == 2 and kinds.count("callout") >= 2

    def limits_are_shared(self, callout: str) -> bool:
        """Whether Redis responds to all workers of a callout, as its metrics say."""
        metrics = self._ask(callout, 9902, "/metrics").text
        return "sluice_limit_backend_up 1.0" in metrics.splitlines()

    def _ask(self, name: str, inside: int, path: str) -> httpx.Response:
        """Ask a part as an operator."""
        address = f"https://127.0.0.1:{port(self[name], inside)}"
        with plain_http.client(verify=self.operator, timeout=10) as client:
            return client.get(f"{address}{path}").raise_for_status()


def _operator(control_plane: Container, folder: Path) -> ssl.SSLContext:
    """The certificate of the operator, which `setup` has made, copied out of the volume."""
    for name in ("ca.crt", "operator.crt", "operator.key"):
        (folder / name).write_text(execute(control_plane, "cat", f"/var/lib/sluice/certs/{name}"))
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    context.load_cert_chain(folder / "operator.crt", folder / "operator.key")
    return context


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Start all containers, with the config and the commands of docker-compose.yml."""
    shutil.copytree(ROOT / "deploy" / "compose", folder, dirs_exist_ok=True)
    shutil.copy(BALANCER, folder)
    for each in (folder, *folder.iterdir()):
        each.chmod(0o755)
    with place(str(folder)) as where:
        made = Fleet(where, folder / "gateway.yaml")
        made.edit(_for_tests)
        setup = where.run(
            SLUICE, ["/etc/sluice/setup.sh"], ["parts"],
            entrypoint="sh", mounts=SERVICES["setup"]["volumes"],
        )  # fmt: skip
        assert setup.wait()["StatusCode"] == 0, setup.logs().decode()
        parts = made.containers
        redis = SERVICES["redis"]
        parts["redis"] = where.run(
            REDIS,
            redis["command"],
            ["data"],
            alias="redis",
            mounts=redis["volumes"],
            user=redis["user"],
        )
        parts["models"] = where.run(
            EXAMPLES, SERVICES["models"]["command"].split(), ["parts"], alias="models"
        )
        # First, so that Envoys find its name when they start.
        parts["balancer"] = where.run(
            ENVOY, ["-c", "/etc/sluice/balancer.yaml"], ["parts"],
            alias="balancer", entrypoint="envoy", ports=[8080, 9901],
        )  # fmt: skip
        parts["control plane"] = where.run(
            SLUICE, SERVICES["control-plane"]["command"], EVERYWHERE,
            alias="control-plane", mounts=SERVICES["control-plane"]["volumes"],
            ports=[8081],
        )  # fmt: skip
        made.start_callout("callout")
        for name in ("envoy-a", "envoy-b"):
            parts[name] = where.run(
                ENVOY,
                ["envoy"],
                ["parts"],
                alias=name,
                mounts=SERVICES["envoy"]["volumes"],
                ports=[9901],
            )
        made.headers = {"authorization": f"Bearer {_token(made)}"}
        made.operator = _operator(parts["control plane"], folder)
        eventually(lambda: made.balanced() == 2 and made.served())
        yield made


def _for_tests(config: Any) -> None:
    config["limits"]["listener"] = {"rate": 100_000, "burst": 100_000}
    config["limits"]["rules"][0] |= {"rate": 50_000, "burst": 100_000}
    config["envoy"]["drain"] = {"minimum": 3}
    # A machine that is busy with all the containers is no failure.
    config["callout"]["message_timeout"] = 10
    # The balancer answers for this model, because the example models would need a CPU of their own.
    config["models"][FIXED] = {"versions": {"v1": {"endpoints": [{"address": "balancer:9100"}]}}}
    config["control_plane"]["envoys"] = ["envoy-a:9901", "envoy-b:9901"]


def _token(made: Fleet) -> str:
    command = ["sluice", "token", "--sub", "1234", "--group", "vision"]
    return execute(made["control plane"], *command).strip()
