"""What operators see of real requests through a real Envoy: the log, metrics, traces, profiles."""

import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.gateway import Config, Gateway, base_config, bearer, eventually, running
from tests.integration.load import Load

PATH = "/v2/models/echo/x"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("telemetry")


@pytest.fixture(scope="module")
def own(directory: Path) -> Iterator[Gateway]:
    """A gateway that logs to files."""
    config = base_config()
    config["telemetry"]["access_log"] = {"output": str(directory / "access.log")}
    with running(config) as gateway:
        yield gateway


def lines(directory: Path) -> list[dict[str, Any]]:
    """What all workers have logged."""
    return [
        json.loads(line)
        for file in sorted(directory.glob("access-*.log"))
        for line in file.read_text().splitlines()
    ]


def logged(directory: Path, **wanted: object) -> dict[str, Any]:
    """The one line with these fields, once it is there."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [
            line for line in lines(directory)
            if all(line[key] == value for key, value in wanted.items())
        ]  # fmt: skip
        return bool(found)

    eventually(there)
    assert len(found) == 1, found
    return found[0]


def test_a_request_is_logged_with_what_was_decided(own: Gateway, directory: Path) -> None:
    with own.client() as client:
        answer = client.post(
            f"{PATH}?secret=1", json={}, headers={**bearer("alice"), "user-agent": "admitted"}
        )
    line = logged(directory, user_agent="admitted")
    assert line["time"].endswith("Z")
    assert line["path"] == PATH
    assert answer.status_code == line["status"] == 200
