"""From the config of the control plane to the streams of one worker."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from sluice.config import Model
from video.inference.caller_headers import Metadata
from video.process.received import ReceivedConfig, ReceivedStream
from video.service.watchers import WatchedStream
from video.sinks.opening import open_sink
from video.source import FrameSource
from video.sources import Credentials, Sampling, SourceLimits, open_rtsp
from video.streams.camera import ConfiguredStream
from video.streams.settings import StreamSettings
from video.streams.sinks import ConfiguredSink


def configured_streams(
    config: ReceivedConfig, is_own: Callable[[str], bool]
) -> Mapping[str, ConfiguredStream]:
    """The streams that a worker runs, by name. `is_own`: whether the worker runs a stream.

    Raises ValueError if a secret is missing.
    """
    return {
        name: _configured(name, stream, config.models[stream.config.model])
        for name, stream in config.streams.items()
        if stream.config.enabled and is_own(name)
    }


def watched_streams(config: ReceivedConfig) -> Mapping[str, WatchedStream]:
    """The streams that clients may watch, by name."""
    return {
        name: WatchedStream(
            stream.config.model,
            config.models[stream.config.model],
            stream.config.region,
            stream.config.size,
        )
        for name, stream in config.streams.items()
        if stream.config.enabled
    }


def _configured(name: str, stream: ReceivedStream, model: Model) -> ConfiguredStream:
    config = stream.config
    settings = StreamSettings(
        name=name,
        model_name=config.model,
        model=model,
        version=config.version,
        rate=config.rate,
        region=config.region,
        size=config.size,
        ordered=config.ordered,
        overload=config.overload,
        stall_timeout=config.stall_timeout,
    )
    return ConfiguredStream(
        settings=settings,
        caller=_caller(name, stream),
        content=stream.content,
        open_source=partial(_open_camera, settings, stream, _credentials(name, stream)),
        sinks=tuple(_sinks(name, stream)),
    )


def _open_camera(
    settings: StreamSettings, stream: ReceivedStream, credentials: Credentials | None
) -> FrameSource:
    video = settings.model.video
    assert video is not None
    limits = SourceLimits(
        max_bytes=None,
        max_seconds=None,
        max_frames=None,
        max_pixels=video.max_pixels,
        idle_timeout=settings.stall_timeout,
    )
    camera = stream.config
    return open_rtsp(camera.url, camera.transport, credentials, Sampling(settings.rate), limits)


def _sinks(name: str, stream: ReceivedStream) -> Iterator[ConfiguredSink]:
    for index, sink in enumerate(stream.config.sinks):
        prefix = f"sinks.{index}."
        secrets = {key: each for key, each in stream.secrets.items() if key.startswith(prefix)}
        content = repr((index, sink.model_dump_json(), sorted(secrets.items()))).encode()
        yield ConfiguredSink(content, partial(open_sink, sink, index, secrets, name))


def _credentials(name: str, stream: ReceivedStream) -> Credentials | None:
    credentials = stream.config.credentials
    if credentials is None:
        return None
    return Credentials(credentials.username, _secret(name, stream, "credentials.password"))


def _caller(name: str, stream: ReceivedStream) -> Metadata:
    """The headers of the requests for the frames of a stream."""
    return tuple(
        (header.lower(), _secret(name, stream, f"headers_from_secret.{header}"))
        for header in stream.config.headers_from_secret
    )


def _secret(name: str, stream: ReceivedStream, path: str) -> str:
    """The value of a secret. Raises ValueError."""
    value = stream.secrets.get(path)
    if value is None:
        raise ValueError(f"stream/{name}: the secret {path} is missing")
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError(f"stream/{name}: the secret {path} is not text") from None
