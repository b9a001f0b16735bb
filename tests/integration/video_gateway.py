"""A gateway with the video service, and the status of its streams."""

import json
import urllib.request
from typing import Any

from tests.integration.frame_model import REGION, FrameModel
from tests.integration.gateway import Config, Gateway, base_config, eventually, free_ports


def video_config(*models: FrameModel, **video: Any) -> Config:
    """A config with public models of frames. `video`: keys of the `video` of each model."""
    config = base_config()
    http, grpc, metrics = (f"127.0.0.1:{port}" for port in free_ports(3))
    config["video"] = {"http": http, "grpc": grpc, "metrics": metrics}
    config["models"] = {
        model.name: {
            **model.config(**video),
            "access": {"public": True},
            "breaker": {"enabled": False},
        }
        for model in models
    }
    config["videos"] = {}
    return config


def camera_config(url: str, **settings: Any) -> dict[str, Any]:
    """A stream of a camera whose frames the model `numbers` reads."""
    return {"url": url, "model": "numbers", "region": REGION, "stall_timeout": "2s", **settings}


def stream_status(gateway: Gateway, name: str) -> dict[str, Any]:
    """The status of a stream. Empty if there is none yet."""
    url = f"http://{gateway.config['video']['metrics']}/v1/videos"
    with urllib.request.urlopen(url, timeout=10) as response:
        streams = json.load(response)["streams"]
    return next((each for each in streams if each["name"] == name), {})


def counts(gateway: Gateway, name: str) -> dict[str, int]:
    """The counts of a stream, with sums of those by reason."""
    found = stream_status(gateway, name).get("counts", {})
    return {
        key: sum(value.values()) if isinstance(value, dict) else value
        for key, value in found.items()
    }


def results(gateway: Gateway, name: str) -> int:
    """The results of a stream so far."""
    return counts(gateway, name).get("results", 0)


def wait_for_results(gateway: Gateway, name: str, number: int = 5) -> None:
    """Return when the stream has more results than now."""
    before = results(gateway, name)
    eventually(lambda: results(gateway, name) >= before + number)


def assert_counts_add_up(found: dict[str, int]) -> None:
    """Whether each frame has an outcome, apart from those in flight."""
    assert found["received"] == found["skipped"] + found["undecodable"] + found["frames"]
    in_flight = found["frames"] - found["results"] - found["drops"] - found["errors"]
    assert 0 <= in_flight <= 12
