"""The config of the video service: its settings, each model with video, and each stream.

Each is a resource of its own, so that a change of a stream reaches only this stream.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from protos.video_pb2 import VideoConfig
from sluice.config import GatewayConfig, Model
from sluice.config.addresses import reachable
from sluice.config.video import VideoService, VideoSettings, VideoStream
from sluice.contract.names import VIDEO_SETTINGS, video_model, video_stream
from xds.protocol.snapshot import Resource, Resources
from xds.resources.proto_messages import serialized

_UNUSED: Final = {"endpoints": [{"address": "127.0.0.1:1"}], "protocol": "grpc"}
"""Each version of a model: the video service sends frames to the gateway, and to no endpoint."""


class VideoConfigCache:
    """The resources of the models of the latest config."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, bytes], Resource] = {}

    def resources(
        self,
        config: GatewayConfig,
        secrets: Mapping[str, Mapping[str, bytes]],
        directory: Path,
        *,
        keep: bool = True,
    ) -> Resources:
        """The resources, by name. `secrets`: the values of each stream, by their key paths.

        File names in the config are relative to `directory`. `keep`: whether the models replace
        those of the latest config.
        """
        if config.video is None:
            return {}
        models = {}
        resources = {VIDEO_SETTINGS: _settings(config, config.video, directory)}
        for name, model in config.models.items():
            if model.video is not None:
                key = name, model.digest
                resource = self._models.get(key) or _resource(_model(model))
                resources[video_model(name)] = models[key] = resource
        for name, stream in config.videos.items():
            resources[video_stream(name)] = _stream(stream, secrets.get(name, {}))
        if keep:
            self._models = models
        return resources


def _settings(config: GatewayConfig, service: VideoService, directory: Path) -> Resource:
    gateway = service.gateway
    tls = gateway.tls
    if tls is not None and tls.ca is not None:
        tls = tls.model_copy(update={"ca": str(directory.absolute() / tls.ca)})
    settings = VideoSettings(
        gateway=gateway.address or reachable(config.listener.address),
        gateway_tls=tls,
        max_uploads=service.max_uploads,
        max_watchers=service.max_watchers,
    )
    return _resource(settings.model_dump_json().encode())


def _model(model: Model) -> bytes:
    """What the video service needs of a model. Other changes of the model restart no stream."""
    own = model.model_dump(mode="json", include={"inputs", "outputs", "video"})
    versions = dict.fromkeys(model.versions, _UNUSED)
    found = {"versions": versions, "stable": model.stable_version, **own}
    return json.dumps(found, sort_keys=True).encode()


def _stream(stream: VideoStream, secrets: Mapping[str, bytes]) -> Resource:
    return _resource(stream.model_dump_json().encode(), secrets)


def _resource(config: bytes, secrets: Mapping[str, bytes] | None = None) -> Resource:
    return Resource.of(serialized(VideoConfig(config=config, secrets=secrets)))
