"""The gateway that several test modules share."""

from collections.abc import Iterator

import pytest

from tests.integration.gateway import Config, Gateway, base_config, running


def decision_config() -> Config:
    """A public model with canaries, one with a claim rule, and one with access rules."""
    config = base_config()
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
