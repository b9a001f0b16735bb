"""Envoy's admin interface is not reachable from other machines unless the config allows it."""

import pytest
from pydantic import ValidationError

from sluice.config import GatewayConfig


@pytest.mark.parametrize("admin", ["127.0.0.1:9901", "127.5.0.1:1", "[::1]:9901", "localhost:1"])
def test_a_loopback_address_is_valid(admin: str) -> None:
    assert GatewayConfig.model_validate({"envoy": {"admin": admin}}).envoy.admin == admin


@pytest.mark.parametrize("admin", ["0.0.0.0:9901", "[::]:9901", "10.0.0.1:9901", "host:9901"])
def test_another_address_must_be_allowed(admin: str) -> None:
    with pytest.raises(ValidationError, match="allow_remote_admin: true"):
        GatewayConfig.model_validate({"envoy": {"admin": admin}})
    allowed = {"envoy": {"admin": admin, "allow_remote_admin": True}}
    assert GatewayConfig.model_validate(allowed).envoy.admin == admin
