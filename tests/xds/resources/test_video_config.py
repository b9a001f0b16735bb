"""The video service gets its settings, what it needs of each model, and each stream."""

import json
from pathlib import Path
from typing import Any

import pytest

from protos.video_pb2 import VideoConfig
from sluice.config import Model
from sluice.config.load import loads
from sluice.config.video import VideoSettings, VideoStream
from tests.sluice.config.test_video import CONFIG, MODEL, SECRETS, STREAM
from xds.protocol.snapshot import Resources
from xds.resources.video_config import VideoConfigCache

VALUES = {"credentials.password": b"p", "headers_from_secret.authorization": b"Bearer t"}


def resources(secrets: dict[str, bytes] | None = None, **changes: object) -> Resources:
    config = loads(json.dumps({**CONFIG, **changes}))
    return VideoConfigCache().resources(config, {"door": secrets or {}}, Path("/etc/sluice"))


def content(found: Resources, name: str) -> VideoConfig:
    return VideoConfig.FromString(found[name].body)


def with_model(**keys: object) -> Resources:
    return resources(models={"m": {**MODEL, **keys}})


def test_settings_models_and_streams_are_resources_of_their_own() -> None:
    plain = {"versions": {"v1": {"endpoints": [{"address": "127.0.0.1:1"}]}}}
    found = resources(models={"m": MODEL, "plain": plain})
    assert found.keys() == {"settings", "model/m", "stream/door"}
    assert resources(video=None, videos={}, models={"plain": plain}) == {}


@pytest.mark.parametrize(
    ("changes", "gateway"),
    [
        ({}, "127.0.0.1:8080"),
        ({"listener": {"address": "0.0.0.0:8443"}}, "127.0.0.1:8443"),
        ({"video": {"gateway": {"address": "gateway.test:80"}}}, "gateway.test:80"),
    ],
)
def test_the_settings_say_where_the_listener_is(changes: Any, gateway: str) -> None:
    settings = VideoSettings.model_validate_json(content(resources(**changes), "settings").config)
    assert settings.gateway == gateway
    assert settings.gateway_tls is None


def test_the_file_with_the_authorities_of_the_listener_has_an_absolute_path() -> None:
    tls = {"certificate": "a", "private_key": "b"}
    found = resources(listener={"tls": tls}, video={"gateway": {"tls": {"ca": "ca.crt"}}})
    settings = VideoSettings.model_validate_json(content(found, "settings").config)
    assert settings.gateway_tls is not None
    assert settings.gateway_tls.ca == "/etc/sluice/ca.crt"


def test_a_model_has_its_tensors_and_its_video() -> None:
    model = Model.model_validate_json(content(with_model(), "model/m").config)
    declared = loads(json.dumps(CONFIG)).models["m"]
    assert (model.inputs, model.outputs, model.video) == (
        declared.inputs, declared.outputs, declared.video
    )  # fmt: skip
    assert model.video_input == declared.video_input
    assert model.stable_version == "v1"


def test_only_changes_that_matter_to_the_video_service_change_its_model() -> None:
    before = with_model()["model/m"].version
    same: tuple[dict[str, object], ...] = (
        {"timeout": "9s"},
        {"access": {"public": True}},
        {"versions": {"v1": {**MODEL["versions"]["v1"], "endpoints": [{"address": "h:1"}]}}},
    )
    assert {with_model(**keys)["model/m"].version for keys in same} == {before}
    assert with_model(video={"concurrency": 3})["model/m"].version != before


def test_a_stream_has_the_values_of_its_secrets() -> None:
    found = content(resources(VALUES, videos={"door": SECRETS}), "stream/door")
    assert dict(found.secrets) == VALUES
    stream = VideoStream.model_validate_json(found.config)
    assert stream == VideoStream.model_validate(SECRETS)


def test_a_secret_with_another_value_changes_only_its_stream() -> None:
    streams = {"door": SECRETS, "gate": STREAM}
    before = resources(VALUES, videos=streams)
    after = resources({**VALUES, "credentials.password": b"q"}, videos=streams)
    changed = [name for name in before if before[name].version != after[name].version]
    assert changed == ["stream/door"]


def test_models_that_do_not_change_are_compiled_once() -> None:
    cache, config = VideoConfigCache(), loads(json.dumps(CONFIG))
    first, second = (cache.resources(config, {}, Path()) for _ in range(2))
    assert first["model/m"] is second["model/m"]
