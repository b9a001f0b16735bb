"""A stranger on a port of the gateway gets nothing, changes nothing and reports nothing."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from extproc.rpc import RpcError, StatusCode, unary
from extproc.services.health import SERVING, HealthService
from extproc.transport import TRANSPORTS, Tls, TransportName, serve
from extproc.transport.aio.client import ClientLimits, open_call
from protos.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from protos.protection_pb2 import InspectResponse
from sluice.certificates import make_certificates
from sluice.cli.certs import PARTS
from sluice.config import GatewayConfig, policy_document
from sluice.contract.names import POLICY_TYPE_URL, VIDEO_TYPE_URL
from sluice.contract.paths import (
    ADS_STREAM,
    CSDS_FETCH,
    CSDS_SERVICE,
    CSDS_STREAM,
    INSPECT,
    LOAD_METHOD,
    LOAD_SERVICE,
    OBSERVATIONS,
    REPORTS,
)
from sluice.explain.served import ServedExplainer
from sluice.followed_access import CalloutClients, FollowedAccess
from sluice.http.access import AccessGuard, Role, principal_of
from sluice.http.hosts import HostGuard
from sluice.http.server import serve_in_thread
from sluice.identity import (
    callout_client,
    callout_clients,
    callout_files,
    control_plane_files,
)
from sluice.tls import NO_CREDENTIALS, ClientCredentials
from xds.admin.explain import ClientRequest
from xds.envoys.load_reports import LoadReportReader
from xds.envoys.observations import Observations
from xds.envoys.reports import ReportService
from xds.envoys.worker_reports import WorkerReportReader
from xds.istio.mcp import istiod_server
from xds.protocol import resource_types
from xds.protocol.authorization import Authorization
from xds.protocol.client_status import ClientStatusService
from xds.protocol.identity import istiod_credentials, node_identities, xds_credentials
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.services import SERVICES
from xds.protocol.snapshot import Resource, Snapshot

LIMITS = ClientLimits(connect_timeout=5)
HEALTH = "/grpc.health.v1.Health/Check"
OTHER_METHODS = (
    f"/{LOAD_SERVICE}/{LOAD_METHOD}",
    OBSERVATIONS,
    f"/{CSDS_SERVICE}/{CSDS_STREAM}",
    f"/{CSDS_SERVICE}/{CSDS_FETCH}",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
"""Methods of the xDS port beside those of xDS."""

OPEN_METHODS = ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",)
"""Methods that say nothing of the gateway."""

NOW = datetime.now(UTC)

SNAPSHOT = Snapshot.of(
    {
        resource_types.CLUSTER: {"c": Resource.of(b"cluster")},
        resource_types.POLICY: {"p": Resource.of(b"policy")},
        resource_types.VIDEO: {"v": Resource.of(b"video")},
        resource_types.VIRTUAL_SERVICE: {"n/v": Resource.of(b"routes")},
    },
    "v1",
)


def make(folder: Path, now: datetime = NOW) -> None:
    list(make_certificates(folder, (*PARTS, replace(PARTS[2], name="o", file="o")), [], 3, now))


def identity(folder: Path, **tokens: str) -> GatewayConfig:
    named = {
        name.replace("-", "_"): {
            "certificate": str(folder / f"{name}.crt"),
            "private_key": str(folder / f"{name}.key"),
        }
        for name in ("control-plane", "callout", "envoy", "video")
    }
    for name, file in tokens.items():
        named[name] = {"token_file": str(folder / file)}
    access = {"certificates": [{"name": "o", "role": "operator"}]}
    return GatewayConfig.model_validate(
        {
            "identity": {"ca": str(folder / "ca.crt"), **named},
            "control_plane": {"access": access},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, those of another authority in `other`, and expired ones in `expired`."""
    root = tmp_path_factory.mktemp("certificates")
    make(root)
    make(root / "other")
    make(root / "expired", NOW - timedelta(days=30))
    for name in ("ca.crt", "ca.key"):
        (root / "expired" / name).write_bytes((root / name).read_bytes())
    make(root / "expired", NOW - timedelta(days=30))
    for name in ("callout", "envoy", "video"):
        (root / f"{name}.token").write_text(f"token-of-{name}-0123456789")
    (root / "wrong.token").write_text("a-wrong-token-0123456789")
    return root


