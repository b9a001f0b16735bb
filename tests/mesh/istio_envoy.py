"""A stock Envoy that istiod configures, as a gateway (`router`) or as the sidecar of a workload.

Traps: the address of the node must not be that of an endpoint of a ServiceEntry, or istiod takes
the Envoy for a sidecar of it. A `Gateway` needs `bind: 127.0.0.1` in its servers.
"""

import contextlib
import itertools
import json
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sluice.config.addresses import split_host_port
from sluice.envoy_binary import find_envoy
from tests.integration.gateway import PATIENCE, eventually, free_ports
from tests.mesh.processes import Process

Kind = Literal["router", "sidecar"]

Node = dict[str, Any]

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_addresses = (
    f"127.0.{third}.{fourth}" for third in itertools.count(100) for fourth in range(1, 255)
)


class IstioEnvoy:
    """An Envoy with the node of a workload: its namespace, labels and address.

    `metadata`: more metadata of the node, such as `INTERCEPTION_MODE`.
    """

    def __init__(
        self,
        kind: Kind,
        xds: str,
        folder: Path,
        *,
        labels: Mapping[str, str],
        namespace: str = "default",
        address: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        (admin,) = free_ports(1)
        self.kind, self.labels, self.namespace = kind, dict(labels), namespace
        self.address = address or next(_addresses)
        """The address of the workload, of which nothing needs to listen."""
        self.admin = f"http://127.0.0.1:{admin}"
        self.folder = folder
        self.name = f"{labels.get('app', kind)}-{folder.name}"
        self._metadata = dict(metadata or {})
        folder.mkdir(parents=True, exist_ok=True)
        bootstrap = folder / "bootstrap.json"
        bootstrap.write_text(json.dumps(self._bootstrap(xds, admin), indent=1))
        argv = [str(find_envoy()), "--config-path", str(bootstrap), "--disable-hot-restart"]
        self.process = Process("envoy", [*argv, "--concurrency", "1"], folder)

    def await_listener(self, port: int, timeout: float = PATIENCE) -> None:
        """Wait until Envoy listens on this port."""
        self.await_config(f":{port}", self.listeners, timeout)

    def await_config(self, text: str, read: Any = None, timeout: float = PATIENCE) -> None:
        """Wait until the config that istiod has sent contains this text."""

        def arrived() -> bool:
            self.process.require_running()
            return text in (read or self.config_dump)()

        eventually(arrived, timeout)

    def listeners(self) -> str:
        """Names and addresses of the active listeners."""
        return self._get("/listeners")

    def config_dump(self) -> str:
        """All config of this Envoy, as JSON."""
        return self._get("/config_dump?include_eds")

    def clusters(self) -> str:
        """Clusters with their endpoints, and the health of these, a line for each fact."""
        return self._get("/clusters")

    def stats(self, pattern: str) -> dict[str, int]:
        """Counters and gauges whose names match a regular expression."""
        lines = self._get(f"/stats?usedonly&filter={pattern}").splitlines()
        pairs = (line.rpartition(": ") for line in lines)
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def rejected(self) -> dict[str, int]:
        """Updates that this Envoy has rejected, by counter: empty if all were valid."""
        found = self.stats(r"update_rejected$")
        return {name: count for name, count in found.items() if count}

    def stop(self) -> None:
        """End this Envoy."""
        self.process.stop()

    def _get(self, path: str) -> str:
        with contextlib.suppress(OSError):
            with urllib.request.urlopen(f"{self.admin}{path}", timeout=10) as response:
                text: str = response.read().decode()
            return text
        self.process.require_running()
        return ""

    def _bootstrap(self, xds: str, admin: int) -> Node:
        config = {"ads": {}, "resource_api_version": "V3"}
        service = {"envoy_grpc": {"cluster_name": "xds-grpc"}}
        ads = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
        return {
            "node": self._node(),
            "admin": {"address": _socket_address("127.0.0.1", admin)},
            "dynamic_resources": {"ads_config": ads, "cds_config": config, "lds_config": config},
            # Istiod names `sds-grpc` for certificates, which nothing in the tests needs.
            "static_resources": {
                "clusters": [_grpc_cluster("xds-grpc", xds), _grpc_cluster("sds-grpc", xds)]
            },
        }

    def _node(self) -> Node:
        app, namespace = self.labels.get("app", self.kind), self.namespace
        domain = f"{namespace}.svc.cluster.local"
        return {
            "id": f"{self.kind}~{self.address}~{self.name}.{namespace}~{domain}",
            "cluster": f"{app}.{namespace}",
            "metadata": {
                "NAMESPACE": namespace,
                "LABELS": self.labels,
                "CLUSTER_ID": "Kubernetes",
                "ISTIO_VERSION": "1.31.0",
                "INTERCEPTION_MODE": "NONE",
                "WORKLOAD_NAME": app,
                "SERVICE_ACCOUNT": "default",
                **self._metadata,
            },
        }


def _socket_address(host: str, port: int | str) -> Node:
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _grpc_cluster(name: str, address: str) -> Node:
    endpoint = {"endpoint": {"address": _socket_address(*split_host_port(address))}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            _HTTP: {
                "@type": f"type.googleapis.com/{_HTTP}",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
