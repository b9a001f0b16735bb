"""How the route table scales in Envoy: one for all models, or one for each model (scoped routes).

Envoy reads the tables from a file, so the figures are Envoy's alone. An edit changes the timeout of
one model in the file; its cost is the CPU time of Envoy until the new table is in force.
"""

import argparse
import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.any_pb2 import Any as PackedMessage

from bench import wrk
from bench.envoy_config import upstream_config
from bench.processes import cpu_seconds, envoy, free_port, local_address, resident_bytes
from protos.discovery_pb2 import DiscoveryResponse
from sluice.config import GatewayConfig, policy_document
from xds.protocol import resource_types
from xds.protocol.wire import field
from xds.resources import build

ROUTES = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
SCOPES = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration"
EDITS = 5
SECONDS = 3
BODY_BYTES = 512


def gateway(models: int, server: str, *, edited: int = 0) -> GatewayConfig:
    """A config of many models. `edited` changes the last one."""
    version = {"endpoints": [{"address": server}]}
    made: dict[str, object] = {
        f"m{number}": {
            "versions": {"v1": version, "v2": version},
            "stable": "v1",
            "access": {"public": True},
            "canaries": [{"version": "v2", "percent": 5}],
            "timeout": 30 + (edited if number == models - 1 else 0),
        }
        for number in range(models)
    }
    return GatewayConfig.model_validate({"models": made, "limits": {"listener": None}})


RUNTIME_KEY = re.compile(rb"sluice\.native\.[0-9a-f]+\.m\d+(?:/v\d)?")
"""Switches native routes on; without workers, nothing else does."""


def table(config: GatewayConfig) -> bytes:
    """The serialized route table of a config."""
    snapshot = build(config, policy_document(config, Path()), Path())
    return snapshot.types[resource_types.ROUTE].resources["gateway"].body


class OneTable:
    """One table for all models."""

    name = "one table"

    def manager(self, file: Path) -> Mapping[str, object]:
        """The part of the connection manager that says where the routes are."""
        source = _source(file)
        return {"rds": {"route_config_name": "gateway", "config_source": source}}

    def response(self, config: GatewayConfig, version: str) -> bytes:
        """The content of the file."""
        packed = PackedMessage(type_url=ROUTES, value=table(config))
        return DiscoveryResponse(version_info=version, resources=[packed]).SerializeToString()


class TableForEachModel:
    """One table for each model, found by the third segment of the path."""

    name = "scoped"

    def __init__(self) -> None:
        self._tables: dict[str, tuple[str, bytes]] = {}

    def manager(self, file: Path) -> Mapping[str, object]:
        """The part of the connection manager that says where the routes are."""
        extractor = {"name": ":path", "element_separator": "/", "index": 3}
        source = _source(file)
        return {
            "scoped_routes": {
                "name": "scopes",
                "scope_key_builder": {"fragments": [{"header_value_extractor": extractor}]},
                "rds_config_source": source,
                "scoped_rds": {"scoped_rds_config_source": source},
            }
        }

    def response(self, config: GatewayConfig, version: str) -> bytes:
        """The content of the file. The tables of models that did not change are kept."""
        packed = [
            PackedMessage(type_url=SCOPES, value=self._scope(name, config))
            for name in config.models
        ]
        return DiscoveryResponse(version_info=version, resources=packed).SerializeToString()

    def _scope(self, name: str, config: GatewayConfig) -> bytes:
        content = config.models[name].model_dump_json()
        kept = self._tables.get(name)
        if kept is None or kept[0] != content:
            alone = config.model_copy(update={"models": {name: config.models[name]}})
            # ScopedRouteConfiguration: name, key with one fragment, route_configuration. The name
            # of the table occurs twice, and the last one counts.
            key = field(3, *field(1, *field(1, name.encode())))
            body = field(5, table(alone), *field(1, name.encode()))
            scope = b"".join((*field(1, name.encode()), *key, *body))
            kept = self._tables[name] = content, scope
        return kept[1]


def _source(file: Path) -> dict[str, object]:
    return {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}


