"""Renders the bootstrap that an Envoy needs to be programmed by this control plane."""

import json
from string import Template

from sluice.config import GatewayConfig
from sluice.config.values import is_ip, split_host_port
from sluice.contract.names import NODE_CLUSTER
from sluice.data import data_path

MAX_CONNECTIONS = 50_000
"""Clients' connections at once: bounds file descriptors and buffers, not normal traffic."""


def render(config: GatewayConfig, node_id: str = "envoy") -> str:
    """The bootstrap as YAML; `node_id` tells Envoys apart in `sluice status`."""
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
        "max_connections": MAX_CONNECTIONS,
    }
    # JSON is YAML, so that no value can break out of its place.
    return template.substitute({key: json.dumps(value) for key, value in values.items()})
