"""Every code block of the documentation works.

Blocks of `sh` run in order, in one shell for each page, with a real gateway. The only changes are
those of ports (`documented_ports`). A new block is tested without a change here; a block that
cannot be tested needs an entry with a reason in one of the tables.
"""

import argparse
import ast
import importlib
import json
import random
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sluice.cli import parser
from sluice.config.load import load, loads
from sluice.demo import PORTS, copy_demo
from tests import plain_http
from tests.installed import Installed, install
from tests.integration.gateway import eventually
from tests.integration.snippets import ROOT, Block, Shell, blocks, shell

NOT_CODE = {
    ("docs/architecture.md", f"{'':12}┌{'─' * 31} Envoy {'─' * 31}┐"): "a diagram",
    ("README.md", "client ──▶ Envoy ── ext_proc ──▶ callout workers (Python)      "
     "authentication, version, limits, tensors"): "a diagram",
    ("docs/video.md", f"{'':12}┌{'─' * 9} Envoy {'─' * 9}┐"): "a diagram",
    ("docs/gateway-api.md", "client ──▶ Envoy (Envoy Gateway) ── ext_proc ──▶ callout workers "
     "◀── policy ── control plane of Sluice"): "a diagram",
    ("CONTRIBUTING.md", "breaker: ignore failures a client can cause alone"): "a commit message",
}  # fmt: skip
"""Blocks without a language."""

FOREIGN = {
    (
        "docs/istio.md",
        "configSources:",
    ): "istiod's; tests/mesh/test_mcp.py starts it with these keys",
    ("docs/kubernetes.md", "identity:"): "a part of one; tests/deploy/test_video.py checks it",
}
"""Blocks of `yaml` that are no whole config of a gateway."""

GENERATED = {"docs/reference/cli.md": "usage texts that test_reference compares with the parsers"}
"""Pages whose blocks are generated."""

DOCKER = "needs Docker; tests/integration/containers/test_compose.py runs the compose file"

CAMERA = "needs a camera; tests/integration/test_video_cameras.py watches one"

