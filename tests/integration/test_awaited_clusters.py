"""A real Envoy holds a request whose cluster it does not have yet, over each variant of ADS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml

from sluice.bootstrap import NodeNames, render
from sluice.config.checked import load_checked
from sluice.config.named_files import MAY_RUN_ELSEWHERE
from sluice.envoy_binary import find_envoy
from sluice.runner.process import is_free
from tests import plain_http
from tests.integration.ext_proc_server import CLUSTER as CHOSEN
from tests.integration.ext_proc_server import ExtProcServer
from tests.integration.gateway import eventually, free_ports
from tests.integration.test_xds import model_servers, version
from xds.protocol.nodes import Node, Nodes
from xds.protocol.resource_types import CLUSTER
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import NodeIdentity, ResourceSet, Snapshot, Variant
from xds.resources import awaited_clusters
from xds.resources.compiled import compile_config

TIMEOUT = 60.0


def behind(node: NodeIdentity) -> str:
    """The variant of ADS streams, on which clusters are late."""
    assert isinstance(node, Node)
    return "behind" if node.stream.aggregated else ""


def published(snapshot: Snapshot, late: str) -> Snapshot:
    """The snapshot, and its variant for ADS, which does not have the late cluster."""
    clusters = dict(snapshot.types[CLUSTER].resources)
    del clusters[late]
    others = snapshot.with_types({CLUSTER: ResourceSet.of(clusters, "behind")})
    return replace(snapshot, variants={"behind": Variant.built(others)}, variant_of=behind)


def is_listening(address: str) -> bool:
    return not is_free(address)


@asynccontextmanager
async def gateway(
    directory: Path, servers: list[str], late: str, api_type: str
) -> AsyncIterator[str]:
    """An Envoy with everything except for the late cluster. Yields the URL of the model."""
    listener, xds, admin, callout = (f"127.0.0.1:{port}" for port in free_ports(4))
    config = {
        "listener": {"address": listener},
        "control_plane": {"xds": xds},
        "callout": {"address": callout, "workers": 1},
        "envoy": {"admin": admin},
        "requests": {"expose_reason": True},
        "models": {
            "text": {"stable": "v1", "versions": {"v1": version(*servers), "v2": version(*servers)}}
        },
    }
    file, bootstrap = directory / "gateway.yaml", directory / "bootstrap.yaml"
    file.write_text(yaml.safe_dump(config))
    loaded = load_checked(file, MAY_RUN_ELSEWHERE)
    text = render(loaded.config, NodeNames("envoy-under-test"))
    bootstrap.write_text(text.replace("api_type: DELTA_GRPC", f"api_type: {api_type}"))
    nodes = Nodes(lambda: 0.0)
    nodes.publish(published(compile_config(loaded, loaded.config).snapshot, late))
    server, decider = XdsServer(nodes, xds), ExtProcServer(int(callout.split(":")[1]))
    decider.start()
    await server.start()
    options = ("-c", str(bootstrap), "--disable-hot-restart", "--log-level", "error")
    envoy = await asyncio.create_subprocess_exec(find_envoy(), *options)
    try:
        await asyncio.to_thread(eventually, partial(is_listening, listener), TIMEOUT)
        yield f"http://{listener}/v2/models/text/infer"
    finally:
        envoy.terminate()
        await envoy.wait()
        await server.stop()
        decider.stop()


async def get(url: str, cluster: str) -> httpx.Response:
    """A request that the callout sends to this cluster."""
    return await asyncio.to_thread(plain_http.get, url, headers={CHOSEN: cluster})


@pytest.mark.parametrize("api_type", ["DELTA_GRPC", "GRPC"])
def test_a_request_waits_for_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api_type: str
) -> None:
    monkeypatch.setattr(awaited_clusters, "TIMEOUT", TIMEOUT)

    async def scenario(servers: list[str]) -> None:
        async with gateway(tmp_path, servers, "text/v2", api_type) as url:
            assert (await get(url, "text/v2")).status_code == 200
            # The control plane says after a while that there is no such cluster.
            refused = await get(url, "no/cluster")
            assert (refused.status_code, refused.json()["reason"]) == (503, "unknown_service")
            # The Envoy still has all others.
            assert (await get(url, "text/v1")).status_code == 200

    with model_servers(1) as servers:
        asyncio.run(scenario(servers))
