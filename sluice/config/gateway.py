"""The whole config of a gateway, and the sections for its processes and addresses."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import chain
from os.path import normpath
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from sluice.config.access import Access
from sluice.config.addresses import connectable, is_local, is_loopback, split_host_port
from sluice.config.assertion import MAX_ASSERTIONS, Assertion
from sluice.config.auth import Auth
from sluice.config.cors import Cors
from sluice.config.enumeration import enumerated
from sluice.config.errors import KeyPath
from sluice.config.identity import Identity
from sluice.config.invalid import check_distinct, invalid
from sluice.config.istio import Istio
from sluice.config.limits import Limits
from sluice.config.listener_tls import ListenerTls
from sluice.config.listening import Servers, check_addresses
from sluice.config.mcp import Mcp
from sluice.config.models import Model, Models, Version
from sluice.config.node_groups import MAX_GROUPS, NodeGroups
from sluice.config.rollout import RolloutSettings
from sluice.config.telemetry import Telemetry
from sluice.config.values import (
    MAX_UINT32,
    Address,
    Duration,
    HostName,
    HostPort,
    IpPort,
    Placement,
    PositiveDuration,
    RuntimeKey,
    RuntimeValue,
    Size,
    Strict,
    UnixSocket,
)
from sluice.config.video import MAX_STREAMS, Videos, VideoService
from sluice.config.video_sinks import is_full_file, named
from sluice.contract.paths import OIP_PREFIX, VIDEO_GRPC_PREFIX, VIDEO_OPERATION
from sluice.near_names import did_you_mean

MIN_STREAM_BUFFER = 1 << 14
"""Minimum of `listener.stream_buffer_limit`: Envoy buffers at least so many bytes of a response."""


UnderscoresAction = Literal["reject", "drop", "allow"]
"""What Envoy does with header names that have underscores."""


class Listener(Strict):
    """The listener for clients (HTTP/1.1 and HTTP/2)."""

    address: IpPort = "127.0.0.1:8080"
    tls: ListenerTls | None = None
    trusted_hops: int = Field(
        0,
        ge=0,
        le=MAX_UINT32,
        description="Number of trusted proxies in front of Envoy, for `X-Forwarded-For`.",
    )
    handshake_timeout: PositiveDuration = Field(
        10.0,
        description="Time for a new connection to complete the TLS handshake; without TLS, to send "
        "the first line of its first request.",
    )
    request_headers_timeout: PositiveDuration = Field(
        10.0, description="Time for a client to send all request headers."
    )
    idle_timeout: PositiveDuration = Field(
        900.0, description="Time after which a connection without requests is closed."
    )
    max_concurrent_streams: int = Field(
        128, ge=1, le=2**31 - 1, description="Concurrent streams of one HTTP/2 connection."
    )
    headers_with_underscores: UnderscoresAction = Field(
        "reject",
        description="What happens with request headers that have underscores in their names: "
        "`reject` the request (400; over HTTP/2, the stream is reset), `drop` the headers, or "
        "`allow` them. Many servers read `a_b` and `a-b` as the same header, so Envoy removes "
        "spellings with underscores of headers that only the gateway may set.",
    )
    stream_buffer_limit: Size = Field(
        1 << 20,
        ge=MIN_STREAM_BUFFER,
        le=MAX_UINT32,
        description="Bytes that Envoy buffers for one stream in each direction. It reads at most "
        "64 KiB at once from a client.",
    )


class ControlPlane(Strict):
    """Addresses of the control plane.

    Changes take effect at the next start, except for `access`.
    """

    http: HostPort = Field("127.0.0.1:8081", description="Address of the admin HTTP server.")
    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="Host names that the Host header of requests to `/v1/` may have. The host of "
        "`http`, localhost and IP addresses are always allowed.",
    )
    xds: HostPort = Field("127.0.0.1:18000", description="Address of the xDS server (gRPC).")
    replicas: tuple[HostPort, ...] = Field(
        (),
        max_length=16,
        description="Addresses of the xDS servers of all control planes that share a store. Envoys "
        "and workers connect to one of them, and to another one if it ends. Default: `xds`.",
    )
    envoys: tuple[HostPort, ...] | None = Field(
        None,
        max_length=64,
        description="Admin addresses of the Envoys that the control plane asks for the health of "
        "endpoints, as the control plane reaches them. Default: `envoy.admin`. Empty: it asks "
        "none, and knows nothing about the health of endpoints.",
    )
    access: Access = Access()
    allow_insecure: bool = Field(
        False,
        description="Whether `http` and `xds` may be addresses that other machines can reach "
        "without `identity`, and `http` without `access`. All who can reach `xds` can then read "
        "the policy with its secrets, and reject versions.",
    )
    ack_timeout: PositiveDuration = Field(
        5.0,
        description="Time that a push waits for the ACK of a node. Then it continues without the "
        "ACK.",
    )

    @property
    def xds_addresses(self) -> tuple[str, ...]:
        """The addresses to which Envoys and workers connect."""
        return self.replicas or (self.xds,)


MAX_WORKERS = 64
MAX_MESSAGE_TIMEOUT = 60
MAX_CONVERSION_TIMEOUT = 300
"""Maxima of `callout.message_timeout` and `callout.conversion_timeout`, in seconds."""


class Callout(Strict):
    """The callout service.

    Changes take effect at the next start, except for `message_timeout` and `conversion_timeout`.
    """

    address: Address = Field(
        "127.0.0.1:18100",
        description="Address of worker 0. Worker N listens on this port + N. For a Unix socket, "
        "worker N listens on this path with `-N` appended, and worker 0 on the path with `-0`.",
    )
    allow_insecure: bool = Field(
        False,
        description="Whether `address` may be one that other machines can reach without "
        "certificates (`identity`). All who can reach it can then take tokens of limits, and "
        "report false results.",
    )
    workers: int = Field(2, ge=1, le=MAX_WORKERS, description="Number of worker processes.")
    message_timeout: PositiveDuration = Field(
        2.0,
        le=MAX_MESSAGE_TIMEOUT,
        description="Time that Envoy waits for a response of the callout. Then Envoy refuses the "
        "request. A callout that still works asks Envoy to wait longer.",
    )
    conversion_timeout: PositiveDuration = Field(
        30.0,
        le=MAX_CONVERSION_TIMEOUT,
        description="Time for the conversion of a body. A conversion that has not started after "
        "half of it is refused (503, `conversion_queue_full`), and one that has not ended after it "
        "(503, `conversion_timeout`).",
    )
    drain_timeout: Duration = Field(
        10.0, description="Time for open calls to end when a worker stops."
    )
    hang_timeout: Duration = Field(
        10.0,
        ge=1,
        description="Time without a heartbeat after which a worker is killed and replaced. It must "
        "be longer than a worker takes to apply the largest policy.",
    )
    max_memory: Size = Field(
        256 << 20,
        ge=1 << 20,
        description="Memory of one worker for the data of requests and responses. A request that "
        "needs more is refused (503, `memory_exhausted`).",
    )
    copies: UnixSocket | None = Field(
        None,
        description="Unix socket of Envoy through which workers send the copies of mirrored "
        "requests. Only the user of Envoy can open it. Its folder must exist, and Envoy and the "
        "workers must run on one machine, as one user.",
    )

    @model_validator(mode="after")
    def _ports_exist(self) -> Self:
        if not self.address.startswith("unix:"):
            port = self.address.rpartition(":")[2]
            if int(port) + self.workers - 1 > 65535:
                message = f"worker {self.workers - 1} would have a port above 65535: lower workers"
                raise invalid(f"{message}, or the port of address ({port})", ("workers",))
        return self

    def addresses(self) -> tuple[str, ...]:
        """The address of every worker, in the order of their indexes."""
        if self.address.startswith("unix:"):
            return tuple(f"{self.address}-{worker}" for worker in range(self.workers))
        base, _, port = self.address.rpartition(":")
        return tuple(f"{base}:{int(port) + worker}" for worker in range(self.workers))


MAX_THREADS = 256
"""Maximum of `envoy.concurrency`."""


class Drain(Strict):
    """How the Envoy of `sluice envoy` ends after SIGTERM.

    The readiness fails at once, so that load balancers choose another Envoy. Responses ask clients
    to close their connection (`connection: close`, GOAWAY). Envoy ends when it has no open request.
    """

    minimum: Duration = Field(
        5.0,
        description="Time for which Envoy takes new requests: in which load balancers notice that "
        "it is not ready.",
    )
    timeout: Duration = Field(
        30.0, description="Time after which Envoy ends although requests are open."
    )

    @model_validator(mode="after")
    def _minimum_is_possible(self) -> Self:
        if self.minimum > self.timeout:
            raise invalid("write a time of at most envoy.drain.timeout", ("minimum",))
        return self


class Envoy(Strict):
    """The Envoy process of `sluice up` and `sluice envoy`.

    Changes take effect at the next start, except `runtime`.
    """

    admin: IpPort = Field(
        "127.0.0.1:9901", description="Address of Envoy's admin interface, which can only be read."
    )
    allow_remote_admin: bool = Field(
        False,
        description="Whether `admin` may be an address that other machines can reach. All who can "
        "reach it can read Envoy's config and statistics.",
    )
    concurrency: int | None = Field(
        None,
        ge=1,
        le=MAX_THREADS,
        description="Number of worker threads. Default: the number of CPUs that the process may "
        "use, by its affinity and the quota of its cgroup (version 2).",
    )
    max_connections: int = Field(
        50_000,
        ge=1,
        le=10_000_000,
        description="Maximum number of client connections. `sluice up` and `sluice envoy` use at "
        "most half of the files that Envoy may open (`ulimit -Hn`).",
    )
    max_heap: Size = Field(
        1 << 30,
        ge=64 << 20,
        description="Maximum size of Envoy's heap. Near it, Envoy ends the requests that hold the "
        "most memory, and refuses new requests.",
    )
    drain: Drain = Drain()
    log_level: Literal["trace", "debug", "info", "warning", "error", "critical"] = "warning"
    runtime: dict[RuntimeKey, RuntimeValue] = Field(
        {},
        max_length=1000,
        description="Keys of Envoy's runtime, such as "
        "`envoy.reloadable_features.NAME: false`. Changes take effect at once, in every Envoy.",
    )

    @model_validator(mode="after")
    def _admin_is_local(self) -> Self:
        if not self.allow_remote_admin and not is_loopback(split_host_port(self.admin)[0]):
            raise invalid(
                f"other machines can reach {self.admin}: write a loopback address such as "
                "127.0.0.1:9901, or set envoy.allow_remote_admin: true",
                ("admin",),
            )
        return self


class Requests(Strict):
    """Rules for the requests of all models."""

    max_body: Size = Field(10 << 20, ge=1, description="Maximum size of a request body.")
    max_response: Size = Field(
        8 << 20,
        ge=1,
        description="Maximum size of a response that must be converted, also after decompression "
        "(502, `response_too_large`). Its conversion takes up to 27 times as much of "
        "`callout.max_memory`; the default of one fits the default of the other. Other responses "
        "have no limit.",
    )
    max_grpc_headers: Size = Field(
        8 << 10,
        ge=2 << 10,
        description="Maximum size of the headers of a request to a version that speaks gRPC, with "
        "1 KiB for those that the gateway adds, and 3 bytes for each byte of the subject. Counted "
        "as in HTTP/2: 32 bytes for each header, its name and its value. The default is the limit "
        "of most gRPC servers.",
    )
    expose_reason: bool = Field(
        False,
        description="Whether responses carry the reason of the decision in `x-sluice-reason`.",
    )
    cors: Cors | None = Field(
        None,
        description="Web pages of other origins that may call the gateway. `models.NAME.cors` "
        "replaces it. Default: none.",
    )

    def cors_of(self, model: Model) -> Cors | None:
        """The web pages that may call a model; None if no rule says so."""
        return self.cors if model.cors is None else model.cors

    def max_body_of(self, model: Model) -> int:
        """Maximum bytes of the request bodies of a model."""
        return self.max_body if model.max_body is None else model.max_body

    def max_response_of(self, model: Model) -> int:
        """Maximum bytes of the responses of a model that must be converted."""
        return self.max_response if model.max_response is None else model.max_response


class GatewayConfig(Strict):
    """The config of a gateway."""

    # `assert` cannot be the name of an attribute in Python.
    model_config = ConfigDict(serialize_by_alias=True)

    listener: Listener = Listener()
    identity: Identity | None = Field(
        None,
        description="How Envoy, the callout and the control plane identify themselves to each "
        "other. Default: not at all, for a gateway on loopback addresses.",
    )
    control_plane: ControlPlane = ControlPlane()
    callout: Callout = Callout()
    envoy: Envoy = Envoy()
    requests: Requests = Requests()
    auth: Auth = Auth()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    rollout: RolloutSettings = RolloutSettings()
    placement: Placement = Field(
        "auto",
        description="Where requests are decided. `auto`: Envoy admits a request alone if it can "
        "express exactly what the callout would decide; the callout decides all others. `callout`: "
        "the callout decides all requests. `models.NAME.placement` replaces it.",
    )
    node_groups: NodeGroups = Field(
        default_factory=dict,
        max_length=MAX_GROUPS,
        description="Envoys that differ from the others, by the name of their group. An Envoy is "
        "in the first group that it matches. Default: all Envoys are alike.",
    )
    istio: Istio | None = Field(
        None,
        description="How an Istio mesh routes the requests of the models. Default: no mesh.",
    )
    models: Models = Field(default_factory=dict, max_length=10_000)
    video: VideoService | None = Field(
        None, description="The video service. Default: none, so no model can get video."
    )
    videos: Videos = Field(
        default_factory=dict,
        max_length=MAX_STREAMS,
        description="Streams of cameras, by name. Changes take effect at once, for this stream.",
    )
    assertions: tuple[Assertion, ...] = Field(
        (),
        alias="assert",
        max_length=MAX_ASSERTIONS,
        description="What must be true of every request. A config of which one assertion is not "
        "true is refused, with a request that shows it.",
    )
    allow_disruption: bool = Field(
        False,
        description="Apply this config to a running gateway also if the change would cut off its "
        "clients: removes every model, moves the listener, switches TLS on or off, removes all "
        "issuers or API keys, or all routes of a mesh. Remove the key after the change.",
    )

    @property
    def asked_envoys(self) -> tuple[str, ...]:
        """The admin addresses of the Envoys that the control plane asks."""
        envoys = self.control_plane.envoys
        return (self.envoy.admin,) if envoys is None else envoys

    @model_validator(mode="after")
    def _paths_are_distinct(self) -> Self:
        check_distinct(
            chain.from_iterable(_paths(name, model) for name, model in self.models.items()),
            "two models have the path {value}",
        )
        return self

    @model_validator(mode="after")
    def _paths_take_no_video(self) -> Self:
        taken = tuple(
            f"{OIP_PREFIX}{name}/{operation}"
            for name, model in self.models.items()
            if model.video is not None
            for operation in (VIDEO_OPERATION, "versions")
        )
        if self.video is not None:
            taken = (*taken, VIDEO_GRPC_PREFIX.rstrip("/"))
        for name, model in self.models.items():
            for index, path in enumerate(model.paths if taken else ()):
                if any(f"{path}/".startswith(f"{each}/") for each in taken):
                    message = "requests for the video service have this path: write another one"
                    raise invalid(message, ("models", name, "paths", index))
        return self

    @model_validator(mode="after")
    def _addresses_are_free(self) -> Self:
        servers = Servers(
            self.listener.address,
            self.envoy.admin,
            self.control_plane.http,
            self.control_plane.xds,
            self.callout.addresses(),
            self.telemetry.metrics.address,
            None if self.mcp is None else self.mcp.address,
            () if self.video is None else tuple(self.video.servers()),
        )
        check_addresses(servers, self._servers_on)
        for name, group in self.node_groups.items():
            if group.listener.address is not None:
                at: KeyPath = ("node_groups", name, "listener", "address")
                of_group = replace(servers, listener=group.listener.address, listener_path=at)
                check_addresses(of_group, self._servers_on)
        return self

    def _servers_on(self, ports: Collection[str]) -> Iterator[tuple[KeyPath, str]]:
        """The keys of the endpoints with one of these ports, and their addresses."""
        for model_name, model in self.models.items():
            if model.ports.isdisjoint(ports):
                continue
            for name, version in model.versions.items():
                for path, endpoint in version.named():
                    if endpoint.address.rpartition(":")[2] in ports:
                        yield ("models", model_name, "versions", name, *path), endpoint.address

    @model_validator(mode="after")
    def _groups_name_models(self) -> Self:
        for group, each in self.node_groups.items():
            for index, name in enumerate(each.models or ()):
                if name not in self.models:
                    message = f"no model has this name{did_you_mean(name, self.models)}"
                    raise invalid(message, ("node_groups", group, "models", index))
        return self

    @model_validator(mode="after")
    def _video_has_an_identity(self) -> Self:
        if self.video is not None and self.identity is not None and self.identity.video is None:
            message = "the video service needs an identity too: write identity.video"
            raise invalid(message, ("identity", "video"))
        return self

    @model_validator(mode="after")
    def _video_reaches_the_listener(self) -> Self:
        if self.video is None or self.video.gateway.address is not None:
            return self
        at: KeyPath = ("video", "gateway")
        host = connectable(split_host_port(self.listener.address)[0])
        if is_loopback(host) and _is_reachable(self.video.http):
            message = f"the service on another machine cannot reach {self.listener.address}: write "
            raise invalid(f"{message}an address of the listener for it", (*at, "address"))
        if (self.listener.tls is None) is not (self.video.gateway.tls is None):
            has, remedy = ("no TLS", "remove") if self.listener.tls is None else ("TLS", "write")
            raise invalid(f"the listener has {has}: {remedy} video.gateway.tls", (*at, "tls"))
        return self

    @model_validator(mode="after")
    def _videos_have_models(self) -> Self:
        with_video = [name for name, model in self.models.items() if model.video is not None]
        if self.video is None and (self.videos or with_video):
            at: KeyPath = ("videos",) if self.videos else ("models", with_video[0], "video")
            raise invalid("video needs the video service: write video: {}", at)
        for name, stream in self.videos.items():
            path: KeyPath = ("videos", name, "model")
            model = self.models.get(stream.model)
            if model is None:
                message = f"no model has this name{did_you_mean(stream.model, self.models)}"
                raise invalid(message, path)
            if model.video is None:
                raise invalid(f"{stream.model} has no video: write video: {{}} in the model", path)
            if stream.version is not None and stream.version not in model.versions:
                near = did_you_mean(stream.version, model.versions)
                message = f"the model has no version of this name{near}"
                raise invalid(message, ("videos", name, "version"))
        return self

    @model_validator(mode="after")
    def _sinks_write_to_files_of_their_own(self) -> Self:
        files: dict[str, int] = {}
        places: dict[str, KeyPath] = {}
        for name, stream in self.videos.items():
            for index, sink in enumerate(stream.sinks):
                if sink.file is None:
                    continue
                path = normpath(named(sink.file.path, name))
                places[path] = "videos", name, "sinks", index, "file", "path"
                if path in files:
                    message = "another sink writes to this file: write {stream} in the path"
                    raise invalid(message, places[path])
                files[path] = sink.file.keep
        for path, place in places.items():
            if is_full_file(path, files):
                message = "another sink gives its full files this name: write another path"
                raise invalid(message, place)
        return self

    @model_validator(mode="after")
    def _strangers_reach_nothing(self) -> Self:
        for path, message in exposed_addresses(self):
            raise invalid(message, path)
        return self

    @model_validator(mode="after")
    def _breakers_have_reports(self) -> Self:
        enabled = [name for name, model in self.models.items() if model.breaker.enabled]
        if enabled and not self.telemetry.reports.enabled:
            raise invalid(
                "breakers need the reports: write true, or set breaker.enabled: false in models "
                f"{enumerated(enabled, maximum=3)}",
                ("telemetry", "reports", "enabled"),
            )
        return self

    @model_validator(mode="after")
    def _canaries_have_reports(self) -> Self:
        if self.telemetry.reports.enabled:
            return self
        for name, model in self.models.items():
            for n, canary in enumerate(model.canaries):
                if not canary.steps:
                    continue
                path = ("models", name, "canaries", n, "criteria")
                remedy = "come from the reports: set telemetry.reports.enabled: true, or remove"
                if canary.criteria.needs_latency:
                    raise invalid(f"latencies {remedy} max_p99 and max_p99_increase", path)
                if canary.criteria.mirrors:
                    raise invalid(f"comparisons {remedy} min_agreement", path)
        return self

    @model_validator(mode="after")
    def _secrets_stay_on_this_machine(self) -> Self:
        address = self.control_plane.xds
        encrypted = self.identity is not None and self.identity.control_plane is not None
        if not encrypted and not is_local(split_host_port(address)[0]):
            of_versions = (path for path, each in self.referring_versions() if each.needs_secrets)
            of_streams = (
                ("videos", name, *path)
                for name, stream in self.videos.items()
                for path, _ in stream.secret_values()
            )
            for path in chain(of_versions, of_streams):
                raise invalid(
                    f"the control plane would send secrets to all who can reach {address}: "
                    "write a loopback address in control_plane.xds",
                    path,
                )
        return self

    @model_validator(mode="after")
    def _copies_have_a_way(self) -> Self:
        if self.callout.copies is None:
            for name, model in self.models.items():
                if model.mirror is not None:
                    message = "copies need a socket: write callout.copies, such as " + (
                        "unix:/run/sluice/copies.sock"
                    )
                    raise invalid(message, ("models", name, "mirror"))
        return self

    @model_validator(mode="after")
    def _mesh_gets_no_secrets(self) -> Self:
        if self.istio is not None:
            for path, version in self.referring_versions():
                if version.headers_from_secret:
                    message = "the resources of a mesh are no secrets, so they cannot have these "
                    message += "headers: remove them, or remove istio"
                    raise invalid(message, (*path, "headers_from_secret"))
        return self

    @model_validator(mode="after")
    def _mesh_has_no_video(self) -> Self:
        if self.istio is not None and self.video is not None:
            message = "a mesh has no route to the video service: remove video, or remove istio"
            raise invalid(message, ("video",))
        return self

    @model_validator(mode="after")
    def _mesh_has_its_domain(self) -> Self:
        domain = None if self.istio is None else self.istio.rate_limit_domain
        if domain is not None and domain not in self.limits.domains:
            message = f"limits.domains has no {domain}{did_you_mean(domain, self.limits.domains)}"
            raise invalid(message, ("istio", "rate_limit_domain"))
        return self

    @model_validator(mode="after")
    def _mcp_has_a_certificate(self) -> Self:
        encrypted = self.identity is not None and self.identity.control_plane is not None
        if self.mcp is not None and self.mcp.tls and not encrypted:
            message = "TLS needs a certificate: write identity.control_plane, or set tls: false"
            raise invalid(message, ("istio", "mcp", "tls"))
        return self

    @property
    def mcp(self) -> Mcp | None:
        """How the control plane serves istiod; None if it does not."""
        return None if self.istio is None else self.istio.mcp

    def referring_versions(self) -> Iterator[tuple[tuple[str, str, str, str], Version]]:
        """The versions with a reference (`Version.refers`), with their key paths."""
        for model_name, model in self.models.items():
            for name, version in model.referring:
                yield ("models", model_name, "versions", name), version

    @model_validator(mode="after")
    def _assertions_name_models(self) -> Self:
        check_distinct(
            ((("assert", n, "name"), each.name) for n, each in enumerate(self.assertions)),
            "two assertions have the name {value}",
        )
        for index, assertion in enumerate(self.assertions):
            for n, name in enumerate(assertion.models):
                if name not in self.models:
                    message = f"no model has this name{did_you_mean(name, self.models)}"
                    raise invalid(message, ("assert", index, "models", n))
        for index, assertion in enumerate(self.assertions):
            for n, match in enumerate(assertion.request.headers):
                if match.name == self.auth.api_key_header:
                    message = "assertions cannot name the header of API keys: write caller"
                    at: KeyPath = ("assert", index, "request", "headers", n, "name")
                    raise invalid(message, at)
        return self

    @model_validator(mode="after")
    def _limits_name_models(self) -> Self:
        types = {model.type for model in self.models.values()}
        for name in self.limits.models:
            if name not in self.models:
                message = f"no model has this name{did_you_mean(name, self.models)}"
                raise invalid(message, ("limits", "models", name))
        for model_type in self.limits.model_types:
            if model_type not in types:
                message = f"no model has this type{did_you_mean(model_type, filter(None, types))}"
                raise invalid(message, ("limits", "model_types", model_type))
        return self


def exposed_addresses(config: GatewayConfig) -> Iterator[tuple[KeyPath, str]]:
    """Each address that other machines can reach without TLS and credentials, and what to write.

    A Unix socket is not among them: the permissions of its folder say who can connect.
    """
    section, callout, metrics = config.control_plane, config.callout, config.telemetry.metrics
    encrypted = config.identity is not None and config.identity.control_plane is not None
    mutual = config.identity is not None and config.identity.mutual
    access = [] if section.access.configured else ["control_plane.access"]
    tls, certificates = ([] if encrypted else ["identity"]), ([] if mutual else ["identity"])
    servers: tuple[tuple[str, str, str, bool, list[str]], ...] = (
        ("control_plane", "http", section.http, section.allow_insecure, [*tls, *access]),
        ("control_plane", "xds", section.xds, section.allow_insecure, tls),
        ("callout", "address", callout.address, callout.allow_insecure, certificates),
        (
            "telemetry.metrics",
            "address",
            metrics.address,
            metrics.allow_insecure,
            [*certificates, *access],
        ),
        *_video_servers(config.video, certificates, access),
    )
    for name, key, address, allowed, missing in servers:
        if missing and not allowed and _is_reachable(address):
            yield (
                (*name.split("."), key),
                f"other machines can reach {address} without credentials: write a loopback address "
                f"such as 127.0.0.1:{split_host_port(address)[1]}, set {' and '.join(missing)} "
                f"(`sluice certs` makes certificates), or set {name}.allow_insecure: true",
            )
    mcp = config.mcp
    if mcp is not None and not mcp.allow_insecure and _is_reachable(mcp.address):
        yield (
            ("istio", "mcp", "address"),
            f"other machines can reach {mcp.address}, and istiod has no credentials: let a network "
            "policy admit only istiod and set istio.mcp.allow_insecure: true, or write a loopback "
            f"address such as 127.0.0.1:{split_host_port(mcp.address)[1]}",
        )


def _video_servers(
    video: VideoService | None, certificates: list[str], access: list[str]
) -> Iterator[tuple[str, str, str, bool, list[str]]]:
    if video is not None:
        yield "video", "http", video.http, video.allow_insecure, certificates
        yield "video", "grpc", video.grpc, video.allow_insecure, certificates
        yield "video", "metrics", video.metrics, video.allow_insecure, [*certificates, *access]


def _is_reachable(address: str) -> bool:
    """Whether other machines may reach a server on the address."""
    return not address.startswith("unix:") and not is_local(split_host_port(address)[0])


def _paths(name: str, model: Model) -> Iterator[tuple[KeyPath, str]]:
    """The paths of a model, each with the key that gives it."""
    own, *configured = model.prefixes(name)
    yield ("models", name), own
    for index, path in enumerate(configured):
        yield ("models", name, "paths", index), path
