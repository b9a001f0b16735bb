"""The video service, and the streams that it pulls from cameras."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.addresses import split_url
from sluice.config.errors import KeyPath
from sluice.config.invalid import invalid
from sluice.config.upstream import MAX_SECRET_HEADERS, SecretHeaders, SecretValue
from sluice.config.values import (
    Confidential,
    Duration,
    FilePath,
    HostName,
    HostPort,
    Name,
    Outside,
    Share,
    Shown,
    Strict,
    Text,
)
from sluice.config.video_sinks import VideoSink

MAX_VIDEO_WORKERS = 32
MAX_STREAMS = 1000
"""Streams of a config."""

MAX_RATE = 1000.0
"""Frames per second to analyse."""


class GatewayTls(Strict):
    """TLS to the listener of the gateway, which has `listener.tls`."""

    ca: FilePath | None = Field(
        None,
        description="File with the CA certificates for the listener, in PEM. Default: those of the "
        "system.",
    )
    server_name: HostName | None = Field(
        None, description="Name that the certificate must have. Default: the host of the address."
    )


class VideoGateway(Strict):
    """How the video service reaches the gateway, to which it sends the frames."""

    address: HostPort | None = Field(
        None, description="Address of the listener. Default: `listener.address`."
    )
    tls: GatewayTls | None = None


class VideoService(Strict):
    """The video service: takes uploads from Envoy, pulls streams, and sends frames to the gateway.

    Changes take effect at the next start, except those of `max_uploads` and
    `max_watchers`.
    """

    http: HostPort = Field(
        "127.0.0.1:18200",
        description="Address for uploads, to which Envoy connects. Worker N listens on this port + "
        "N.",
    )
    grpc: HostPort = Field(
        "127.0.0.1:18240",
        description="Address for gRPC calls, to which Envoy connects. Worker N listens on this "
        "port + N.",
    )
    metrics: HostPort = Field(
        "127.0.0.1:9903", description="Address of metrics, health and the status of streams."
    )
    allow_insecure: bool = Field(
        False,
        description="Whether these addresses may be such that other machines can reach without "
        "certificates (`identity.video`). All who can reach `http` and `grpc` can then use the "
        "service without the decision of the gateway; the gateway still decides on every frame.",
    )
    workers: int = Field(1, ge=1, le=MAX_VIDEO_WORKERS, description="Number of worker processes.")
    max_uploads: int = Field(
        32,
        ge=0,
        le=10_000,
        description="Uploads of a worker at a time. Further ones are refused (503).",
    )
    max_watchers: int = Field(
        64, ge=0, le=10_000, description="Watchers of streams of a worker at a time."
    )
    gateway: VideoGateway = VideoGateway()
    drain_timeout: Duration = Field(
        10.0, description="Time for uploads to end, and for sinks to get their events, at a stop."
    )
    hang_timeout: Duration = Field(
        10.0,
        ge=1,
        description="Time without a heartbeat after which a worker is killed and replaced.",
    )

    def addresses(self, address: str) -> tuple[str, ...]:
        """The address of every worker, from that of worker 0 (`http` or `grpc`)."""
        host, _, port = address.rpartition(":")
        return tuple(f"{host}:{int(port) + worker}" for worker in range(self.workers))

    def servers(self) -> Iterator[tuple[KeyPath, str]]:
        """The addresses of all servers, with their keys. Envoy connects to all but the last one."""
        for key, first in (("http", self.http), ("grpc", self.grpc)):
            yield from ((("video", key), address) for address in self.addresses(first))
        yield ("video", "metrics"), self.metrics

    @model_validator(mode="after")
    def _ports_exist(self) -> Self:
        for key in ("http", "grpc"):
            port = int(getattr(self, key).rpartition(":")[2])
            if port + self.workers - 1 > 65535:
                message = f"worker {self.workers - 1} would have a port above 65535: lower workers"
                raise invalid(message, (key,))
        return self


def _check_camera(value: str) -> str:
    url = split_url(value)
    if url is None or url.scheme != "rtsp" or not url.hostname or url.fragment:
        raise ValueError("write rtsp://HOST/PATH, with a port if it is not 554")
    if url.username is not None or url.password is not None:
        raise ValueError("remove the credentials from the URL; set credentials")
    return value


CameraUrl = Annotated[
    Text,
    Outside.SERVER,
    AfterValidator(_check_camera),
    Field(examples=["rtsp://192.0.2.10:554/stream1"]),
]


class CameraCredentials(Confidential):
    """User and password of a camera (RTSP, basic or digest)."""

    username: Annotated[Text, Shown()]
    password: SecretValue


class Region(Strict):
    """A part of each frame, in shares of its width and height."""

    left: Share = 0.0
    top: Share = 0.0
    width: Share = 1.0
    height: Share = 1.0

    @property
    def whole(self) -> bool:
        """Whether it is the whole frame."""
        return self == Region()

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for start, size in (("left", "width"), ("top", "height")):
            if getattr(self, size) <= 0:
                raise invalid("write more than 0", (size,))
            if getattr(self, start) + getattr(self, size) > 1.000001:
                raise invalid(f"the region ends outside of the frame: lower {start}", (size,))
        return self


class FrameSize(Strict):
    """Maximum size of a frame in pixels. A larger one is scaled down, with its aspect ratio."""

    width: int = Field(ge=16, le=8192)
    height: int = Field(ge=16, le=8192)


class VideoStream(Confidential):
    """A camera whose frames a model analyses.

    The requests for its frames go through the gateway, with the headers of `headers_from_secret`.
    """

    url: Annotated[CameraUrl, Shown()] = Field(
        description="RTSP URL of the camera. All who may read the config see it, also its query: "
        "write the password into `credentials`."
    )
    transport: Annotated[Literal["tcp", "udp"], Shown()] = Field(
        "tcp", description="Transport of the frames (RTP)."
    )
    credentials: CameraCredentials | None = None
    model: Annotated[Name, Shown()] = Field(description="The model. It needs `video`.")
    version: Annotated[Name | None, Shown()] = Field(
        None, description="Version of the model. Default: the gateway chooses it for each frame."
    )
    headers_from_secret: SecretHeaders = Field(
        default_factory=dict,
        max_length=MAX_SECRET_HEADERS,
        description="Headers with credentials for the gateway, such as `authorization`. A public "
        "model needs none.",
    )
    rate: Annotated[float | None, Shown()] = Field(
        None, gt=0, le=MAX_RATE, description="Frames per second to analyse. Default: all frames."
    )
    region: Annotated[Region, Shown()] = Region()
    size: Annotated[FrameSize | None, Shown()] = Field(
        None, description="Size of frames for models that take JPEG. Default: as they come."
    )
    ordered: Annotated[bool, Shown()] = Field(
        True, description="Whether events come in the order of the frames, or as results come."
    )
    overload: Annotated[Literal["drop", "wait"], Shown()] = Field(
        "drop",
        description="What happens while the model is slower than the camera. `drop`: the newest "
        "frame replaces the one that waits. `wait`: the stream waits, and falls behind.",
    )
    stall_timeout: Annotated[Duration, Shown()] = Field(
        10.0, ge=1, description="Time without a frame after which the stream connects again."
    )
    sinks: Annotated[tuple[VideoSink, ...], Shown()] = Field(
        (), max_length=8, description="Where events go. Clients can watch each stream, too."
    )
    enabled: Annotated[bool, Shown()] = True

    def secret_values(self) -> Iterator[tuple[KeyPath, SecretValue]]:
        """The secrets, with their key paths below the stream."""
        if self.credentials is not None:
            yield ("credentials", "password"), self.credentials.password
        for name, value in self.headers_from_secret.items():
            yield ("headers_from_secret", name), value
        for index, sink in enumerate(self.sinks):
            for path, value in sink.secret_values():
                yield ("sinks", index, *path), value


Videos = dict[Name, VideoStream]


class VideoSettings(Strict):
    """What all workers of the video service must know (`settings` of VideoConfig)."""

    gateway: str
    """`host:port` of the listener."""
    gateway_tls: GatewayTls | None
    max_uploads: int
    max_watchers: int
