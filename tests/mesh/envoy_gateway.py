"""A stock Envoy with the config that Envoy Gateway makes of Kubernetes objects.

`egctl x translate` is Envoy Gateway's own translation, without an API server. Envoy reads its
result from files.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sluice.envoy_binary import find_envoy
from tests.integration.gateway import eventually, free_ports
from tests.mesh.processes import Process
from tests.mesh.tools import MeshTools

Json = dict[str, Any]

TRANSLATION_TIMEOUT = 120

LOOPBACK, STAND_IN = "127.0.0.1", "10.255.255.254"
"""Envoy Gateway refuses loopback addresses of endpoints, so it gets another address for them."""

_RESOURCES = {
    "listeners": ("dynamicListeners", ("activeState", "listener")),
    "clusters": ("dynamicActiveClusters", ("cluster",)),
    "endpoints": ("dynamicEndpointConfigs", ("endpointConfig",)),
    "routes": ("dynamicRouteConfigs", ("routeConfig",)),
}
"""Where a config dump has the resources of a type."""


def translate(tools: MeshTools, documents: str, folder: Path) -> Json:
    """The objects with their status, and the config of Envoy (`xds`), for these documents."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "objects.yaml"
    file.write_text(documents.replace(LOOPBACK, STAND_IN))
    options = ["--from", "gateway-api", "--to", "gateway-api,xds", "--type", "all"]
    ran = subprocess.run(
        [tools.program("egctl"), "x", "translate", *options, "--output", "json", "--file", file],
        capture_output=True,
        text=True,
        timeout=TRANSLATION_TIMEOUT,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: Json = json.loads(ran.stdout.replace(STAND_IN, LOOPBACK))
    return found


def refusals(translated: Json) -> list[tuple[str, str]]:
    """The objects with a condition that does not hold: kind and name, and why."""
    objects = {name: each for name, each in translated.items() if name != "xds"}
    return list(_refusals(objects, ""))


def _refusals(value: object, owner: str) -> Iterator[tuple[str, str]]:
    inner: list[object] = []
    if isinstance(value, dict):
        if "kind" in value and "metadata" in value:
            owner = f"{value['kind']}/{value['metadata'].get('name', '')}"
        for condition in value.get("conditions", ()):
            if condition["status"] != "True":
                yield owner, str(condition.get("message"))
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    for each in inner:
        yield from _refusals(each, owner)


class EnvoyGatewayEnvoy:
    """The Envoy of a Gateway. All listeners are on a loopback address."""

    def __init__(self, translated: Json, folder: Path) -> None:
        (dump,) = translated["xds"].values()
        self.resources = _resources(dump)
        (admin,) = free_ports(1)
        bootstrap = folder / "bootstrap.json"
        bootstrap.write_text(json.dumps(_bootstrap(self.resources, admin, folder)))
        argv = [str(find_envoy()), "--config-path", str(bootstrap), "--disable-hot-restart"]
        self.process = Process("envoy", [*argv, "--concurrency", "1"], folder)
        self.log = self.process.log

    def await_ready(self) -> None:
        """Wait until Envoy has all its config."""

        def ready() -> bool:
            self.process.require_running()
            return "starting workers" in self.log.read_text(errors="replace")

        eventually(ready)

    def stop(self) -> None:
        """End this Envoy."""
        self.process.stop()


def _resources(dump: Json) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {name: [] for name in _RESOURCES}
    for section in dump["configs"]:
        for name, (key, path) in _RESOURCES.items():
            for each in section.get(key, ()):
                for step in path:
                    each = each[step]
                found[name].append(each)
    return found


def _bootstrap(resources: dict[str, list[Json]], admin: int, folder: Path) -> Json:
    """The bootstrap, and the files that it names."""
    # Envoy Gateway's own listener for probes has a port that other Envoys may have too.
    listeners = [each for each in resources["listeners"] if "ready" not in each["name"]]
    for each in listeners:
        each["address"]["socketAddress"]["address"] = LOOPBACK
    routes = {each["name"]: each for each in resources["routes"]}
    _point_to_files([*listeners, *resources["clusters"]], folder)
    _write(folder / "listeners.json", listeners)
    _write(folder / "clusters.json", resources["clusters"])
    for name, each in routes.items():
        _write(_file(folder, "routes", name), [each])
    for each in resources["endpoints"]:
        _write(_file(folder, "endpoints", each["clusterName"]), [each])
    return {
        "node": {"id": "envoy-gateway", "cluster": "envoy-gateway"},
        "admin": {"address": {"socketAddress": {"address": LOOPBACK, "portValue": admin}}},
        "dynamicResources": {
            "ldsConfig": _source(folder / "listeners.json"),
            "cdsConfig": _source(folder / "clusters.json"),
        },
    }


def _point_to_files(value: object, folder: Path) -> None:
    """Let listeners and clusters read their routes and endpoints from files."""
    inner: list[object] = []
    if isinstance(value, dict):
        if "rds" in value:
            file = _file(folder, "routes", value["rds"]["routeConfigName"])
            value["rds"]["configSource"] = _source(file)
        if "edsClusterConfig" in value:
            file = _file(folder, "endpoints", value["name"])
            value["edsClusterConfig"] = {"edsConfig": _source(file)}
        inner = list(value.values())
    elif isinstance(value, list):
        inner = value
    for each in inner:
        _point_to_files(each, folder)


def _file(folder: Path, kind: str, name: str) -> Path:
    return folder / f"{kind}-{name.replace('/', '_')}.json"


def _source(file: Path) -> Json:
    return {"pathConfigSource": {"path": str(file)}, "resourceApiVersion": "V3"}


def _write(file: Path, resources: list[Json]) -> None:
    file.write_text(json.dumps({"versionInfo": "1", "resources": resources}))
