"""Istiod (pilot-discovery) over the API server of the tests, without Kubernetes beside that.

Proxies connect to it without TLS, because no node agent gives them certificates.
"""

import contextlib
import json
import signal
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.integration.gateway import START_TIMEOUT, eventually, free_ports
from tests.mesh.kube_api import KubeApi
from tests.mesh.processes import Process
from tests.mesh.tools import MeshTools

NAMESPACE = "istio-system"
"""The root namespace of the mesh."""

_ENVIRONMENT = {
    "POD_NAMESPACE": NAMESPACE,
    # These filters are in Istio's own build of Envoy only.
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
}


class Istiod:
    """An istiod with a mesh config of its own.

    `mesh_config` is merged over a config that suits the tests; its top-level keys win. `arguments`
    and `environment` are those of `pilot-discovery discovery`.
    """

    def __init__(
        self,
        tools: MeshTools,
        kube_api: KubeApi,
        folder: Path,
        mesh_config: Mapping[str, object],
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        xds, http, monitoring = free_ports(3)
        self.folder = folder
        self.xds = f"127.0.0.1:{xds}"
        """The address to which proxies connect."""
        self.http = f"http://127.0.0.1:{http}"
        folder.mkdir(parents=True, exist_ok=True)
        self._write_mesh_config(mesh_config)
        argv = [
            tools.program("pilot-discovery"), "discovery",
            "--kubeconfig", str(kube_api.kubeconfig),
            "--meshConfig", str(self._mesh_file),
            "--grpcAddr", self.xds,
            "--httpAddr", f"127.0.0.1:{http}",
            "--monitoringAddr", f"127.0.0.1:{monitoring}",
            "--secureGRPCAddr", "", "--httpsAddr", "",
            "--ctrlz_port", "0",
            *arguments,
        ]  # fmt: skip
        name = {"POD_NAME": folder.name}
        variables = {**_ENVIRONMENT, **name, **(environment or {})}
        self.process = Process("istiod", argv, folder, variables, signal.SIGKILL)

    @property
    def _mesh_file(self) -> Path:
        return self.folder / "mesh.yaml"

    def _write_mesh_config(self, mesh_config: Mapping[str, object]) -> None:
        config = {
            "trustDomain": "cluster.local",
            "rootNamespace": NAMESPACE,
            "defaultConfig": {"discoveryAddress": self.xds},
            "enableAutoMtls": False,
            "accessLogFile": "/dev/stdout",
            **mesh_config,
        }
        self._mesh_file.write_text(yaml.safe_dump(config))

    def await_ready(self) -> None:
        """Wait until istiod has read its config and serves proxies."""

        def ready() -> bool:
            self.process.require_running()
            with contextlib.suppress(OSError):
                self._get("/ready")
                return True
            return False

        eventually(ready, START_TIMEOUT)

    def configs(self, kind: str, namespace: str) -> list[Any]:
        """The objects of a kind, such as `VirtualService`, that istiod has in memory."""
        found = json.loads(self._get("/debug/configz"))
        wanted = kind, namespace
        return [each for each in found if _kind_and_namespace(each) == wanted]

    def synced(self) -> list[Any]:
        """What istiod says of its proxies: the versions that were sent and accepted."""
        found: list[Any] = json.loads(self._get("/debug/syncz"))
        return found

    def stop(self) -> None:
        """End istiod."""
        self.process.stop()

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.http}{path}", timeout=10) as response:
            text: str = response.read().decode()
        return text


def _kind_and_namespace(item: Any) -> tuple[str, str | None]:
    return item["kind"], item["metadata"].get("namespace")