LEFT_OUT = {
    ("README.md", "make run"): "installs packages; the test starts the gateway of this target",
    ("README.md", "make test"): "runs these tests",
    ("README.md", "docker compose up --detach --wait"): DOCKER,
    ("docs/compose.md", "docker compose up --detach --wait"): DOCKER,
    ("docs/compose.md", "docker compose exec control-plane sluice status"): DOCKER,
    ("docs/compose.md", "mkdir -p var/compose # git ignores var"): DOCKER,
    ("docs/compose.md", "docker compose build"): DOCKER,
    ("docs/compose.md", "docker compose --profile tracing up --detach --wait"): DOCKER,
    ("docs/compose.md", "sed -i 's/# video:/video:/' deploy/compose/gateway.yaml"): DOCKER,
    ("docs/video.md", "export SLUICE_TOKEN=$TOKEN SLUICE_CAMERA_PASSWORD=..."): CAMERA,
    ("docs/video.md", 'curl -N -H "Authorization: Bearer $TOKEN" '
     "http://127.0.0.1:8080/v2/models/digits/video/door"): CAMERA,
    ("docs/get-started.md", "python3 -m venv sluice-env"): "installs packages",
    ("docs/gateway-api.md",
     "sluice export gateway-api gateway.yaml --listener http --conversion > objects.yaml"):
        "tests/mesh/test_gateway_api.py exports a config, and applies the objects",
    ("docs/istio.md", "sluice certs var/certs"): "needs a cluster; tests/deploy/test_istio.py "
        "validates the config with these files",
    ("docs/istio.md", "kubectl apply -k deploy/istio"): "needs a cluster; tests/mesh/test_istio.py "
        "applies the same objects",
    ("docs/istio.md",
     "sluice export istio deploy/istio/gateway.yaml > deploy/istio/mesh/routes.yaml"):
        "needs a cluster; tests/mesh/test_istio.py applies the same objects",
    ("docs/istio.md", "GATEWAY=$(kubectl -n istio-system get service istio-ingressgateway -o "
     "jsonpath='{.status.loadBalancer.ingress[0].ip}')"):
        "needs a cluster; tests/mesh/test_istio.py sends such requests",
    ("docs/istio.md", "sluice canary set sentiment/v2 10"): "needs a cluster; "
        "tests/mesh/test_istio.py does such a step",
    ("docs/istio.md", "sluice export istio deploy/istio/gateway.yaml --part mesh-config"):
        "needs a cluster; tests/mesh/test_istio.py applies the same objects",
    ("docs/istio.md", "kubectl -n istio-system create secret generic sluice-NAME "
     "--from-file=ca.crt --from-file=tls.crt --from-file=tls.key"): "needs a cluster",
    ("docs/istio.md",
     "kubectl delete virtualservices,destinationrules,serviceentries,envoyfilters,"
     "authorizationpolicies,telemetries \\"): "needs a cluster",
    ("docs/kubernetes.md", "kind create cluster"): "needs a cluster",
    ("docs/kubernetes.md", "make images TAG=0.1.0"): "needs a cluster and Docker",
    ("docs/kubernetes.md", "sluice certs var/certs"): "needs a cluster; test_kubernetes_pods runs "
        "the same pods without one",
    ("docs/kubernetes.md",
     "TOKEN=$(sluice token --key-file var/certs/signing.pem --sub 1234 --group vip \\"):
        "needs a cluster; test_kubernetes_pods sends the same request",
    ("docs/kubernetes.md", "kubectl apply -k overlays/production"): "needs a cluster",
    ("docs/kubernetes.md",
     "kubectl -n sluice port-forward deployment/sluice-control-plane 8081:8081 &"):
        "needs a cluster",
    ("docs/kubernetes.md", "kubectl -n sluice rollout restart deployment/sluice-control-plane"):
        "needs a cluster",
    ("docs/kubernetes.md",
     "kubectl apply -k overlays/production -l app.kubernetes.io/name=sluice-control-plane"):
        "needs a cluster",
    ("docs/operate.md", "sluice profile gateway.yaml --seconds 10 --output flame.svg"):
        "a profile needs py-spy and load; test_telemetry takes one",
    ("docs/telemetry.md", "sluice profile gateway.yaml --seconds 10 --worker 1 --output flame.svg"):
        "a profile needs py-spy and load; test_telemetry takes one",
    ("docs/transport.md", "make h2spec" + " " * 44 + "# HTTP/2 conformance, strict"):
        "installs Go, and runs for minutes",
}  # fmt: skip
"""Blocks of `sh` that do not run. Their `sluice` command lines are checked all the same."""

RUN_UNTIL_STOPPED = {
    ("docs/admin-api.md", "sluice control-plane gateway.yaml --store sqlite:history.db"):
        "is in force",
    ("docs/get-started.md", "sluice up --demo"): "Sluice is ready.",
    ("docs/get-started.md", "sluice up gateway.yaml --demo"): "Sluice is ready.",
    ("examples/README.md", "python -m examples.model_server --model sentiment --version v1 "
     "--rest 127.0.0.1:9101 --grpc 127.0.0.1:9201"): "sentiment v1 rest=",
    ("examples/README.md", "python -m examples.model_server "
     "--serve sentiment:v1 127.0.0.1:9101 127.0.0.1:9201 \\"): "sentiment v2 rest=",
}  # fmt: skip
"""Blocks of `sh` that end with Ctrl-C, and what they print when they are ready."""

SEPARATE_MACHINES = ("docs/operate.md", "sluice control-plane gateway.yaml")
"""A block with one line for each machine."""

REFUSED = {("docs/get-started.md", "for i in 1 2 3 4 5 6; do"): "429"}
"""Blocks of `sh` whose last request is refused, and the last line that they print."""


