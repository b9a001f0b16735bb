"""An Envoy that only verifies tokens, with its control plane in this process.

A request whose token the filter accepts gets `native` and the subject as the answer; any other
request gets `callout`.
"""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
from envoy_data_plane.envoy.config.core.v3 import Address, DataSource, SubstitutionFormatString
from envoy_data_plane.envoy.config.listener.v3 import Filter, FilterChain, Listener
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtClaimToHeader,
    JwtProvider,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpFilter,
)
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher

from sluice.bootstrap import NodeNames, render
from sluice.config import GatewayConfig
from sluice.contract.names import JWT_FILTER, LISTENER
from sluice.envoy_binary import find_envoy
from tests import plain_http
from tests.integration.gateway import eventually, free_ports
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.server import XdsServer
from xds.protocol.snapshot import Resource, Snapshot
from xds.resources.data_plane_messages import of_protos, pack
from xds.resources.extensions import extension, jwt_filter, verifying
from xds.resources.proto_messages import address

SUBJECT = "x-subject"
"""The header with the subject of an accepted token."""


def tokens_config(key_sets: Mapping[str, str], audience: str, leeway: int = 0) -> JwtAuthentication:
    """A config that verifies the tokens of these issuers with these key sets."""
    providers = {
        f"issuer-{number}": JwtProvider(
            issuer=issuer,
            audiences=[audience],
            local_jwks=DataSource(inline_string=key_set),
            require_expiration=True,
            forward=True,  # the route matches the token
            clock_skew_seconds=leeway,
            claim_to_headers=[JwtClaimToHeader(header_name=SUBJECT, claim_name="sub")],
            clear_route_cache=True,
        )
        for number, (issuer, key_set) in enumerate(key_sets.items())
    }
    return verifying(providers)


def _native_route(pattern: str) -> Route:
    authorization = RegexMatcher(regex=f"Bearer {pattern}")
    matchers = [
        HeaderMatcher(name=SUBJECT, present_match=True),
        HeaderMatcher(name="authorization", string_match=StringMatcher(safe_regex=authorization)),
    ]
    match = RouteMatch(prefix="/", headers=matchers)
    return Route(match=match, direct_response=_answer(f"native %REQ({SUBJECT})%"))


def _answer(text: str) -> DirectResponseAction:
    source = DataSource(inline_string=text)
    return DirectResponseAction(
        status=200, body_format=SubstitutionFormatString(text_format_source=source)
    )


def _listener(listens: str, pattern: str) -> Listener:
    callout = Route(match=RouteMatch(prefix="/"), direct_response=_answer("callout"))
    routes = [_native_route(pattern), callout]
    manager = HttpConnectionManager(
        stat_prefix="test",
        route_config=RouteConfiguration(
            virtual_hosts=[VirtualHost(name="all", domains=["*"], routes=routes)]
        ),
        http_filters=[
            jwt_filter(),
            HttpFilter(name="envoy.filters.http.router", typed_config=pack(Router())),
        ],
    )
    network = Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )
    return Listener(
        name=LISTENER,
        address=of_protos(Address, address(listens)),
        filter_chains=[FilterChain(filters=[network])],
    )


class TokenEnvoy:
    """An Envoy and its control plane. `publish` replaces the filter's config.

    `pattern`: regular expression of the tokens that are accepted.
    """

    def __init__(self, directory: Path, pattern: str) -> None:
        listens, admin, xds = (f"127.0.0.1:{port}" for port in free_ports(3))
        self.url, self.admin = f"http://{listens}", f"http://{admin}"
        self.log = directory / "envoy.log"
        self.nodes = Nodes(time.time)
        self._xds = xds
        self._listener = Resource.of(bytes(_listener(listens, pattern)))
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._versions = 0
        bootstrap = directory / "bootstrap.yaml"
        sections = {"control_plane": {"xds": xds}, "envoy": {"admin": admin}}
        bootstrap.write_text(
            render(GatewayConfig.model_validate(sections), NodeNames("token-envoy"))
        )
        self._argv = [
            str(find_envoy()), "--config-path", str(bootstrap), "--concurrency", "1",
            "--disable-hot-restart", "--log-level", "info",
        ]  # fmt: skip

    def start(self) -> None:
        self._thread.start()
        self.start_control_plane()
        self.nodes.publish(self._snapshot(JwtAuthentication(), None))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(self._argv, stdout=log, stderr=log)
        eventually(self._is_ready)

    def start_control_plane(self) -> None:
        async def start() -> XdsServer:
            server = XdsServer(self.nodes, self._xds)
            await server.start()
            return server

        self.server = asyncio.run_coroutine_threadsafe(start(), self._loop).result()

    def stop_control_plane(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result()

    @contextmanager
    def stopped_loop(self) -> Iterator[None]:
        """The control plane does nothing during a with block, as after SIGSTOP."""
        resume = Event()
        self._loop.call_soon_threadsafe(resume.wait)
        try:
            yield
        finally:
            resume.set()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.stop_control_plane()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _is_ready(self) -> bool:
        try:
            return plain_http.get(self.url).is_success
        except httpx.TransportError:
            return False

    def publish(self, config: JwtAuthentication, ttl: float | None = None) -> None:
        """Put a config in use, and wait until Envoy has accepted it."""
        snapshot = self._snapshot(config, ttl)
        self._loop.call_soon_threadsafe(self.nodes.publish, snapshot)
        eventually(lambda: self._accepted(snapshot))

    def _snapshot(self, config: JwtAuthentication, ttl: float | None) -> Snapshot:
        self._versions += 1
        resource = Resource.of(bytes(extension(JWT_FILTER, config)), ttl=ttl)
        resources = {
            resource_types.LISTENER: {LISTENER: self._listener},
            resource_types.EXTENSION: {JWT_FILTER: resource},
        }
        return Snapshot.of(resources, f"v{self._versions}")

    def _accepted(self, snapshot: Snapshot) -> bool:
        streams = [node.stream for node in self.nodes]
        return self.nodes.snapshot is snapshot and bool(streams) and streams[0].in_sync(snapshot)

    def answer(self, token: str, client: httpx.Client) -> str:
        """`native SUBJECT` or `callout`."""
        return client.get("/", headers={"authorization": f"Bearer {token}"}).text.strip()


@contextmanager
def token_envoy(pattern: str = ".*") -> Iterator[TokenEnvoy]:
    """Runs an Envoy that verifies tokens during a with block."""
    with tempfile.TemporaryDirectory() as directory:
        running = TokenEnvoy(Path(directory), pattern)
        try:
            running.start()
            yield running
        except BaseException:
            print(running.log.read_text()[-5000:])
            raise
        finally:
            running.stop()
