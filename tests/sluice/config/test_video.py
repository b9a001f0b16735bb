"""The config of video: what it needs, and what must not share its addresses and paths."""

import json
from pathlib import Path
from typing import Any

import pytest

from sluice.config import ConfigError, GatewayConfig
from sluice.config.disruption import disruptions
from sluice.config.load import loads
from sluice.config.secrets import read_secrets, secret_files
from tests.sluice.config.test_secrets import NOW

VERSION = {"endpoints": [{"address": "127.0.0.1:1"}], "protocol": "grpc"}
MODEL: dict[str, Any] = {
    "versions": {"v1": VERSION},
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}],
    "video": {},
}
STREAM = {"url": "rtsp://192.0.2.1/a", "model": "m"}
CONFIG: dict[str, Any] = {"models": {"m": MODEL}, "video": {}, "videos": {"door": STREAM}}
TOKENS = {each: {"token_file": each} for each in ("callout", "envoy")}


def read(**changes: object) -> GatewayConfig:
    return loads(json.dumps({**CONFIG, **changes}), "gateway.yaml")


def error(**changes: object) -> str:
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    return str(caught.value).removeprefix("gateway.yaml:1: ")


def with_paths(*paths: str) -> dict[str, object]:
    return {"m": MODEL, "n": {"versions": {"v1": VERSION}, "paths": paths}}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"video": None}, "videos: video needs the video service"),
        ({"video": None, "videos": {}}, "models.m.video: video needs the video service"),
        ({"videos": {"d": {**STREAM, "model": "n"}}}, "videos.d.model: no model has this name"),
        (
            {"videos": {"d": {**STREAM, "version": "v"}}},
            "videos.d.version: the model has",
        ),
        ({"identity": TOKENS}, "identity.video: the video service needs an identity too"),
        (
            {"istio": {"hosts": ["a.example"], "gateways": ["g"]}},
            "video: a mesh has no route to the video service",
        ),
        ({"video": {"http": "v:5"}}, "video.gateway.address"),
        ({"video": {"metrics": "0.0.0.0:5"}}, "video.metrics: other machines can reach 0.0.0.0:5"),
        ({"video": {"http": "127.0.0.1:8080"}}, "video.http: another server of this machine has"),
        (
            {"video": {"http": "127.0.0.1:18239", "workers": 2}},
            "video.grpc: another server of this machine has 127.0.0.1:18240",
        ),
        (
            {"video": {"http": "v:1", "grpc": "v:2", "metrics": "v:3", "allow_insecure": True}},
            "video.gateway.address: the service on another machine cannot reach 127.0.0.1:8080",
        ),
        ({"video": {"gateway": {"tls": {}}}}, "video.gateway.tls: the listener has no TLS"),
        (
            {"listener": {"tls": {"certificate": "a", "private_key": "b"}}},
            "video.gateway.tls: the listener has TLS",
        ),
        *(
            ({"models": with_paths("/own", path)}, "models.n.paths.1: requests for the video")
            for path in (
                "/v2/models/m/video",
                "/v2/models/m/video/door",
                "/v2/models/m/versions",
                "/v2/models/m/versions/v1/video",
                "/sluice.video.v1.VideoAnalysis",
                "/sluice.video.v1.VideoAnalysis/Watch",
            )
        ),
    ],
)
def test_a_config_that_cannot_work_is_refused(changes: dict[str, object], expected: str) -> None:
    assert error(**changes).startswith(expected)


def test_paths_that_take_nothing_from_the_video_service_are_accepted() -> None:
    read(models=with_paths("/v2/models/m/videos", "/v2/models/n/video", "/v2/models/m/other"))


def test_an_endpoint_cannot_be_the_video_service() -> None:
    version = {**VERSION, "endpoints": [{"address": "127.0.0.1:18240"}]}
    found = error(models={"m": {**MODEL, "versions": {"v1": version}}})
    assert "this is a server of the gateway that clients must not reach" in found


def test_a_service_on_other_machines_may_have_the_ports_of_envoy() -> None:
    named = {"http": "v:8080", "grpc": "v:9901", "metrics": "v:9902", "allow_insecure": True}
    read(video={**named, "gateway": {"address": "gateway:8080"}})


SECRETS: dict[str, Any] = {
    **STREAM,
    "credentials": {"username": "u", "password": {"file": "camera"}},
    "headers_from_secret": {"authorization": {"env": "TOKEN", "prefix": "Bearer "}},
    "sinks": [
        {"redis": {"url": "redis://192.0.2.1:1", "password": {"file": "redis"}}},
        {
            "webhook": {
                "url": "https://192.0.2.1/",
                "headers_from_secret": {"x-key": {"file": "key"}},
            }
        },
        {"mqtt": {"address": "192.0.2.1:1", "username": "u", "password": {"file": "missing"}}},
    ],
}


def test_the_secrets_of_a_stream_are_read_by_their_key_paths(tmp_path: Path) -> None:
    for name in ("camera", "redis", "key"):
        (tmp_path / name).write_text(f"{name}-secret\n")
    config = read(videos={"door": SECRETS})
    files = secret_files(config, tmp_path, {})
    assert {each.name for each in files} == {"camera", "redis", "key", "missing"}
    secrets, findings = read_secrets(config, tmp_path, {"TOKEN": "t"}, NOW)
    assert secrets.videos == {
        "door": {
            "credentials.password": b"camera-secret",
            "headers_from_secret.authorization": b"Bearer t",
            "sinks.0.redis.password": b"redis-secret",
            "sinks.1.webhook.headers_from_secret.x-key": b"key-secret",
        }
    }
    assert [each.path for each in findings] == [
        ("videos", "door", "sinks", 2, "mqtt", "password", "file")
    ]
    assert b"secret" not in repr(secrets).encode()


def test_secrets_of_streams_leave_the_machine_only_over_tls() -> None:
    exposed = {"xds": "0.0.0.0:1", "allow_insecure": True}
    read(control_plane=exposed)
    found = error(videos={"door": SECRETS}, control_plane=exposed)
    assert found.startswith(
        "videos.door.credentials.password: the control plane would send secrets"
    )


def test_the_end_of_every_stream_is_a_disruption() -> None:
    [found] = disruptions(read(), read(videos={}))
    assert found.path == ("videos",)
    assert "door" in found.effect
    assert disruptions(read(), read(videos={"gate": STREAM})) == []