def test_every_block_is_tested_or_has_a_reason_why_not() -> None:
    known = {"sh", "yaml", "json", "python"}
    without = [
        str(block)
        for block in blocks()
        if block.language not in known and block.key not in NOT_CODE and block.page not in GENERATED
    ]
    assert not without, "give the block a language that is tested, or a reason in NOT_CODE"


def test_every_entry_of_a_table_names_a_block() -> None:
    keys = {block.key for block in blocks()}
    for table in (NOT_CODE, FOREIGN, LEFT_OUT, RUN_UNTIL_STOPPED, REFUSED, {SEPARATE_MACHINES: ""}):
        assert not set(table) - keys
    assert not set(GENERATED) - {page for page, _ in keys}


# --- blocks that do not run


CONFIGS = [each for each in blocks("yaml") if each.key not in FOREIGN]


@pytest.mark.parametrize("block", CONFIGS, ids=str)
def test_a_yaml_block_is_a_valid_config(block: Block) -> None:
    config: dict[str, Any] = yaml.safe_load(block.text)
    models = config.setdefault("models", {})
    for name in config.get("limits", {}).get("models", {}):
        models.setdefault(name, {})
    for group in config.get("node_groups", {}).values():
        models.update({name: {} for name in group.get("models", ()) if name not in models})
    for model in models.values():
        model.setdefault(
            "versions", {name: _version(9001 + n) for n, name in enumerate(["v1", "v2"])}
        )
        model.setdefault("stable", "v1")
    loads(yaml.safe_dump(config))


