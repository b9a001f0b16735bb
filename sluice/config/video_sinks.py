"""Where the events of a video stream go: files, Redis Streams, webhooks and MQTT."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.addresses import is_host_port, split_url
from sluice.config.invalid import invalid
from sluice.config.limit_backend import RedisUrl
from sluice.config.upstream import SecretHeaders, SecretValue
from sluice.config.values import (
    AbsolutePath,
    Confidential,
    FilePath,
    Outside,
    PositiveDuration,
    Shown,
    Size,
    Strict,
    Text,
)


def _check_webhook(value: str) -> str:
    url = split_url(value)
    if url is None or url.scheme not in ("http", "https") or url.fragment:
        raise ValueError("write http://HOST/PATH or https://HOST/PATH")
    if url.username is not None or url.password is not None:
        raise ValueError("remove the credentials from the URL; set headers_from_secret")
    return value


def _check_broker(value: str) -> str:
    # Not quoted in errors: it may be a secret, in the wrong place.
    if not is_host_port(value):
        raise ValueError("write the address of the broker as host:port, such as mqtt.example:1883")
    return value


BrokerAddress = Annotated[
    Text, Outside.SERVER, AfterValidator(_check_broker), Field(examples=["mqtt.example:1883"])
]
WebhookUrl = Annotated[Text, Outside.SERVER, AfterValidator(_check_webhook)]


class Spool(Strict):
    """Keeps events that no sink has yet on disk, so that they survive a restart of the service."""

    folder: Annotated[AbsolutePath, Outside.OUTPUT] = Field(
        description="Folder of the spool. Each stream and sink has a file of its own in it."
    )
    max_size: Size = Field(
        64 << 20, ge=1 << 16, description="Maximum size of the events of one sink."
    )


class FileSink(Strict):
    """Appends events to a file. A full file is renamed with a number at its end."""

    path: Annotated[AbsolutePath, Outside.OUTPUT]
    format: Literal["ndjson", "protobuf"] = Field(
        "ndjson", description="`protobuf`: each message after its length as a varint."
    )
    max_size: Size = Field(100 << 20, ge=1 << 16, description="Size at which a file is full.")
    keep: int = Field(5, ge=1, le=1000, description="Number of full files that are kept.")


class RedisSink(Confidential):
    """Appends events to a Redis stream (XADD), with the fields `id` and `event` (JSON)."""

    url: Annotated[RedisUrl, Shown(), Outside.SERVER]
    username: Annotated[Text | None, Shown()] = None
    password: SecretValue | None = None
    key: Annotated[Text, Shown()] = Field("sluice:video:{stream}", description="Key of the stream.")
    max_length: int = Field(
        100_000, ge=1, description="Number of events that the stream keeps (approximately)."
    )
    ca: Annotated[FilePath | None, Shown()] = Field(
        None, description="File with the CA certificates for `rediss://`, in PEM."
    )


class WebhookSink(Confidential):
    """Sends events with `POST`, as NDJSON. A status of 2xx confirms all events of the request."""

    url: Annotated[WebhookUrl, Shown()]
    headers_from_secret: SecretHeaders = Field(
        default_factory=dict, max_length=8, description="Headers with credentials."
    )
    max_events: Annotated[int, Shown()] = Field(
        100, ge=1, le=10_000, description="Maximum number of events in one request."
    )
    timeout: Annotated[PositiveDuration, Shown()] = Field(10.0, le=300)
    ca: Annotated[FilePath | None, Shown()] = Field(
        None, description="File with the CA certificates for `https://`, in PEM."
    )


class MqttSink(Confidential):
    """Publishes each event as JSON, with QoS 1."""

    address: Annotated[BrokerAddress, Shown()]
    topic: Annotated[Text, Shown()] = Field("sluice/video/{stream}", description="Topic.")
    username: Annotated[Text | None, Shown()] = None
    password: SecretValue | None = None
    tls: Annotated[bool, Shown()] = False
    ca: Annotated[FilePath | None, Shown()] = Field(
        None, description="File with the CA certificates for TLS, in PEM."
    )


class VideoSink(Strict):
    """Where events go. Set exactly one of `file`, `redis`, `webhook` and `mqtt`.

    A sink gets each event at least once. While its buffer is full, frames are dropped.
    """

    file: FileSink | None = None
    redis: RedisSink | None = None
    webhook: WebhookSink | None = None
    mqtt: MqttSink | None = None
    buffer: int = Field(
        1000, ge=1, le=1_000_000, description="Events that may wait for the sink in memory."
    )
    spool: Spool | None = Field(
        None, description="Where events wait also during a restart. Default: only in memory."
    )

    @property
    def kind(self) -> str:
        """The key that is set."""
        kinds = ("file", "redis", "webhook", "mqtt")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        found = [kind for kind in ("file", "redis", "webhook", "mqtt") if getattr(self, kind)]
        if len(found) != 1:
            raise ValueError("set exactly one of file, redis, webhook and mqtt")
        if self.file is not None and self.spool is not None:
            raise invalid("remove spool: a file is on disk already", ("spool",))
        return self
