"""Configs of `bench.gateway`: gateways with many models, and plain Envoy."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
)

from bench.envoy_config import cluster
from bench.ports import GatewayPorts
from bench.processes import local_address
from bench.tokens import TokenIssuer
from sluice.config import GatewayConfig
from xds.resources.listener import listener
from xds.resources.listener_settings import ListenerSettings

FILE = Path(__file__).with_name("gateway.yaml")
PLAIN = "plain"

MAX_HEAP = "4GiB"
"""Of Envoy. With thousands of models, the default is too small."""

Config = dict[str, Any]


def issuers() -> list[TokenIssuer]:
    """The issuers that the config names, with new keys."""
    return [
        TokenIssuer(each["issuer"]) for each in yaml.safe_load(FILE.read_text())["auth"]["issuers"]
    ]


def model_name(number: int) -> str:
    """The name of a model. The first has the limit of `gateway.yaml`."""
    return "text" if number == 0 else f"text-{number}"


def gateway(
    placement: str, models: int, threads: int, upstream: str,
    trusted: Sequence[TokenIssuer], directory: Path,
) -> tuple[int, Config]:  # fmt: skip
    """The port and the config of a gateway with this placement and number of models."""
    config = yaml.safe_load(FILE.read_text())
    for each, issuer in zip(config["auth"]["issuers"], trusted, strict=True):
        each["jwks"] = issuer.jwks
    model = config["models"].pop("text")
    for version in model["versions"].values():
        version["endpoints"] = [{"address": upstream}]
    config["models"] = {model_name(number): copy.deepcopy(model) for number in range(models)}
    ports = GatewayPorts()
    log = str(directory / "access.log")
    config |= ports.sections(directory, workers=2, threads=threads, log=log)
    config["envoy"]["max_heap"] = MAX_HEAP
    return ports.listener, {**config, "placement": placement}


def plain_envoy(port: int, upstream: str) -> Config:
    """Config of an Envoy that only forwards. Its listener has the options of the gateway's."""
    settings = GatewayConfig.model_validate({"listener": {"address": local_address(port)}})
    own = ListenerSettings.of(settings)
    resource = listener(own, Path(), answers_readiness=False, awaits_clusters=False)
    [network_filter] = resource.filter_chains[0].filters
    assert network_filter.typed_config is not None
    manager = network_filter.typed_config.unpack()
    assert isinstance(manager, HttpConnectionManager)
    # What the gateway adds, and what is not a message of its own in JSON.
    manager.rds = manager.local_reply_config = None
    for added in (
        manager.http_filters,
        manager.early_header_mutation_extensions,
        manager.access_log,
    ):
        added.clear()
    resource.listener_filters.clear()
    resource.filter_chains.clear()
    http = {"name": "http", "typed_config": {**_any(_MANAGER), **manager.to_dict(), **_forward()}}
    inspector = {"name": "inspector", "typed_config": _any(_INSPECTOR)}
    config = {
        **resource.to_dict(),
        "listener_filters": [inspector],
        "filter_chains": [{"filters": [http]}],
    }
    return {"static_resources": {"listeners": [config], "clusters": [cluster(PLAIN, upstream)]}}


def _forward() -> Config:
    """Forwards every request."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": PLAIN}}
    router = {"name": "router", "typed_config": _any(_ROUTER)}
    return {
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
    }


def _any(name: str) -> Config:
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}"}


_MANAGER = "filters.network.http_connection_manager.v3.HttpConnectionManager"
_INSPECTOR = "filters.listener.http_inspector.v3.HttpInspector"
_ROUTER = "filters.http.router.v3.Router"
