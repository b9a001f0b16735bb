"""The packages depend on each other as the design says, and a worker imports only what it uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_graph import cycle, grouped, import_graph

ROOT = Path(__file__).parent.parent

# Every import between these packages, from the lowest layer to the highest. A package must import
# each of its dependencies and nothing else.
DEPENDENCIES = {
    "protos": "",
    "sluice": "",
    "sluice.contract": "",
    "sluice.version": "",
    "sluice.fetch": "",
    "sluice.keys": "sluice.fetch sluice.version",
    "sluice.printable": "",
    "sluice.near_names": "",
    "sluice.garbage_collection": "",
    "sluice.config": (
        "sluice.contract sluice.garbage_collection sluice.keys sluice.near_names sluice.printable"
    ),
    "sluice.state_changes": "",
    "sluice.protobuf_fields": "",
    "sluice.media_types": "",
    "sluice.restart": "",
    "sluice.supervision": "sluice.restart",
    "sluice.tls": "",
    "sluice.grpc_credentials": "sluice.tls",
    "sluice.identity": "sluice.config sluice.tls",
    "sluice.token_files": "sluice.config sluice.tls",
    "sluice.followed_access": "sluice.config sluice.identity sluice.tls",
    "sluice.redis_files": "sluice.config sluice.tls",
    "sluice.envoy_identity": "sluice.config",
    "sluice.http": (
        "sluice.config sluice.contract sluice.fetch sluice.printable sluice.tls sluice.token_files"
        " sluice.version"
    ),
    "sluice.tensors": "protos sluice.config",
    "sluice.images": "sluice.config sluice.tensors",
    "sluice.data": "",
    "sluice.extras": "",
    "sluice.output": "",
    "sluice.certificates": "sluice.output",
    "sluice.demo": "sluice.data",
    "sluice.devkeys": "sluice.keys sluice.output",
    "sluice.bootstrap": (
        "sluice.config sluice.contract sluice.data sluice.envoy_identity sluice.output"
    ),
    "sluice.envoy_binary": "",
    "sluice.probe": "",
    "sluice.init_process": "",
    "sluice.private_folder": "",
    "extproc": "",
    "extproc.segments": "",
    "extproc.rpc": "extproc.segments sluice.contract",
    "extproc.framing": "extproc.segments",
    "extproc.counter_table": "",
    "extproc.caller": "",
    "extproc.memory_budget": "",
    "extproc.problem": "sluice.contract",
    "extproc.transport": (
        "extproc.framing extproc.memory_budget extproc.rpc extproc.segments"
        " sluice.grpc_credentials sluice.tls sluice.version"
    ),
    "extproc.auth": "sluice.config sluice.contract sluice.keys sluice.printable",
    "extproc.convert": (
        "extproc.memory_budget extproc.problem extproc.segments protos"
        " sluice.config sluice.contract sluice.garbage_collection sluice.images"
        " sluice.media_types sluice.protobuf_fields sluice.tensors"
    ),
    "extproc.policy": (
        "extproc.auth extproc.convert extproc.rpc extproc.transport protos sluice.config"
        " sluice.contract sluice.keys sluice.media_types sluice.tls"
    ),
    "extproc.decision": (
        "extproc.auth extproc.convert extproc.memory_budget extproc.policy sluice.config"
        " sluice.contract sluice.keys sluice.media_types sluice.printable"
    ),
    "extproc.limits": (
        "extproc.caller extproc.rpc extproc.transport protos sluice.config sluice.redis_files"
    ),
    "extproc.breaker": "extproc.counter_table sluice.config sluice.contract",
    "extproc.telemetry": (
        "extproc.breaker extproc.counter_table extproc.decision extproc.policy extproc.rpc"
        " protos sluice.config sluice.contract sluice.http sluice.supervision sluice.tls"
    ),
    "extproc.protection": (
        "extproc.breaker extproc.counter_table extproc.decision extproc.limits"
        " extproc.telemetry sluice.config sluice.contract"
    ),
    "extproc.mirror": (
        "extproc.breaker extproc.convert extproc.framing extproc.memory_budget extproc.policy"
        " protos sluice.contract sluice.media_types sluice.tensors"
    ),
    "extproc.services": (
        "extproc.decision extproc.limits extproc.policy extproc.problem extproc.protection"
        " extproc.rpc extproc.telemetry protos sluice.config sluice.contract"
    ),
    "extproc.services.ext_proc": (
        "extproc.caller extproc.convert extproc.decision extproc.framing"
        " extproc.memory_budget extproc.mirror extproc.policy extproc.rpc extproc.segments"
        " extproc.services protos sluice.contract sluice.media_types sluice.protobuf_fields"
    ),
    "extproc.process": (
        "extproc.auth extproc.breaker extproc.convert extproc.counter_table extproc.limits"
        " extproc.memory_budget extproc.mirror extproc.policy extproc.protection extproc.rpc"
        " extproc.services extproc.services.ext_proc extproc.telemetry extproc.transport protos"
        " sluice.config sluice.contract sluice.http sluice.private_folder sluice.state_changes"
        " sluice.supervision sluice.tls sluice.version"
    ),
    "extproc.transport.__main__": "extproc.rpc extproc.services extproc.transport",
    "xds": "",
    "xds.events": "",
    "xds.waiting": "",
    "xds.protocol": (
        "protos sluice.config sluice.contract sluice.grpc_credentials sluice.identity"
        " sluice.printable sluice.protobuf_fields sluice.tls sluice.token_files xds.events"
    ),
    "xds.sources": "sluice.config sluice.keys",
    "xds.sources.endpoints": "sluice.config sluice.printable xds.sources",
    "xds.sources.store": "sluice.config sluice.redis_files xds.events xds.sources",
    "xds.resources": (
        "protos sluice.config sluice.contract sluice.envoy_identity sluice.keys"
        " sluice.version xds.protocol"
    ),
    "xds.envoys": (
        "protos sluice.config sluice.contract sluice.http sluice.printable sluice.state_changes"
        " xds.events xds.protocol"
    ),
    "xds.static": (
        "sluice.bootstrap sluice.config sluice.contract sluice.envoy_identity xds.protocol"
        " xds.resources"
    ),
    "xds.istio": "protos sluice.config sluice.contract xds.protocol xds.resources xds.static",
    "xds.rollout": ("sluice.contract xds.events xds.istio xds.protocol xds.resources xds.waiting"),
    "xds.gateway_api": "sluice.config sluice.contract xds.resources xds.static",
    "xds.candidate": (
        "sluice.config sluice.contract sluice.envoy_binary sluice.printable xds.protocol"
        " xds.resources xds.sources xds.sources.store xds.static"
    ),
    "xds.canary": (
        "sluice.config sluice.contract sluice.printable xds.candidate xds.envoys xds.events"
        " xds.resources xds.rollout xds.sources.store"
    ),
    "xds.state": (
        "sluice.config xds.canary xds.envoys xds.events xds.protocol xds.resources xds.rollout"
    ),
    "xds.delivery": (
        "sluice.config sluice.contract sluice.keys xds.candidate xds.istio xds.resources"
        " xds.rollout xds.sources xds.sources.endpoints xds.sources.store xds.state xds.waiting"
    ),
    "xds.admin.api": "sluice.config sluice.contract sluice.http sluice.printable",
    "xds.admin": (
        "sluice.config sluice.contract sluice.envoy_binary sluice.http sluice.tls"
        " sluice.version xds.admin.api xds.canary xds.candidate xds.envoys xds.events"
        " xds.protocol xds.resources xds.rollout xds.sources.store xds.state"
    ),
    "xds.pipeline": (
        "sluice.config xds.canary xds.candidate xds.delivery xds.events xds.resources"
        " xds.rollout xds.sources xds.sources.endpoints xds.sources.store xds.state"
    ),
    "xds.tasks": "",
    "xds.main": (
        "sluice.config sluice.http sluice.identity xds.admin xds.canary xds.candidate xds.envoys"
        " xds.events xds.istio xds.pipeline xds.protocol xds.rollout xds.sources"
        " xds.sources.endpoints xds.sources.store xds.state xds.tasks"
    ),
    "video": "",
    "video.frame": "",
    "video.source": "sluice.contract video.frame",
    "video.sources": "sluice.contract sluice.media_types video.frame video.source",
    "video.output": "protos video.frame",
    "video.results": (
        "protos sluice.config sluice.media_types sluice.protobuf_fields sluice.tensors"
    ),
    "video.conversion": "sluice.config sluice.contract sluice.images sluice.tensors video.frame",
    "video.inference": (
        "protos sluice.config sluice.contract sluice.printable sluice.protobuf_fields"
        " sluice.version video.conversion video.frame video.results"
    ),
    "video.streams": (
        "protos sluice.config sluice.contract sluice.printable video.frame video.inference"
        " video.output video.source"
    ),
    "video.sinks": (
        "protos sluice.config sluice.printable sluice.redis_files sluice.version video.frame"
        " video.results"
    ),
    "video.annotation": (
        "protos sluice.config sluice.images video.conversion video.frame video.results"
    ),
    "video.service": (
        "protos sluice.config sluice.contract sluice.grpc_credentials sluice.http sluice.near_names"
        " sluice.printable video.annotation video.frame video.inference video.output video.results"
        " video.source video.sources video.streams"
    ),
    "video.process": (
        "protos sluice.config sluice.contract sluice.grpc_credentials sluice.http"
        " sluice.private_folder sluice.supervision sluice.tls sluice.version video.conversion"
        " video.inference video.service video.sinks video.source video.sources video.streams"
    ),
    "examples": "protos",
}

# These may import anything. No package of the table may import them.
COMMANDS = ("sluice.cli", "sluice.explain", "sluice.runner")
DEVELOPMENT = ("bench", "tests")

MODULES = import_graph(ROOT, [folder.name for folder in ROOT.iterdir() if any(folder.glob("*.py"))])
PACKAGES = grouped(MODULES, [*DEPENDENCIES, *COMMANDS, *DEVELOPMENT])

# Packages that a worker must not load, because each takes memory in every worker.
NOT_IN_WORKERS = {
    "PIL", "grpc", "numpy", "prometheus_client", "redis", "simplejpeg", "starlette", "yaml",
}  # fmt: skip


def test_every_module_belongs_to_a_package_of_the_table() -> None:
    assert set(PACKAGES) == {*DEPENDENCIES, *COMMANDS, *DEVELOPMENT}


@pytest.mark.parametrize("package", DEPENDENCIES)
def test_a_package_imports_exactly_its_allowed_dependencies(package: str) -> None:
    imported, allowed = PACKAGES[package], set(DEPENDENCIES[package].split())
    assert not imported - allowed, f"{package} imports packages that the table does not allow"
    assert not allowed - imported, f"{package} does not import packages that the table allows"


def test_the_table_lists_a_package_after_its_dependencies() -> None:
    order = list(DEPENDENCIES)
    for package, dependencies in DEPENDENCIES.items():
        below = order[: order.index(package)]
        assert set(dependencies.split()) <= set(below), f"{package} is too far up in the table"


def test_packages_do_not_import_each_other_in_a_cycle() -> None:
    shipped = {name: PACKAGES[name] - {*DEVELOPMENT} for name in PACKAGES}
    assert cycle(shipped) == []


def test_modules_do_not_import_each_other_in_a_cycle() -> None:
    assert cycle(MODULES) == []


def test_a_worker_loads_only_what_every_worker_uses() -> None:
    loaded = modules_loaded_by("extproc.process.worker", "extproc.transport.aio.server")
    found = {name.partition(".")[0] for name in loaded}
    assert "pydantic" in found
    assert not found & NOT_IN_WORKERS


def test_importing_the_command_line_loads_none_of_its_commands() -> None:
    loaded = modules_loaded_by("sluice.cli")
    assert "sluice.cli" in loaded
    assert "sluice.cli.explain" not in loaded


def modules_loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())
