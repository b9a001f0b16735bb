"""Access log, metrics, traces and profiles."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sluice.config.values import (
    Confidential,
    Duration,
    FilePath,
    HostName,
    HostPort,
    Outside,
    PositiveDuration,
    Size,
    Strict,
    Text,
)

MIN_PROFILE_SECRET = 16
"""Minimum bytes of the token for profiles: a shorter one could be guessed."""

MAX_PROFILE_SECRET = 1024
"""Maximum bytes of a file with the token for profiles."""

STREAMS = ("stdout", "stderr")


def _check_output(value: str) -> str:
    if value in ("none", *STREAMS) or value.startswith("/"):
        return value
    raise ValueError("write none, stdout, stderr, or the absolute path of a file")


Output = Annotated[
    Text,
    Outside.OUTPUT,
    AfterValidator(_check_output),
    Field(examples=["stdout", "/var/log/sluice/access.log"]),
]


class OtlpExport(Strict):
    """An OpenTelemetry collector (OTLP over gRPC, without TLS)."""

    address: HostPort = Field(examples=["127.0.0.1:4317"])
    service_name: Text = Field(
        "sluice", min_length=1, max_length=255, description="Resource attribute `service.name`."
    )


class Rotation(Strict):
    """Rotation of a log file. Pipes and devices are not rotated."""

    max_size: Size = Field(100 << 20, ge=1 << 12, description="Size at which the file is rotated.")
    max_age: Duration = Field(
        0.0, description="Age at which the file is rotated. 0: only `max_size` applies."
    )
    keep: int = Field(5, ge=0, le=1000, description="Rotated files that each worker keeps.")


class AccessLog(Strict):
    """Access log: a worker writes one line for each request that Envoy has reported."""

    output: Output = Field(
        "stdout",
        description="`none`, `stdout`, `stderr`, or the absolute path of a file. For `access.log`, "
        "worker N writes `access-N.log`. Workers share a pipe or a device.",
    )
    format: Literal["json", "text"] = Field(
        "json", description="`json`: one object per line. `text`: `[time] METHOD path latency`."
    )
    rotation: Rotation = Rotation()
    queue: Size = Field(
        4 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Maximum bytes that each worker queues for a slow output. Further lines are "
        "dropped and counted.",
    )


class Reports(Strict):
    """Reports of finished requests, which Envoy sends to the callout in batches.

    The access log, the metrics of requests and the breakers need these reports. Without reports,
    every model needs `breaker: {enabled: false}`.
    """

    enabled: bool = True
    flush_interval: PositiveDuration = Field(
        0.1, le=60, description="Maximum time between two batches."
    )
    buffer_size: Size = Field(
        32 << 10,
        ge=1 << 10,
        le=1 << 20,
        description="Size at which a batch is sent before `flush_interval` ends. A batch above "
        "64 KiB is lost if its worker ends.",
    )


class MetricsEndpoint(Strict):
    """HTTP endpoint of the callout: metrics and status of all workers, and profiles.

    Changes take effect at the next start.
    """

    address: HostPort = "127.0.0.1:9902"
    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="Host names that the Host header of requests to `/v1/` and `/debug/` may have. "
        "The host of `address`, localhost and IP addresses are always allowed.",
    )
    allow_insecure: bool = Field(
        False,
        description="Whether `address` may be one that other machines can reach without "
        "certificates (`identity`) and without `control_plane.access`.",
    )


class Tracing(Strict):
    """Tracing: Envoy sends spans of requests to an OpenTelemetry collector."""

    otlp: OtlpExport
    sampling: float = Field(
        100.0,
        ge=0,
        le=100,
        description="Percentage of the requests without a `traceparent` header that are traced.",
    )


class Profile(Confidential):
    """Profiles of running workers, at `/debug/profile` of `telemetry.metrics.address`.

    Changes take effect at the next start. New content of `secret_file` takes effect at once.
    """

    secret_file: FilePath = Field(
        description="File with the bearer token for `/debug/profile`: one line of 16 to 1024 bytes."
    )


class Telemetry(Strict):
    """Logs, metrics, traces and profiles."""

    access_log: AccessLog = AccessLog()
    otlp_log: OtlpExport | None = Field(
        None, description="Collector to which Envoy sends a log record of every request."
    )
    reports: Reports = Reports()
    metrics: MetricsEndpoint = MetricsEndpoint()
    tracing: Tracing | None = None
    profile: Profile | None = None
