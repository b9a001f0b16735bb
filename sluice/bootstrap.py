"""Renders the bootstrap with which an Envoy connects to the control plane and the callout."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from sluice.config import GatewayConfig
from sluice.config.addresses import LOOPBACK_HOSTS, is_localhost, needs_dns, split_host_port
from sluice.contract.names import (
    CONFIG_RUNTIME,
    NATIVE_RUNTIME,
    NODE_CLUSTER,
    RUNTIME_CLUSTER,
    RUNTIME_METADATA,
)
from sluice.data import data_path
from sluice.envoy_identity import sds_files, token_filters, transport_socket
from sluice.output import replace_file


def max_connections(config: GatewayConfig, max_files: int) -> int:
    """The maximum number of client connections of an Envoy that can open `max_files` files.

    Without a free file descriptor, Envoy cannot connect to the callout or to a model. So clients
    get at most half of them.
    """
    return max(1, min(config.envoy.max_connections, max_files // 2))


_READING_PATHS: Final = (
    r"/(ready|stats|stats/prometheus|clusters|listeners|config_dump|server_info|memory)(\?.*)?"
)

FAIL_READINESS: Final = "/healthcheck/fail"
STOP_LISTENING: Final = "/drain_listeners"
"""Paths of Envoy's admin interface that drain it."""

_LUA: Final = "type.googleapis.com/envoy.extensions.string_matcher.lua.v3.Lua"

_LOCALITY = ("region", "zone", "sub_zone")


@dataclass(frozen=True, slots=True)
class NodeNames:
    """What an Envoy says of itself to the control plane.

    `id` identifies the Envoy in `sluice status`. `cluster` and `locality` (`REGION/ZONE/SUB_ZONE`)
    are for node groups, as the id.
    """

    id: str = "envoy"
    cluster: str = NODE_CLUSTER
    locality: str = ""


def render(
    config: GatewayConfig,
    node: NodeNames = NodeNames(),
    *,
    connections: int | None = None,
    directory: Path = Path(),
    drain_folder: Path | None = None,
) -> str:
    """The bootstrap of an Envoy, in YAML.

    `drain_folder`: folder with the files that let the admin interface drain this Envoy
    (`drain_file`). Without it, nothing does.

    `connections` is the maximum number of client connections; None: that of the config. File names
    in the config are relative to `directory`. With `identity`, Envoy also needs the files that
    `write_sds_files` writes.
    """
    admin_host, admin_port = split_host_port(config.envoy.admin)
    control_planes = config.control_plane.xds_addresses
    template = Template((data_path("envoy") / "bootstrap.yaml").read_text())
    workers = config.callout.addresses()
    values: dict[str, object] = {
        "node_id": node.id,
        "node_cluster": node.cluster,
        "node_locality": dict(zip(_LOCALITY, node.locality.split("/"), strict=False)),
        "admin_host": admin_host,
        "admin_port": int(admin_port),
        "admin_paths": list(_admin_paths(drain_folder)),
        "xds_type": "STRICT_DNS" if any(map(needs_dns, control_planes)) else "STATIC",
        "xds_endpoints": [_endpoint(each) for each in control_planes],
        "runtime_metadata": RUNTIME_METADATA,
        "runtime_layer": NATIVE_RUNTIME,
        "config_layer": CONFIG_RUNTIME,
        "runtime_cluster": RUNTIME_CLUSTER,
        "callout_type": "STRICT_DNS" if any(map(needs_dns, workers)) else "STATIC",
        "callout_endpoints": [_endpoint(worker) for worker in workers],
        **_identity(config, directory),
        "max_connections": connections or config.envoy.max_connections,
        "max_heap": config.envoy.max_heap,
    }
    # Values are JSON, which is valid YAML, so a value cannot add keys to the document.
    return template.substitute({key: json.dumps(value) for key, value in values.items()})


def drain_file(folder: Path, path: str) -> Path:
    """The file that lets the admin interface take a request that drains Envoy, while it exists."""
    return folder / path.rpartition("/")[2]


def _admin_paths(drain_folder: Path | None) -> Iterator[dict[str, object]]:
    """The paths of the admin interface, as string matchers in JSON."""
    yield {"safe_regex": {"regex": _READING_PATHS}}
    if drain_folder is not None:
        files = ", ".join(
            f"[{_lua(path.encode())}] = {_lua(os.fsencode(drain_file(drain_folder, path)))}"
            for path in (FAIL_READINESS, STOP_LISTENING)
        )
        code = Template(_DRAINING).substitute(files=files)
        matcher = {"@type": _LUA, "source_code": {"inline_string": code}}
        yield {"custom": {"name": "envoy.string_matcher.lua", "typed_config": matcher}}


# Envoy has no other way to change at run time who may use the admin interface. A secret in a path
# would be no secret: /config_dump shows the bootstrap.
_DRAINING: Final = """\
function envoy_match(path)
  local name = ({ $files })[path]
  if name == nil then return false end
  local file = io.open(name)
  if file == nil then return false end
  file:close()
  return true
end
"""


def _lua(content: bytes) -> str:
    """A string of Lua."""
    return '"' + "".join(_lua_character(byte) for byte in content) + '"'


def _lua_character(byte: int) -> str:
    is_plain = 0x20 <= byte < 0x7F and byte not in b'"\\'
    return chr(byte) if is_plain else f"\\{byte:03d}"


def write_sds_files(config: GatewayConfig, directory: Path) -> list[Path]:
    """Write the files of SDS that the bootstrap names. Returns their paths. Raises OSError."""
    if config.identity is None:
        return []
    files = dict(sds_files(config.identity, directory))
    for path, content in files.items():
        replace_file(path, content)
    return list(files)


def _identity(config: GatewayConfig, directory: Path) -> dict[str, object]:
    """TLS and credentials towards the control plane and the callout. `null` is no TLS."""
    identity = config.identity
    if identity is None:
        return {"xds_filters": [], "xds_transport_socket": None, "callout_transport_socket": None}
    server = identity.control_plane
    has_tls = identity.mutual and not config.callout.address.startswith("unix:")
    return {
        "xds_filters": token_filters(identity, directory),
        "xds_transport_socket": server and transport_socket(identity, directory, server.name),
        "callout_transport_socket": transport_socket(identity, directory, identity.callout.name)
        if has_tls
        else None,
    }


def _endpoint(address: str) -> dict[str, object]:
    """The endpoint with an address `host:port` or `unix:/path`, as JSON."""
    if address.startswith("unix:"):
        return {"endpoint": {"address": {"pipe": {"path": address.removeprefix("unix:")}}}}
    host, port = split_host_port(address)
    hosts = LOOPBACK_HOSTS if is_localhost(host) else (host,)
    first, *others = (
        {"socket_address": {"address": each, "port_value": int(port)}} for each in hosts
    )
    additional = [{"address": other} for other in others]
    return {"endpoint": {"address": first, "additional_addresses": additional}}