def client(folder: Path, name: str = "", server: str = "sluice-control-plane") -> ClientCredentials:
    """A client that trusts the right authority, with a certificate of `name` if it is not empty."""
    if not name:
        return ClientCredentials(folder / "ca.crt", server)
    return ClientCredentials(
        folder / "ca.crt", server, folder / f"{name}.crt", folder / f"{name}.key"
    )


SERVER = "with the certificate of a server"
STRANGERS: Mapping[str, Callable[[Path, str], ClientCredentials]] = {
    "plain text": lambda _, __: NO_CREDENTIALS,
    "without a certificate": lambda folder, server: client(folder, "", server),
    "of another authority": lambda folder, server: client(folder, "other/envoy", server),
    "with an expired certificate": lambda folder, server: client(folder, "expired/envoy", server),
    SERVER: lambda folder, server: client(folder, "control-plane", server),
}
"""Clients that no gRPC server of the gateway knows."""


async def first_response(
    address: str, method: str, message: bytes, credentials: ClientCredentials
) -> bytes | None:
    """The first response to a message. Raises OSError or RpcError if the server refuses."""
    async with asyncio.timeout(60):
        call = await open_call(address, method, LIMITS, credentials)
        try:
            call.send(message)
            return await call.receive()
        finally:
            call.close()


async def is_refused(asked: Awaitable[object]) -> bool:
    try:
        await asked
    except RpcError as error:
        refused = (StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED)
        return error.code in (*refused, StatusCode.UNAVAILABLE)
    except OSError as error:
        return not isinstance(error, TimeoutError)
    return False


@dataclass(slots=True)
class Xds:
    address: str
    nodes: Nodes
    observations: Observations

    async def resources(self, credentials: ClientCredentials, type_url: str) -> int:
        """The number of resources of the first response."""
        request = DiscoveryRequest(type_url=type_url, resource_names=["*"])
        request.node.id = "n"
        message = request.SerializeToString()
        response = await first_response(self.address, ADS_STREAM, message, credentials)
        return len(DiscoveryResponse.FromString(response or b"").resources)


@asynccontextmanager
async def xds(config: GatewayConfig) -> AsyncIterator[Xds]:
    address = free_address()
    nodes, observations = Nodes(time.time), Observations()
    nodes.publish(SNAPSHOT)
    readers = (LoadReportReader(), WorkerReportReader())
    reports = [ReportService(observations, each) for each in readers]
    identities = node_identities(config, Path())
    assert identities is not None
    server = XdsServer(
        nodes, address, (*reports, ClientStatusService(nodes)),
        xds_credentials(config.identity, Path()), Authorization(identities.role),
    )  # fmt: skip
    await server.start()
    try:
        yield Xds(address, nodes, observations)
    finally:
        await server.stop()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return f"127.0.0.1:{reserved.getsockname()[1]}"


def discovery_methods() -> Iterator[str]:
    for service in SERVICES:
        yield from (f"/{service.name}/{method}" for method in service.methods)


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_gets_and_changes_nothing_by_xds(folder: Path, stranger: str) -> None:
    async def test() -> None:
        credentials = STRANGERS[stranger](folder, "sluice-control-plane")
        nack = DiscoveryRequest(type_url=resource_types.CLUSTER.url, response_nonce="1")
        nack.error_detail.message = "no"
        message = nack.SerializeToString()
        async with xds(identity(folder)) as server:
            for method in (*discovery_methods(), *OTHER_METHODS):
                asked = first_response(server.address, method, message, credentials)
                assert await is_refused(asked), method
            assert list(server.nodes) == []
            assert server.nodes.nack() is None
            assert not server.nodes.nacks

    asyncio.run(test())


