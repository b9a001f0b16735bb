"""The whole config of a gateway, and the processes and sockets that it runs as."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sluice.config.auth import Auth
from sluice.config.limits import Limits
from sluice.config.models import Model
from sluice.config.telemetry import Telemetry
from sluice.config.values import (
    Address,
    Duration,
    HostName,
    HostPort,
    Name,
    PositiveDuration,
    Size,
    Strict,
)
from sluice.contract.paths import OIP_PREFIX


class ListenerTls(Strict):
    """TLS towards clients; files are relative to the config and read by Envoy."""

    certificate: str
    private_key: str
    client_ca: str | None = Field(None, description="Demand client certificates signed by these.")


class Listener(Strict):
    """Where clients connect, by HTTP/1.1 or HTTP/2."""

    address: HostPort = "127.0.0.1:8080"
    tls: ListenerTls | None = None
    trusted_hops: int = Field(
        0, ge=0, description="Proxies in front whose X-Forwarded-For entries are believed."
    )
    request_headers_timeout: PositiveDuration = 10.0
    idle_timeout: PositiveDuration = Field(3600.0, description="Of a connection without requests.")
    max_concurrent_streams: int = Field(128, ge=1, le=2**31 - 1)
    stream_buffer_limit: Size = Field(
        1 << 20, ge=1 << 14, description="Bytes Envoy holds for one stream in each direction."
    )


class ControlPlane(Strict):
    """Where the control plane listens. Changes take effect at the next start."""

    http: HostPort = "127.0.0.1:8081"
    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="Further names by which `/v1/` may be asked, beside that in `http`, localhost "
        "and IP addresses.",
    )
    xds: HostPort = "127.0.0.1:18000"
    ack_timeout: PositiveDuration = Field(
        5.0, description="How long a push waits for nodes before it goes on without them."
    )


class Callout(Strict):
    """The decision service. Changes take effect at the next start, message_timeout at once."""

    address: Address = Field(
        "127.0.0.1:18100",
        description="Worker N listens on port + N, or on the Unix socket's path with -N added.",
    )
    workers: int = Field(2, ge=1, le=64)
    message_timeout: PositiveDuration = Field(
        2.0, le=60, description="How long Envoy waits for a decision before it refuses the request."
    )
    drain_timeout: Duration = Field(10.0, description="For open calls when a worker stops.")

    @model_validator(mode="after")
    def _ports_exist(self) -> Self:
        if not self.address.startswith("unix:"):
            port = self.address.rpartition(":")[2]
            if int(port) + self.workers - 1 > 65535:
                raise ValueError(f"{self.workers} workers from port {port} on pass port 65535")
        return self

    def addresses(self) -> tuple[str, ...]:
        """Where worker 0, 1, ... listens."""
        if self.address.startswith("unix:"):
            return tuple(f"{self.address}-{worker}" for worker in range(self.workers))
        base, _, port = self.address.rpartition(":")
        return tuple(f"{base}:{int(port) + worker}" for worker in range(self.workers))


class Envoy(Strict):
    """The Envoy that `sluice up` starts. Changes take effect at the next start."""

    admin: HostPort = "127.0.0.1:9901"
    concurrency: int = Field(1, ge=1, le=256, description="Envoy's worker threads.")
    log_level: Literal["trace", "debug", "info", "warning", "error", "critical"] = "warning"


class Requests(Strict):
    """Rules for every request."""

    max_body: Size = Field(10 << 20, ge=1)
    expose_reason: bool = Field(
        False, description="Whether responses say in x-sluice-reason why they are what they are."
    )


class GatewayConfig(Strict):
    """The operator's config."""

    listener: Listener = Listener()
    control_plane: ControlPlane = ControlPlane()
    callout: Callout = Callout()
    envoy: Envoy = Envoy()
    requests: Requests = Requests()
    auth: Auth = Auth()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    models: dict[Name, Model] = Field(default_factory=dict, max_length=10_000)

    @model_validator(mode="after")
    def _paths_are_distinct(self) -> Self:
        owner: dict[str, str] = {}
        for name, model in self.models.items():
            for path in (OIP_PREFIX + name, *model.paths):
                if path in owner:
                    raise ValueError(f"models {owner[path]} and {name} both have the path {path}")
                owner[path] = name
        return self

    @model_validator(mode="after")
    def _breakers_hear_of_requests(self) -> Self:
        enabled = [name for name, model in self.models.items() if model.breaker.enabled]
        if enabled and not self.telemetry.reports.enabled:
            more = f" and {len(enabled) - 3} more" if len(enabled) > 3 else ""
            raise ValueError(
                "with telemetry.reports.enabled: false no breaker would ever open: set "
                f"breaker.enabled: false in models {', '.join(enabled[:3])}{more}, "
                "or leave the reports on"
            )
        return self

    @model_validator(mode="after")
    def _limits_name_models(self) -> Self:
        types = {model.type for model in self.models.values()}
        for name in self.limits.models:
            if name not in self.models:
                raise ValueError(f"limits.models names {name!r}, which is no model")
        for model_type in self.limits.model_types:
            if model_type not in types:
                raise ValueError(f"limits.model_types names {model_type!r}, which no model has")
        return self
