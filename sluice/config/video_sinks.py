"""Where the events of a video stream go: files, Redis Streams, webhooks and MQTT."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sluice.config.addresses import is_host_port, split_url
from sluice.config.errors import KeyPath
from sluice.config.invalid import invalid
from sluice.config.limit_backend import RedisUrl
from sluice.config.upstream import SecretHeaders, SecretValue
from sluice.config.values import (
    AbsolutePath,
    Confidential,
    Outside,
    PositiveDuration,
    Shown,
    Size,
    Strict,
    Text,
)

STREAM: Final = "{stream}"
"""Stands for the name of the stream, in names of files, keys, topics and URLs."""

_OWN_HEADERS: Final = ("idempotency-key", "user-agent")
"""Headers that a webhook sets itself, beside those of `upstream`."""


def named(text: str, stream: str) -> str:
    """The text with the name of the stream in the place of `{stream}`."""
    return text.replace(STREAM, stream)


def is_full_file(path: str, files: Mapping[str, int]) -> bool:
    """Whether a full file of another sink may get this path. `files`: paths, each with `keep`."""
    base, _, number = path.rpartition(".")
    return base in files and number in map(str, range(1, files[base] + 1))


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

_BRACES: Final = re.compile(r"\{[^{}]*\}")


def _check_placeholders(value: str) -> str:
    if set(_BRACES.findall(value)) - {STREAM}:
        raise ValueError(f"write only {STREAM} in braces: the name of the stream")
    return value


def _check_key(value: str) -> str:
    if not value:
        raise ValueError("write at least 1 character")
    return value


def _check_topic(value: str) -> str:
    if "+" in value or "#" in value:
        raise ValueError("write a topic without + and #, which are for subscribers")
    return value


Placeholders = AfterValidator(_check_placeholders)
SinkPath = Annotated[AbsolutePath, Outside.OUTPUT, Placeholders]
SinkKey = Annotated[Text, Placeholders, AfterValidator(_check_key)]
SinkTopic = Annotated[SinkKey, AfterValidator(_check_topic)]


class Spool(Strict):
    """Keeps events that no sink has yet on disk, so that they survive a restart of the service."""

    folder: SinkPath = Field(
        description="Folder of the spool. Each sink of a stream has a folder of its own in it, "
        "`STREAM/INDEX-KIND`."
    )
    max_size: Size = Field(
        64 << 20, ge=1 << 16, description="Size at which the spool of a sink is full."
    )


class FileSink(Strict):
    """Appends events to a file. A full file is renamed to `PATH.1`, and `PATH.1` to `PATH.2`."""

    path: SinkPath = Field(
        description="Path of the file. `{stream}` is the name of the stream.",
        examples=["/var/lib/sluice/{stream}.ndjson"],
    )
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
    key: Annotated[SinkKey, Shown()] = Field(
        "sluice:video:{stream}",
        description="Key of the Redis stream. `{stream}` is the name of the stream.",
    )
    max_length: int = Field(
        100_000, ge=1, description="Number of events that the stream keeps (approximately)."
    )
    ca: Annotated[AbsolutePath | None, Shown()] = Field(
        None,
        description="File of the video service with the CA certificates for `rediss://`, in PEM. "
        "Default: those of the system.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.ca is not None and not self.url.startswith("rediss:"):
            raise invalid("remove ca, or write a URL with rediss://", ("ca",))
        return self


class WebhookSink(Confidential):
    """Sends events with `POST`, as NDJSON. A status of 2xx confirms all events of the request.

    After any other status, the request is repeated with the same `idempotency-key`, later and
    later. Redirects are not followed.
    """

    url: Annotated[WebhookUrl, Shown(), Placeholders] = Field(
        description="URL of the receiver. `{stream}` is the name of the stream. All who may read "
        "the config see it: write credentials into `headers_from_secret`.",
        examples=["https://events.example/video"],
    )
    headers_from_secret: SecretHeaders = Field(
        default_factory=dict, max_length=8, description="Headers with credentials."
    )
    max_events: Annotated[int, Shown()] = Field(
        100, ge=1, le=10_000, description="Maximum number of events in one request."
    )
    timeout: Annotated[PositiveDuration, Shown()] = Field(
        10.0, le=300, description="Time for the answer to one request."
    )
    ca: Annotated[AbsolutePath | None, Shown()] = Field(
        None,
        description="File of the video service with the CA certificates for `https://`, in PEM. "
        "Default: those of the system.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in self.headers_from_secret:
            if name.lower() in _OWN_HEADERS:
                message = "the sink sets this header itself: write another one"
                raise invalid(message, ("headers_from_secret", name))
        if self.ca is not None and not self.url.startswith("https:"):
            raise invalid("remove ca, or write a URL with https://", ("ca",))
        return self


class MqttSink(Confidential):
    """Publishes each event as JSON, with QoS 1."""

    address: Annotated[BrokerAddress, Shown()]
    topic: Annotated[SinkTopic, Shown()] = Field(
        "sluice/video/{stream}",
        description="Topic. `{stream}` is the name of the stream.",
    )
    username: Annotated[Text | None, Shown()] = None
    password: SecretValue | None = None
    tls: Annotated[bool, Shown()] = Field(False, description="Whether the broker speaks TLS.")
    ca: Annotated[AbsolutePath | None, Shown()] = Field(
        None,
        description="File of the video service with the CA certificates for `tls`, in PEM. "
        "Default: those of the system.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.password is not None and self.username is None:
            raise invalid("set username too: MQTT sends no password without it", ("password",))
        if self.ca is not None and not self.tls:
            raise invalid("remove ca, or write tls: true", ("ca",))
        return self


class VideoSink(Strict):
    """Where events go. Set exactly one of `file`, `redis`, `webhook` and `mqtt`.

    A sink gets each event at least once: a repeated event has the same `id`. While its buffer is
    full, frames are dropped (reason `sink`).
    """

    file: FileSink | None = None
    redis: RedisSink | None = None
    webhook: WebhookSink | None = None
    mqtt: MqttSink | None = None
    buffer: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Events that may wait for the sink in memory. The buffer is also full with "
        "64 MiB of events.",
    )
    spool: Spool | None = Field(
        None,
        description="Where events wait on disk, also during a restart. Default: only in memory.",
    )

    @property
    def kind(self) -> str:
        """The key that is set."""
        kinds = ("file", "redis", "webhook", "mqtt")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    def secret_values(self) -> Iterator[tuple[KeyPath, SecretValue]]:
        """The secrets, with their key paths below the sink."""
        for kind in ("redis", "mqtt"):
            section: RedisSink | MqttSink | None = getattr(self, kind)
            if section is not None and section.password is not None:
                yield (kind, "password"), section.password
        if self.webhook is not None:
            for name, value in self.webhook.headers_from_secret.items():
                yield ("webhook", "headers_from_secret", name), value

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        found = [kind for kind in ("file", "redis", "webhook", "mqtt") if getattr(self, kind)]
        if len(found) != 1:
            raise ValueError("set exactly one of file, redis, webhook and mqtt")
        if self.file is not None and self.spool is not None:
            raise invalid("remove spool: a file is on disk already", ("spool",))
        return self