@asynccontextmanager
async def source_of_istiod(config: GatewayConfig) -> AsyncIterator[Xds]:
    """The server for istiod. `nodes` are those of the gateway."""
    istiods = Nodes(time.time)
    nodes = Nodes(time.time, followers=(istiods,))
    nodes.publish(SNAPSHOT)
    assert config.mcp is not None
    server = istiod_server(istiods, config.mcp, istiod_credentials(config, Path()))
    await server.start()
    try:
        yield Xds(config.mcp.address, nodes, Observations())
    finally:
        await server.stop()


def with_mcp(folder: Path, *, tls: bool) -> GatewayConfig:
    mcp = {"address": free_address(), "tls": tls}
    section = {"hosts": ["a.example"], "gateways": ["g"], "mcp": mcp}
    known = identity(folder).model_dump(mode="json", exclude_none=True)
    return GatewayConfig.model_validate({**known, "istio": section})


@pytest.mark.parametrize("tls", [False, True])
def test_everyone_may_read_routes_of_a_mesh_and_nothing_else(folder: Path, *, tls: bool) -> None:
    """istiod has no credentials."""

    async def test() -> None:
        stranger = client(folder) if tls else NO_CREDENTIALS
        async with source_of_istiod(with_mcp(folder, tls=tls)) as server:
            for each in resource_types.ALL:
                found = await server.resources(stranger, each.url)
                assert found == (each is resource_types.VIRTUAL_SERVICE)
            nack = DiscoveryRequest(type_url=resource_types.VIRTUAL_SERVICE.url)
            nack.error_detail.message = "no"
            message = nack.SerializeToString()
            await first_response(server.address, ADS_STREAM, message, stranger)
            for method in {*discovery_methods(), *OTHER_METHODS} - {ADS_STREAM, *OPEN_METHODS}:
                with pytest.raises(RpcError) as refused:
                    await first_response(server.address, method, message, stranger)
                assert refused.value.code is StatusCode.UNIMPLEMENTED, method
            assert list(server.nodes) == []
            assert not server.nodes.nacks
            assert server.nodes.nack() is None

    asyncio.run(test())


def test_with_tls_the_server_for_istiod_takes_no_plain_text(folder: Path) -> None:
    async def test() -> None:
        async with source_of_istiod(with_mcp(folder, tls=True)) as server:
            url = resource_types.VIRTUAL_SERVICE.url
            assert await is_refused(server.resources(NO_CREDENTIALS, url))
            other = replace(client(folder), ca=folder / "other" / "ca.crt")
            with pytest.raises(ssl.SSLCertVerificationError):
                await server.resources(other, url)

    asyncio.run(test())


CLUSTERS, EXTENSIONS = resource_types.CLUSTER.url, resource_types.EXTENSION.url


TYPES = (CLUSTERS, POLICY_TYPE_URL, VIDEO_TYPE_URL)


async def gets_only(server: Xds, credentials: ClientCredentials, allowed: str | None) -> None:
    """Checks that a client gets resources of this type and of no other one."""
    for type_url in TYPES:
        asked = server.resources(credentials, type_url)
        if type_url == allowed:
            assert await asked == 1
        else:
            assert await is_refused(asked)


@pytest.mark.parametrize(
    ("part", "allowed"),
    [
        ("envoy", CLUSTERS),
        ("callout", POLICY_TYPE_URL),
        ("video", VIDEO_TYPE_URL),
        ("o", POLICY_TYPE_URL),
    ],
)
def test_a_part_gets_only_what_it_needs(folder: Path, part: str, allowed: str) -> None:
    async def test() -> None:
        async with xds(identity(folder)) as server:
            await gets_only(server, client(folder, part), allowed)

    asyncio.run(test())


