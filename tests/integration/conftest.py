"""Fixtures that several test modules share."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway import Config, Gateway, base_config, running
from tests.integration.raw_server import RawServer, raw_server


@pytest.fixture(scope="module", params=["auto", "callout"])
def placement(request: pytest.FixtureRequest) -> str:
    """The setting `placement` of a gateway. A test whose gateway has it runs with each value."""
    value: str = request.param
    return value


def decision_config(placement: str = "auto") -> Config:
    """A public model with canaries, one with a claim rule, and one with access rules."""
    config = base_config(placement)
    echo = config["models"]["echo"]
    versions = echo["versions"]
    config["models"] = {
        "echo": {
            **echo,
            "access": {"public": True},
            "bucket": {"header": "x-user-id"},
            "canaries": [
                {"version": "v2", "percent": 10, "model_types": ["image-classification"]},
            ],
        },
        "private": {
            "stable": "v1",
            "versions": versions,
            "paths": ["/v2/models/echo/private"],
            "claim_rules": [{"claim": "group", "value": "vip", "version": "v2"}],
        },
        "guarded": {
            "stable": "v1",
            "versions": versions,
            "paths": ["/v2/models/echo/guarded"],
            "access": {"allow": [{"groups": ["staff"]}, {"claims": {"tier": "gold"}}]},
        },
    }
    return config


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A gateway that tests must not edit or damage."""
    with running(decision_config()) as started:
        yield started


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
def client(request: pytest.FixtureRequest, gateway: Gateway) -> Iterator[httpx.Client]:
    """A client of each HTTP version. The gateway may be one of the test module."""
    http2 = request.param == "HTTP/2"
    with gateway.client(http1=not http2, http2=http2) as opened:
        yield opened


@pytest.fixture(scope="module")
def directory(placement: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the access log of a test module's gateway, one for each placement."""
    return tmp_path_factory.mktemp(f"log-{placement}")


@pytest.fixture(scope="module")
def server() -> Iterator[RawServer]:
    """A model server that responds what a test says."""
    with raw_server() as server:
        yield server
