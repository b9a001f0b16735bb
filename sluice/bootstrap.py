"""Renders the bootstrap with which an Envoy connects to the control plane."""

import json
from string import Template

from sluice.config import GatewayConfig
from sluice.config.addresses import is_ip, split_host_port
from sluice.contract.names import NODE_CLUSTER
from sluice.data import data_path


def max_connections(config: GatewayConfig, max_files: int) -> int:
    """The maximum number of client connections of an Envoy that can open `max_files` files.

    Without a free file descriptor, Envoy cannot connect to the callout or to a model. So clients
    get at most half of them.
    """
    return max(1, min(config.envoy.max_connections, max_files // 2))


def render(config: GatewayConfig, node_id: str = "envoy", *, connections: int | None = None) -> str:
    """The bootstrap in YAML; `node_id` identifies the Envoy in `sluice status`.

    `connections` is the maximum number of client connections; None: that of the config.
    """
    admin_host, admin_port = split_host_port(config.envoy.admin)
    xds_host, xds_port = split_host_port(config.control_plane.xds)
    template = Template((data_path("envoy") / "bootstrap.yaml").read_text())
    values: dict[str, str | int] = {
        "node_id": node_id,
        "node_cluster": NODE_CLUSTER,
        "admin_host": admin_host,
        "admin_port": int(admin_port),
        "xds_host": xds_host,
        "xds_port": int(xds_port),
        "xds_type": "STATIC" if is_ip(xds_host) else "STRICT_DNS",
        "max_connections": connections or config.envoy.max_connections,
        "max_heap": config.envoy.max_heap,
    }
    # Values are JSON, which is valid YAML, so a value cannot add keys to the document.
    return template.substitute({key: json.dumps(value) for key, value in values.items()})