@pytest.mark.parametrize(
    ("token", "allowed"),
    [
        ("envoy", CLUSTERS),
        ("callout", POLICY_TYPE_URL),
        ("video", VIDEO_TYPE_URL),
        ("wrong", None),
    ],
)
def test_a_token_is_the_simpler_choice(folder: Path, token: str, allowed: str | None) -> None:
    async def test() -> None:
        named = {part: f"{part}.token" for part in ("envoy", "callout", "video")}
        tokens = identity(folder, **named)
        credentials = replace(client(folder), token_file=folder / f"{token}.token")
        async with xds(tokens) as server:
            assert await is_refused(server.resources(client(folder), CLUSTERS))
            await gets_only(server, credentials, allowed)

    asyncio.run(test())


def test_a_client_refuses_another_server(folder: Path) -> None:
    async def test() -> None:
        async with xds(identity(folder)) as server:
            for credentials in (
                client(folder, "envoy", "sluice-callout"),
                replace(client(folder, "envoy"), ca=folder / "other" / "ca.crt"),
            ):
                with pytest.raises(ssl.SSLCertVerificationError):
                    await server.resources(credentials, CLUSTERS)

    asyncio.run(test())


def callout_tls(config: GatewayConfig) -> Tls:
    """The TLS of a callout worker that admits the clients of a config."""
    assert config.identity is not None
    files = callout_files(config.identity, Path())
    assert files is not None
    names = partial(callout_clients, config.identity, config.control_plane.access)
    return Tls(files.certificate, files.key, files.ca, names)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_stranger_cannot_call_the_callout(folder: Path, transport: TransportName) -> None:
    async def test() -> None:
        config = identity(folder)
        tls = callout_tls(config)
        health = HealthService(SERVING).services()
        services = {**health, REPORTS: health[HEALTH]}
        server = serve(transport, services, "127.0.0.1:0", tls=tls)
        if transport == "grpcio":
            server = serve(transport, services, free_address(), tls=tls)
        address = await server.start()
        try:
            for stranger, make_credentials in STRANGERS.items():
                if stranger == SERVER:
                    continue  # the control plane asks the callout about limits
                credentials = make_credentials(folder, "sluice-callout")
                for method in (HEALTH, REPORTS):
                    assert await is_refused(first_response(address, method, b"", credentials))
            for part in ("envoy", "callout", "control-plane", "o"):
                known = client(folder, part, "sluice-callout")
                assert await first_response(address, HEALTH, b"", known)
        finally:
            await server.close()

    asyncio.run(test())


def test_an_operator_is_revoked_at_the_callout_by_an_edit(folder: Path, tmp_path: Path) -> None:
    async def test() -> None:
        config = identity(folder)
        files = callout_files(config.identity, Path())
        assert files is not None
        assert config.identity is not None
        file = tmp_path / "gateway.yaml"
        access = FollowedAccess(file, config.control_plane.access)
        clients = CalloutClients(config.identity, access)
        tls = Tls(files.certificate, files.key, files.ca, clients)
        server = serve("asyncio", HealthService(SERVING).services(), "127.0.0.1:0", tls=tls)
        address = await server.start()
        operator = client(folder, "o", "sluice-callout")
        try:
            assert await first_response(address, HEALTH, b"", operator)
            file.write_text(
                "control_plane: {access: {certificates: [{name: other, role: operator}]}}"
            )
            assert await is_refused(first_response(address, HEALTH, b"", operator))
        finally:
            await server.close()

    asyncio.run(test())


LIMITED = {
    "models": {
        "m": {
            "access": {"public": True},
            "versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9"}]}},
        }
    },
    "limits": {"rules": [{"name": "fleet", "rate": 1, "burst": 1}]},
}


def test_the_control_plane_explains_limits_by_asking_the_callout(folder: Path) -> None:
    async def inspected(_: bytes) -> bytes:
        answer = InspectResponse()
        answer.rules.add(name="fleet", admits=False, limit=1, cost=1, retry_after=7)
        return answer.SerializeToString()

    async def test() -> None:
        config = identity(folder)
        tls = callout_tls(config)
        server = serve("asyncio", {INSPECT: unary(inspected)}, "127.0.0.1:0", tls=tls)
        workers = (await server.start(),)
        policy = policy_document(GatewayConfig.model_validate(LIMITED), Path())
        request = ClientRequest("POST", "", "/v2/models/m/infer", (), b"{}", None)
        try:
            own = control_plane_files(config.identity, Path())
            explained = await ServedExplainer().explain(
                request, policy, workers, callout_client(config.identity, own)
            )
        finally:
            await server.close()
        decision = explained["decision"]
        assert isinstance(decision, dict)
        assert (decision["status"], decision["reason"]) == (429, "rate_limited")

    asyncio.run(test())