def _version(port: int) -> dict[str, Any]:
    return {"endpoints": [{"address": f"127.0.0.1:{port}"}]}


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_a_json_block_is_a_document_or_a_member_of_one(block: Block) -> None:
    json.loads(block.text if block.text.startswith("{") else f"{{{block.text}}}")


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_a_python_block_compiles_and_imports_existing_names(block: Block) -> None:
    tree = compile(
        block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert not {alias.name for alias in node.names} - set(dir(module))


def sluice_lines(block: Block) -> Iterator[list[str]]:
    """The arguments of each `sluice` command of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sluice"]:
            yield list(takewhile(lambda word: word not in (">", "|"), words[1:]))


@pytest.mark.parametrize(
    "block", [block for block in blocks("sh") if block.key in LEFT_OUT], ids=str
)
def test_the_commands_of_a_block_that_does_not_run_have_valid_arguments(block: Block) -> None:
    for arguments in sluice_lines(block):
        assert isinstance(parser().parse_args(arguments), argparse.Namespace)


# --- blocks that run


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of a page: the installed package, free ports, and a folder to work in."""

    installed: Installed
    folder: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        programs = f"{self.folder / 'bin'}:{Path(sys.executable).parent}"
        own = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
        return {**self.installed.environment, **own}

    def documented_ports(self) -> dict[str, str]:
        """Addresses of the documentation, and those of the test in their place."""
        at = {8080: 0, 8081: 1, 18000: 2, 9901: 3, 9902: 4} | {9100 + n: 20 + n for n in range(6)}
        at |= {9201: 30, 9202: 31}
        return {f"127.0.0.1:{old}": f"127.0.0.1:{self.port + new}" for old, new in at.items()} | {
            "10.0.0.5:18000": f"127.0.0.1:{self.port + 2}"
        }

    def text(self, text: str) -> str:
        """A text of a page with the ports of the test."""
        ports = self.documented_ports()
        pattern = "|".join(map(re.escape, sorted(ports, key=len, reverse=True)))
        return re.sub(rf"(?:{pattern})\b", lambda match: ports[match[0]], text)

    def own_demo(self) -> str:
        """Shell code that writes the demo of `sluice up --demo` with the ports of the test."""
        command = shlex.join(self.installed.command("init", "--port", str(self.port)))
        return f'[ "$*" != "up --demo" ] || [ -e sluice-demo ] || {command} || exit 1\n'

    def write_program(self, name: str, prelude: str, command: Sequence[str]) -> None:
        """Write a program of the reader's `PATH`."""
        program = self.folder / "bin" / name
        program.write_text(f'#!/bin/sh\n{prelude}exec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)

    def write_addresses(self, config: Path) -> None:
        """Add the ports of the test to a config of a page, which uses the defaults."""
        copy = yaml.safe_load((self.folder / "demo" / "gateway.yaml").read_text())
        names = ("listener", "control_plane", "envoy", "telemetry", "callout")
        added = {name: copy[name] for name in names}
        config.write_text(config.read_text() + "\n" + yaml.safe_dump(added))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def reader(installed: Installed, tmp_path: Path) -> Reader:
    """A reader whose `sluice` runs the installed package."""
    (tmp_path / "bin").mkdir()
    found = Reader(installed, tmp_path, block_of_free_ports())
    found.write_program("sluice", found.own_demo(), installed.command())
    found.write_program("python", "", [sys.executable])
    keys = installed.home / ".local/state/sluice/dev-jwks.json"
    copy_demo(tmp_path / "demo", keys, found.port)
    return found


def block_of_free_ports() -> int:
    """The first of `PORTS` ports, of which none is in use now."""
    while True:
        # Below the ports that the kernel gives to clients.
        first = random.randrange(20_000, 32_000, PORTS)
        try:
            with ExitStack() as stack:
                for port in range(first, first + PORTS):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        return first


def run_page(page: str, session: Shell, reader: Reader, after: Callable[[Block], None]) -> None:
    """Run all blocks of a page in order. `after` is called after each of them."""
    for block in blocks("sh"):
        if block.page == page and block.key not in LEFT_OUT:
            run_block(block, session, reader.text(block.text))
            after(block)


def run_block(block: Block, session: Shell, text: str) -> None:
    if block.key in RUN_UNTIL_STOPPED:
        session.stop_backgrounds()
        session.start(text, RUN_UNTIL_STOPPED[block.key])
    elif block.key in REFUSED:
        assert session.run(text, refused=True).split()[-1] == REFUSED[block.key]
    elif block.key != SEPARATE_MACHINES:
        session.run(text)


def nothing(_: Block) -> None:
    pass


RUNS = {
    "README.md",
    "docs/admin-api.md",
    "docs/commands.md",
    "docs/get-started.md",
    "docs/operate.md",
    "docs/security.md",
    "examples/README.md",
    "docs/configure.md",
    "docs/video.md",
}


def test_every_page_with_blocks_that_run_has_a_test() -> None:
    assert {block.page for block in blocks("sh") if block.key not in LEFT_OUT} == RUNS


def test_the_blocks_of_the_first_page_work_in_a_clone(reader: Reader) -> None:
    assert "\n\t$(BIN)/sluice up --demo $(ARGS)\n" in (ROOT / "Makefile").read_text()
    clone = reader.folder / "clone"
    shutil.copytree(ROOT / "examples", clone / "examples")
    shutil.copy(reader.folder / "demo" / "gateway.yaml", clone / "examples" / "gateway.yaml")
    (clone / ".venv/bin").mkdir(parents=True)
    (clone / ".venv/bin/activate").write_text("")
    with shell(clone, {**reader.environment, **gateway_of(clone / "examples")}) as session:
        session.start("sluice up examples/gateway.yaml --demo", "Sluice is ready.")
        run_page("README.md", session, reader, nothing)


def test_the_blocks_of_the_first_steps_work_with_the_installed_package(reader: Reader) -> None:
    work = reader.folder / "work"
    work.mkdir()
    own = work / "my-gateway" / "gateway.yaml"
    before = reader.installed.files()

    def after(block: Block) -> None:
        if block.text.startswith("cat > gateway.yaml"):
            reader.write_addresses(own)
            session.run(f"export SLUICE_CONFIG={own}")

    with shell(work, reader.environment) as session:
        run_page("docs/get-started.md", session, reader, after)
    assert reader.installed.files() == before
    assert load(own).models.keys() == {"sentiment", "digits"}


def test_the_commands_for_separate_machines_start_a_gateway(reader: Reader) -> None:
    work = reader.folder / "demo"
    (block,) = (block for block in blocks("sh") if block.key == SEPARATE_MACHINES)
    with shell(work, {**reader.environment, **gateway_of(work)}) as session:
        session.run("TOKEN=$(sluice token --sub 1234 --group vip)")
        config = load(work / "gateway.yaml")
        callout = f"--address {config.callout.address} --metrics {config.telemetry.metrics.address}"
        for line in reader.text(block.text).splitlines():
            agreeing = f"{line} {callout}" if line.startswith("sluice callout") else line
            session.start(agreeing, "")
        eventually(lambda: status(f"http://{config.listener.address}/v2/models/echo/x") == 401)
        run_page("docs/operate.md", session, reader, nothing)


def status(url: str) -> int:
    try:
        return plain_http.get(url, timeout=5).status_code
    except httpx.TransportError:
        return 0


def test_the_blocks_of_the_example_models_work(reader: Reader) -> None:
    with shell(ROOT, {**reader.environment, "PYTHONPATH": str(ROOT)}) as session:
        session.run(f"cd {reader.folder}; ln -s {ROOT / 'examples'} examples")
        run_page("examples/README.md", session, reader, nothing)


def test_the_blocks_of_the_configuration_work(reader: Reader) -> None:
    work = reader.folder / "demo"
    with shell(work, reader.environment) as session:
        run_page("docs/configure.md", session, reader, nothing)
    key_set = json.loads((work / "jwks.json").read_text())
    assert [key["alg"] for key in key_set["keys"]] == ["ES256"]


def test_the_blocks_about_security_work(reader: Reader) -> None:
    work = reader.folder / "demo"
    with shell(work, reader.environment) as session:
        run_page("docs/security.md", session, reader, nothing)
    assert (work / "certs" / "ca.crt").exists()


def test_the_blocks_of_the_admin_api_work(reader: Reader) -> None:
    work = reader.folder / "demo"
    with shell(work, reader.environment) as session:
        session.run("sluice token --sub 1234 > /dev/null")  # creates the key set of the config
        run_page("docs/admin-api.md", session, reader, nothing)
        history = json.loads(session.run("curl $API/history"))
    assert [each["origin"] for each in history["revisions"]].count("canary") == 3
    assert history["revisions"][0]["reason"] == "v2 is worse"


def test_the_blocks_about_commands_work(reader: Reader) -> None:
    work, folder = reader.folder / "demo", reader.folder / "config"
    config = work / "gateway.yaml"
    for port in range(reader.port + 24, reader.port + 19, -1):
        # The models of the demo with the ports that stand for those of the page.
        config.write_text(config.read_text().replace(f":{port}", f":{port + 1}"))
    environment = {"XDG_CONFIG_HOME": str(folder), **reader.environment, **gateway_of(work)}
    with shell(work, environment) as session:
        session.run("sluice token --sub 1")  # creates the key set of the config
        session.start("sluice control-plane gateway.yaml --store memory", "HTTP on")
        run_page("docs/commands.md", session, reader, nothing)
        found = session.run("sluice history --output json")
    assert [each["reason"] for each in json.loads(found)["revisions"]][:1] == [
        "roll back to revision 1"
    ]
    contexts = yaml.safe_load((folder / "sluice" / "contexts.yaml").read_text())
    assert contexts["current"] == "production"


def test_the_blocks_about_video_work(reader: Reader) -> None:
    work = reader.folder / "demo"
    with shell(work, {**reader.environment, **gateway_of(work)}) as session:
        session.run(f"ln -s {ROOT / 'examples'} examples")
        session.start("sluice up gateway.yaml --demo", "Sluice is ready.")
        run_page("docs/video.md", session, reader, nothing)


def gateway_of(folder: Path) -> Mapping[str, str]:
    """The environment in which commands find the gateway of this folder."""
    return {"SLUICE_CONFIG": str(folder / "gateway.yaml")}
