"""Creates the sink that a stream's config describes."""

from collections.abc import Mapping
from pathlib import Path

from sluice.config.addresses import split_host_port
from sluice.config.video_sinks import FileSink, MqttSink, RedisSink, VideoSink, WebhookSink, named
from video.sinks.delivery import Sink
from video.sinks.event_queue import EventQueue, MemoryQueue
from video.sinks.file import FileTransport
from video.sinks.mqtt import MqttTransport
from video.sinks.redis_stream import RedisTransport
from video.sinks.spool import SpoolQueue
from video.sinks.transport import Transport
from video.sinks.webhook import WebhookTransport


def open_sink(config: VideoSink, index: int, secrets: Mapping[str, bytes], stream: str) -> Sink:
    """The sink number `index` of a stream. Does not connect.

    `secrets` has the values of secrets by their key paths in the config of the stream, such as
    `sinks.0.redis.password`.
    """
    name = f"{index}-{config.kind}"
    prefix = f"sinks.{index}.{config.kind}."
    own = {key.removeprefix(prefix): secrets[key] for key in secrets if key.startswith(prefix)}
    return Sink(name, stream, _transport(config, own, stream), _queue(config, name, stream))


def _queue(config: VideoSink, name: str, stream: str) -> EventQueue:
    if config.spool is None:
        return MemoryQueue(config.buffer)
    folder = Path(named(config.spool.folder, stream)) / stream / name
    return SpoolQueue(folder, config.spool.max_size, config.buffer)


def _transport(config: VideoSink, secrets: Mapping[str, bytes], stream: str) -> Transport:
    if config.file is not None:
        return _file(config.file, stream)
    if config.redis is not None:
        return _redis(config.redis, secrets, stream)
    if config.webhook is not None:
        return _webhook(config.webhook, secrets, stream)
    assert config.mqtt is not None
    return _mqtt(config.mqtt, secrets, stream)


def _file(config: FileSink, stream: str) -> Transport:
    path = Path(named(config.path, stream))
    return FileTransport(path, config.format, config.max_size, config.keep)


def _redis(config: RedisSink, secrets: Mapping[str, bytes], stream: str) -> Transport:
    return RedisTransport(
        config.url,
        named(config.key, stream),
        config.max_length,
        username=config.username,
        password=_password(secrets),
        ca=_path(config.ca),
    )


def _webhook(config: WebhookSink, secrets: Mapping[str, bytes], stream: str) -> Transport:
    headers = {
        name: secrets[f"headers_from_secret.{name}"]
        for name in config.headers_from_secret
        if f"headers_from_secret.{name}" in secrets
    }
    url = named(config.url, stream)
    return WebhookTransport(url, headers, config.max_events, config.timeout, _path(config.ca))


def _mqtt(config: MqttSink, secrets: Mapping[str, bytes], stream: str) -> Transport:
    host, port = split_host_port(config.address)
    return MqttTransport(
        host,
        int(port),
        named(config.topic, stream),
        username=config.username,
        password=_password(secrets),
        tls=config.tls,
        ca=_path(config.ca),
    )


def _password(secrets: Mapping[str, bytes]) -> str | None:
    value = secrets.get("password")
    return None if value is None else value.decode(errors="replace")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