async def whoami(request: Request) -> Response:
    caller = principal_of(request)
    return JSONResponse([caller.name, caller.role])


@pytest.fixture(scope="module")
def http_server(folder: Path) -> Iterator[str]:
    config = identity(folder)
    hosts = HostGuard("127.0.0.1:1", (), "key")
    guard = AccessGuard(
        lambda: config.control_plane.access, Path(), hosts, trusted=True,
        own_name="sluice-control-plane",
    )  # fmt: skip
    routes = [
        Route("/read", guard.authorize(whoami, Role.READER)),
        Route("/write", guard.protect(whoami, Role.OPERATOR), methods=["POST"]),
    ]
    tls = control_plane_files(config.identity, Path())
    app = Starlette(routes=routes)
    with serve_in_thread(app, "127.0.0.1:0", max_requests=10, tls=tls) as address:
        yield f"https://{address}"


def http_client(folder: Path, name: str) -> httpx.Client:
    context = ssl.create_default_context(cafile=folder / "ca.crt")
    if name:
        context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return httpx.Client(verify=context)


@pytest.mark.parametrize(
    ("name", "caller"),
    [("o", ["o", "operator"]), ("control-plane", ["sluice-control-plane", "reader"])],
)
def test_a_client_certificate_has_its_role(
    folder: Path, http_server: str, name: str, caller: list[str]
) -> None:
    with http_client(folder, name) as known:
        assert known.get(f"{http_server}/read").json() == caller
        may_write = caller[1] == "operator"
        assert known.post(f"{http_server}/write").status_code == (200 if may_write else 403)


@pytest.mark.parametrize("name", ["", "envoy", "callout", "other/envoy", "expired/envoy"])
def test_a_stranger_may_not_call_an_http_server(folder: Path, http_server: str, name: str) -> None:
    with http_client(folder, name) as stranger:
        for method, path in (("GET", "/read"), ("POST", "/write")):
            try:
                response = stranger.request(method, http_server + path)
            except httpx.TransportError:
                assert "/" in name  # the handshake fails
            else:
                assert "/" not in name
                assert response.status_code == 401


def copy_files(source: Path, target: Path) -> None:
    for file in source.glob("*.*"):
        (target / file.name).write_bytes(file.read_bytes())


def test_servers_follow_their_files(folder: Path, tmp_path: Path) -> None:
    """A certificate of a new authority counts for new connections; the old one no longer."""

    async def test() -> None:
        make(tmp_path)
        async with xds(identity(tmp_path)) as server:
            old = replace(client(folder, "envoy"), ca=tmp_path / "ca.crt")
            known = client(tmp_path, "envoy")
            assert await server.resources(known, CLUSTERS) == 1
            assert await is_refused(server.resources(old, CLUSTERS))
            copy_files(folder, tmp_path)
            assert await server.resources(client(folder, "envoy"), CLUSTERS) == 1

    asyncio.run(test())


def test_the_last_good_certificate_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    make(tmp_path)
    config = identity(tmp_path)
    tls = control_plane_files(config.identity, Path())
    with serve_in_thread(Starlette(), "127.0.0.1:0", max_requests=10, tls=tls) as address:
        make(tmp_path / "new")
        for name in ("control-plane.crt", "control-plane.key", "ca.crt"):
            with http_client(tmp_path, "o") as known:
                if name != "ca.crt":
                    assert known.get(f"https://{address}/").status_code == 404
            (tmp_path / name).write_bytes((tmp_path / "new" / name).read_bytes())
        with http_client(tmp_path / "new", "o") as known:
            assert known.get(f"https://{address}/").status_code == 404
