"""Events of a camera reach every kind of sink through the whole gateway, with secrets."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from redis import Redis

from tests.integration.frame_model import frame_model
from tests.integration.gateway import Gateway, eventually, free_ports, running
from tests.integration.rtsp_camera import camera, require_server
from tests.integration.video_gateway import camera_config, results, stream_status, video_config
from tests.redis_server import RedisServer
from tests.video.sinks.mqtt_broker import mqtt_broker
from tests.video.sinks.web_server import web_server
from video.sinks.spool_log import SpoolLog

require_server()

FILM = Path(__file__).parents[2] / "examples" / "digits.mp4"
ENOUGH = 10
"""Results of the stream."""


def sinks_of(gateway: Gateway) -> list[dict[str, Any]]:
    sinks: list[dict[str, Any]] = stream_status(gateway, "door")["sinks"]
    return sinks


def numbers(events: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The frame of each event, and the number that the model has read in it."""
    return [(each["frame"], each["inference"]["outputs"][0]["data"][0]) for each in events]


def test_each_sink_gets_every_event_and_sends_its_secrets(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2-long\n")
    password = {"file": str(secret)}
    redis = RedisServer(tmp_path, "--requirepass", "hunter2-long")
    redis.start()
    file = tmp_path / "door.ndjson"
    with (
        ExitStack() as stack,
        mqtt_broker() as broker,
        web_server() as server,
        frame_model("numbers") as model,
        camera(FILM, *free_ports(1), loops=1) as film,
    ):
        stack.callback(redis.kill)
        broker.password = b"hunter2-long"
        sinks = [
            {"file": {"path": str(tmp_path / "{stream}.ndjson")}},
            {"redis": {"url": redis.url, "password": password}},
            {
                "webhook": {
                    "url": server.url,
                    "headers_from_secret": {
                        "authorization": {"file": str(secret), "prefix": "Bearer "}
                    },
                },
                "spool": {"folder": str(tmp_path / "spool")},
            },
            {
                "mqtt": {
                    "address": f"127.0.0.1:{broker.port}",
                    "username": "camera",
                    "password": password,
                }
            },
        ]
        config = video_config(model)
        config["videos"] = {"door": camera_config(film.url, rate=5, sinks=sinks)}
        with running(config, demo=False) as gateway:
            # Before Envoy listens, frames fail.
            eventually(lambda: results(gateway, "door") >= ENOUGH)
            eventually(lambda: not any(each["waiting"] for each in sinks_of(gateway)))
            film.kill()
            assert [each["error"] for each in sinks_of(gateway)] == [""] * 4
        with Redis.from_url(redis.url, password="hunter2-long") as client:
            entries: Any = client.xrange("sluice:video:door")
    found = {
        "file": [json.loads(line) for line in file.read_bytes().splitlines()],
        "redis": [json.loads(fields[b"event"]) for _, fields in entries],
        "webhook": [
            json.loads(line) for each in server.requests for line in each.body.splitlines()
        ],
        "mqtt": [json.loads(payload) for _, payload in broker.messages],
    }
    assert server.requests[0].headers["authorization"] == "Bearer hunter2-long"
    for events in found.values():
        assert [each["id"] for each in events] == [each["id"] for each in found["file"]]
    read = numbers([each for each in found["file"] if "inference" in each])
    assert len(read) >= ENOUGH
    assert all(frame % 300 == number for frame, number in read)
    assert SpoolLog(tmp_path / "spool" / "door" / "2-webhook", 1 << 20).waiting == 0
