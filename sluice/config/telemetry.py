"""What operators see of requests: the access log, metrics, traces and profiles."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from sluice.config.values import Duration, HostName, HostPort, PositiveDuration, Size, Strict

STREAMS = ("stdout", "stderr")


def _check_output(value: str) -> str:
    if value in ("none", *STREAMS) or value.startswith("/"):
        return value
    raise ValueError("write none, stdout, stderr, or a file's absolute path")


Output = Annotated[
    str, AfterValidator(_check_output), Field(examples=["stdout", "/var/log/sluice/access.log"])
]


class OtlpExport(Strict):
    """An OpenTelemetry collector, by gRPC without TLS: the one beside the gateway."""

    address: HostPort = Field(examples=["127.0.0.1:4317"])
    service_name: str = Field("sluice", min_length=1, max_length=255)


class Rotation(Strict):
    """When a log file is put aside. Files that are pipes or devices are never rotated."""

    max_size: Size = Field(100 << 20, ge=1 << 12)
    max_age: Duration = Field(0.0, description="0: rotated by size alone.")
    keep: int = Field(5, ge=0, le=1000, description="Files put aside, for each worker.")


class AccessLog(Strict):
    """One line for each request, written by the callout workers when Envoy reports its end."""

    output: Output = Field(
        "stdout",
        description="For a file, worker N writes its own: `access.log` becomes `access-N.log`. "
        "Pipes and devices are shared.",
    )
    format: Literal["json", "text"] = Field(
        "json", description="text: the classic line `[time] METHOD path latency`."
    )
    rotation: Rotation = Rotation()
    queue: Size = Field(
        4 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Bytes that wait for a slow output in each worker; what is beyond is dropped "
        "and counted.",
    )


class Reports(Strict):
    """How Envoy reports finished requests to the callout, in batches and off their path.

    The access log, the metrics of requests and the breakers know no others: without reports, every
    model needs `breaker: {enabled: false}`.
    """

    enabled: bool = True
    flush_interval: PositiveDuration = Field(0.1, le=60)
    buffer_size: Size = Field(
        32 << 10, ge=1 << 10, le=1 << 20, description="Sent earlier when full."
    )


class MetricsEndpoint(Strict):
    """Where the callout's supervisor serves the metrics of all workers as one, by HTTP.

    Changes take effect at the next start.
    """

    address: HostPort = "127.0.0.1:9902"
    allowed_hosts: tuple[HostName, ...] = Field(
        (),
        description="Further names by which `/v1/` and `/debug/` may be asked, beside that in "
        "`address`, localhost and IP addresses.",
    )


class Tracing(Strict):
    """Spans of every request, which Envoy sends to an OpenTelemetry collector."""

    otlp: OtlpExport
    sampling: float = Field(
        100.0, ge=0, le=100, description="Percent of requests that come without a traceparent."
    )


class Profile(Strict):
    """Profiles of live workers at `/debug/profile`, on the metrics' address.

    Changes take effect at the next start; a new secret in the file, at once.
    """

    secret_file: str = Field(
        description="Holds what callers must send as `Authorization: Bearer`, 16 bytes or more."
    )


class Telemetry(Strict):
    """What is logged, counted, traced and profiled."""

    access_log: AccessLog = AccessLog()
    otlp_log: OtlpExport | None = Field(
        None, description="OpenTelemetry log records of every request too, sent by Envoy itself."
    )
    reports: Reports = Reports()
    metrics: MetricsEndpoint = MetricsEndpoint()
    tracing: Tracing | None = None
    profile: Profile | None = None
