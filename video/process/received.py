"""The config of the video service as the control plane sends it.

The settings, each model and each stream are resources of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ValidationError

from protos.video_pb2 import VideoConfig
from sluice.config import Model
from sluice.config.errors import MAX_PROBLEMS
from sluice.config.validation import location
from sluice.config.video import VideoSettings, VideoStream
from sluice.contract.names import VIDEO_SETTINGS, video_model, video_stream

MODEL: Final = video_model("")
STREAM: Final = video_stream("")

_Section = TypeVar("_Section", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReceivedStream:
    """A stream of a camera, and the values of its secrets by their key paths.

    `content` is the resource: equal streams have equal content.
    """

    config: VideoStream
    secrets: Mapping[str, bytes] = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReceivedConfig:
    """The settings, and the models and streams by name."""

    settings: VideoSettings
    models: Mapping[str, Model]
    streams: Mapping[str, ReceivedStream]

    @classmethod
    def read(
        cls,
        resources: Mapping[str, bytes],
        removed: Iterable[str] = (),
        previous: "ReceivedConfig | None" = None,
    ) -> "ReceivedConfig":
        """The config after a response: changed and removed resources, by name.

        `previous`: the config before. Raises ValueError, without values of the config.
        """
        settings = None if previous is None else previous.settings
        models = {} if previous is None else dict(previous.models)
        streams = {} if previous is None else dict(previous.streams)
        for name in removed:
            if name == VIDEO_SETTINGS:
                settings = None
            models.pop(name.removeprefix(MODEL), None)
            streams.pop(name.removeprefix(STREAM), None)
        for name, content in resources.items():
            if name == VIDEO_SETTINGS:
                settings = _section(VideoSettings, _message(name, content), name)
            elif name.startswith(MODEL):
                model = _section(Model, _message(name, content), name)
                models[name.removeprefix(MODEL)] = model
            elif name.startswith(STREAM):
                streams[name.removeprefix(STREAM)] = _stream(name, content)
            else:
                raise ValueError(f"unknown resource {name[:100]!r}")
        if settings is None:
            raise ValueError("the settings are missing")
        _check_models(models, streams)
        return cls(settings, models, streams)


def _check_models(models: Mapping[str, Model], streams: Mapping[str, ReceivedStream]) -> None:
    """Raises ValueError if a model has no video, or if a stream has no model."""
    for name, model in models.items():
        if model.video is None:
            raise ValueError(f"{MODEL}{name} has no video")
    for name, stream in streams.items():
        if stream.config.model not in models:
            raise ValueError(f"{STREAM}{name}: its model {stream.config.model} is missing")


def _message(name: str, content: bytes) -> VideoConfig:
    try:
        return VideoConfig.FromString(content)
    except DecodeError:
        raise ValueError(f"{name} is not a VideoConfig") from None


def _stream(name: str, content: bytes) -> ReceivedStream:
    message = _message(name, content)
    return ReceivedStream(_section(VideoStream, message, name), dict(message.secrets), content)


def _section(section: type[_Section], message: VideoConfig, name: str) -> _Section:
    try:
        return section.model_validate_json(message.config)
    except ValidationError as error:
        # The reason has no values of the config, because it goes to the log.
        found = (
            f"{'.'.join([name, *map(str, location(detail))])}: {detail['type']}"
            for detail in error.errors(include_input=False)[:MAX_PROBLEMS]
        )
        raise ValueError(f"not a valid config: {'; '.join(found)}") from None
