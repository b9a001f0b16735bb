"""The config of sinks refuses what could not work, and says what to write."""

from typing import Any

import pytest
from pydantic import ValidationError

from sluice.config import GatewayConfig
from sluice.config.video_sinks import VideoSink

SECRET = {"env": "SECRET"}


@pytest.mark.parametrize(
    ("sink", "remedy"),
    [
        ({}, "exactly one of file, redis, webhook and mqtt"),
        ({"file": {"path": "/a"}, "mqtt": {"address": "a:1"}}, "exactly one of"),
        ({"file": {"path": "/a"}, "spool": {"folder": "/b"}}, "remove spool"),
        ({"file": {"path": "a"}}, "absolute"),
        ({"file": {"path": "/a/{camera}"}}, "write only {stream} in braces"),
        ({"redis": {"url": "redis://a", "key": "{name}"}}, "write only {stream} in braces"),
        ({"redis": {"url": "redis://a", "key": ""}}, "at least 1 character"),
        ({"redis": {"url": "redis://a", "ca": "/ca.crt"}}, "rediss://"),
        ({"webhook": {"url": "ftp://a/"}}, "https://HOST/PATH"),
        ({"webhook": {"url": "https://user:word@a/"}}, "headers_from_secret"),
        ({"webhook": {"url": "http://a/", "ca": "/ca.crt"}}, "https://"),
        (
            {"webhook": {"url": "https://a/", "headers_from_secret": {"User-Agent": SECRET}}},
            "sets this header itself",
        ),
        ({"mqtt": {"address": "broker"}}, "host:port"),
        ({"mqtt": {"address": "a:1", "topic": "video/#"}}, "without + and #"),
        ({"mqtt": {"address": "a:1", "password": SECRET}}, "set username too"),
        ({"mqtt": {"address": "a:1", "ca": "/ca.crt"}}, "tls: true"),
    ],
)
def test_a_sink_that_cannot_work_is_refused(sink: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError) as refused:
        VideoSink.model_validate(sink)
    assert remedy in str(refused.value)


@pytest.mark.parametrize(
    ("sink", "kind"),
    [
        ({"file": {"path": "/events/{stream}.ndjson"}}, "file"),
        ({"redis": {"url": "rediss://a:6380/1", "ca": "/ca.crt", "password": SECRET}}, "redis"),
        ({"webhook": {"url": "https://a/{stream}", "ca": "/ca.crt"}}, "webhook"),
        ({"mqtt": {"address": "a:8883", "tls": True}, "spool": {"folder": "/spool"}}, "mqtt"),
    ],
)
def test_a_sink_has_the_kind_that_is_set(sink: dict[str, Any], kind: str) -> None:
    assert VideoSink.model_validate(sink).kind == kind


def config(*paths: str) -> dict[str, Any]:
    """A gateway with a stream for each path of a file."""
    model = {
        "stable": "v1",
        "versions": {"v1": {"protocol": "grpc", "endpoints": [{"address": "127.0.0.1:1"}]}},
        "inputs": [{"name": "frame", "datatype": "BYTES", "shape": [-1]}],
        "video": {},
    }
    videos = {
        f"camera-{i}": {
            "url": "rtsp://127.0.0.1/",
            "model": "digits",
            "sinks": [{"file": {"path": path}}],
        }
        for i, path in enumerate(paths)
    }
    return {"models": {"digits": model}, "video": {}, "videos": videos}


def test_two_sinks_cannot_write_to_one_file() -> None:
    GatewayConfig.model_validate(config("/events/{stream}", "/events/{stream}"))
    for paths in (
        ("/events/all", "/events/all"),
        ("/camera-1", "/{stream}"),
        ("/events//all", "/events/x/../all"),
    ):
        with pytest.raises(ValidationError, match="another sink writes to this file"):
            GatewayConfig.model_validate(config(*paths))


def test_a_sink_cannot_write_to_a_full_file_of_another_sink() -> None:
    GatewayConfig.model_validate(config("/events/all", "/events/all.6", "/events/all.01"))
    for path in ("/events/all.1", "/events/all.5"):
        with pytest.raises(ValidationError, match="another sink gives its full files this name"):
            GatewayConfig.model_validate(config(path, "/events/all"))