def main() -> None:
    """Print a table: variants by the number of models."""
    parser = argparse.ArgumentParser(prog="python -m bench.route_table", description=__doc__)
    parser.add_argument("models", nargs="*", type=int, default=[1, 1000, 5000])
    counts = parser.parse_args().models
    wrk.require_wrk("bench-callout")
    print("models variant    first   last    edit CPU  edit in force  start   RSS")
    with tempfile.TemporaryDirectory() as folder:
        for count in counts:
            for variant in (OneTable(), TableForEachModel()):
                print(f"{count:6} {variant.name:9} {_measure(Path(folder), variant, count)}")


def _measure(folder: Path, variant: OneTable | TableForEachModel, models: int) -> str:
    model, port, admin = free_port(), free_port(), free_port()
    server = local_address(model)
    file = folder / "routes.pb"
    file.write_bytes(variant.response(gateway(models, server), "0"))
    keys = RUNTIME_KEY.findall(file.read_bytes())
    config = _envoy(variant.manager(file), keys, server, port, admin, models)
    with envoy(upstream_config(model), folder / "model.json", [model]):
        started = time.perf_counter()
        with envoy(config, folder / "envoy.json", [port]) as process:
            _await_version(admin, variant, 0)
            start = time.perf_counter() - started
            script = folder / "post.lua"
            script.write_text(wrk.POST % BODY_BYTES)
            first, last = (_load(process.pid, port, name, script) for name in (0, models - 1))
            edits = [
                _edit(process.pid, folder, file, variant, server, models, number, admin)
                for number in range(1, EDITS + 1)
            ]
            memory = resident_bytes(process.pid) / 1e6
    cpu, wall = (sorted(each)[EDITS // 2] for each in zip(*edits, strict=True))
    return (
        f"{first:5.1f} us {last:5.1f} us {cpu * 1e3:6.0f} ms {wall * 1e3:10.0f} ms"
        f" {start:6.2f} s {memory:5.0f} MB"
    )


def _edit(
    pid: int, folder: Path, file: Path, variant: OneTable | TableForEachModel,
    server: str, models: int, number: int, admin: int,
) -> tuple[float, float]:  # fmt: skip
    draft = folder / "draft.pb"
    draft.write_bytes(variant.response(gateway(models, server, edited=number), str(number)))
    before, began = cpu_seconds(pid), time.perf_counter()
    draft.replace(file)
    _await_version(admin, variant, number)
    return cpu_seconds(pid) - before, time.perf_counter() - began


def _await_version(admin: int, variant: OneTable | TableForEachModel, number: int) -> None:
    """Wait until Envoy has accepted this many edits."""
    kind = "rds.gateway" if isinstance(variant, OneTable) else "scoped_rds.scopes"
    wanted = f"{kind}.update_success: {number + 1}"
    url = f"http://{local_address(admin)}/stats?filter={kind}.update_success"
    while True:
        with urllib.request.urlopen(url, timeout=60) as response:
            if wanted in response.read().decode():
                return
        time.sleep(0.005)


def _load(pid: int, port: int, model: int, script: Path) -> float:
    """Microseconds of Envoy's CPU for a request to the model."""
    before = cpu_seconds(pid)
    report = wrk.run(port, f"/v2/models/m{model}/infer", {}, 16, SECONDS, script)
    assert not report.failed, report.text
    return (cpu_seconds(pid) - before) / report.requests * 1e6


def _envoy(
    routes: Mapping[str, object], keys: list[bytes], server: str, port: int, admin: int, models: int
) -> dict[str, object]:
    layer = {"name": "native", "static_layer": {key.decode(): 100 for key in keys}}
    host, _, number = server.rpartition(":")
    address = {"socket_address": {"address": host, "port_value": int(number)}}
    clusters = [
        {
            "name": f"m{model}/{version}",
            "load_assignment": {
                "cluster_name": f"m{model}/{version}",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
            },
        }
        for model in {0, models - 1}
        for version in ("v1", "v2")
    ]
    api = "type.googleapis.com/envoy.extensions.filters"
    router = {"@type": f"{api}.http.router.v3.Router"}
    manager = {
        "@type": f"{api}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": [{"name": "router", "typed_config": router}],
        **routes,
    }
    listener = {
        "name": "gateway",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "node": {"id": "bench", "cluster": "bench"},
        "layered_runtime": {"layers": [layer]},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {"listeners": [listener], "clusters": clusters},
    }


if __name__ == "__main__":
    main()
