"""Containers of the tests: their images, and how they run."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker
import docker.errors
import pytest
import yaml
from docker.models.containers import Container
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

TAG = os.environ.get("TAG", "latest")
SLUICE, ENVOY, VIDEO, EXAMPLES = (
    f"{name}:{TAG}" for name in ("sluice", "sluice-envoy", "sluice-video", "sluice-examples")
)
REDIS = os.environ.get("REDIS_IMAGE", "redis:7.2-bookworm")
PROMETHEUS = os.environ.get("PROMETHEUS_IMAGE", "prom/prometheus:v3.5.0")

LOOPBACK = ("127.0.0.1",)
"""The address of published ports. The engine chooses the ports."""


def connect() -> docker.DockerClient:
    """The engine of this machine. Without one, the test is skipped, but in CI it fails."""
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Docker engine: {error}")
    try:
        client.images.get(SLUICE)
    except docker.errors.ImageNotFound:
        pytest.fail(f"no image {SLUICE}: run `make test-docker`, which builds it")
    return client


@dataclass
class Place:
    """What all containers of a gateway share: networks, volumes, and the folder of the config."""

    client: docker.DockerClient
    networks: dict[str, Network]
    volumes: dict[str, str]
    config: str
    undo: ExitStack
    """Stops the containers at the end, each also if another one cannot be stopped."""
    started: list[Container] = field(default_factory=list)

    def run(
        self,
        image: str,
        command: Sequence[str],
        networks: Sequence[str],
        *,
        alias: str = "",
        ports: Sequence[int] = (),
        mounts: Sequence[str] = (),
        entrypoint: str | None = None,
        user: str | None = None,
    ) -> Container:
        """Start a container with the first of these networks, and connect it to the others.

        It has as few rights as in docker-compose.yml. `mounts`: `VOLUME:PATH`, as in that file.
        Mounts of folders of the machine are left out.
        """
        first, *others = networks
        container = (
            DockerContainer(image)
            .with_command(list(command))
            .with_network(self.networks[first])
            .with_network_aliases(*([alias] if alias else []))
            .with_env("SLUICE_CONFIG", "/etc/sluice/gateway.yaml")
            .with_volume_mapping(self.config, "/etc/sluice", "ro")
            .with_kwargs(
                read_only=True,
                user=user,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                entrypoint=entrypoint,
            )
            .with_tmpfs_mount("/tmp")
        )
        container.ports = {f"{port}/tcp": LOOPBACK for port in ports}
        for name, path, *mode in (mount.split(":") for mount in mounts):
            if name in self.volumes:
                container.with_volume_mapping(self.volumes[name], path, *mode or ["rw"])
        self.undo.callback(container.stop)
        started = container.start().get_wrapped_container()
        self.started.append(started)
        for name in others:
            self.connect(started, name, alias)
        return started

    def connect(self, container: Container, network: str, alias: str = "") -> None:
        """Connect a container to one more network."""
        self.networks[network].connect(container.id, [alias] if alias else None)

    def disconnect(self, container: Container, network: str) -> None:
        """Cut a container off from a network."""
        self.client.networks.get(self.networks[network].id).disconnect(container)

    def logs(self) -> str:
        """What each container said last."""
        found = []
        for container in self.started:
            container.reload()
            said = container.logs(tail=20).decode(errors="replace")
            found.append(f"--- {container.attrs['Args']}: {container.status}\n{said}")
        return "\n".join(found)


COMPOSE = yaml.safe_load((Path(__file__).parents[3] / "docker-compose.yml").read_text())
"""docker-compose.yml."""


@contextmanager
def place(config: str) -> Iterator[Place]:
    """Networks and volumes, which are removed at the end with all containers."""
    client = connect()
    with ExitStack() as undo:
        networks, volumes = {}, {}
        for name in ("parts", "data"):
            networks[name] = Network().create()
            undo.callback(networks[name].remove)
        for name in COMPOSE["volumes"]:
            volume = client.volumes.create()
            undo.callback(volume.remove)
            volumes[name] = volume.name
        made = Place(client, networks, volumes, config, undo)
        try:
            yield made
        except BaseException:
            print(made.logs())
            raise


def port(container: Container, inside: int) -> int:
    """The port of this machine that is published for one of the container. Restarts change it."""
    container.reload()
    return int(container.ports[f"{inside}/tcp"][0]["HostPort"])


def execute(container: Container, *command: str) -> str:
    """The output of a command in the container, which must succeed."""
    status, output = container.exec_run(list(command))
    text = output.decode(errors="replace")
    assert status == 0, f"{command}: {text[-2000:]}"
    return text


def compose() -> list[str]:
    """The command of Docker Compose: the plugin, else the program of the same name."""
    plugin = ["docker", "compose"]
    found = subprocess.run([*plugin, "version"], capture_output=True, check=False)
    return plugin if found.returncode == 0 else ["docker-compose"]
