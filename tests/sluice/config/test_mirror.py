"""A mirror is a version that can be compared with the stable one, and copies have a way to it."""

from typing import Any

import pytest
from pydantic import ValidationError

from sluice.config import GatewayConfig


def config(copies: str | None = "unix:/run/copies", **mirror: object) -> GatewayConfig:
    endpoints = {"endpoints": [{"address": "127.0.0.1:9"}]}
    versions: dict[str, Any] = {"v1": endpoints, "v2": endpoints}
    versions["g"] = {**endpoints, "protocol": "grpc"}
    model = {"stable": "v1", "versions": versions, "mirror": {"version": "v2", **mirror}}
    return GatewayConfig.model_validate({"callout": {"copies": copies}, "models": {"m": model}})


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        ({"version": "v1"}, "'v1' is the stable version: write another version"),
        ({"version": "v9"}, "the model has no version 'v9'; write v1, v2 or g"),
        ({"version": "g"}, "'g' speaks grpc, and the stable version http: a copy has"),
        ({"percent": 101}, "less than or equal to 100"),
        ({"max_body": "17MiB"}, "less than or equal to 16777216"),
        ({"max_concurrent": 0}, "greater than or equal to 1"),
        ({"copies": None}, "copies need a socket: write callout.copies, such as unix:/run/"),
        ({"copies": "127.0.0.1:9"}, "write unix: and the absolute path of a socket"),
        ({"copies": "unix:copies"}, "write unix: and the absolute path of a socket"),
    ],
)
def test_a_mirror_that_cannot_work_is_refused(mirror: dict[str, Any], message: str) -> None:
    assert config()
    with pytest.raises(ValidationError) as raised:
        config(**mirror)
    assert message in str(raised.value)
