"""Addresses on which Envoy listens. The admin interface is local unless the config allows more."""

import pytest
from pydantic import ValidationError

from sluice.config import GatewayConfig


@pytest.mark.parametrize("admin", ["127.0.0.1:9901", "127.5.0.1:1", "[::1]:9901"])
def test_a_loopback_address_is_valid(admin: str) -> None:
    assert GatewayConfig.model_validate({"envoy": {"admin": admin}}).envoy.admin == admin


@pytest.mark.parametrize("admin", ["0.0.0.0:9901", "[::]:9901", "10.0.0.1:9901"])
def test_another_address_must_be_allowed(admin: str) -> None:
    with pytest.raises(ValidationError, match="allow_remote_admin: true"):
        GatewayConfig.model_validate({"envoy": {"admin": admin}})
    allowed = {"envoy": {"admin": admin, "allow_remote_admin": True}}
    assert GatewayConfig.model_validate(allowed).envoy.admin == admin


@pytest.mark.parametrize("host", ["localhost", "host", "127.1", "0127.0.0.1", "999.1.1.1", "1"])
@pytest.mark.parametrize("key", ["listener.address", "envoy.admin"])
def test_envoy_resolves_no_name_of_its_own_address(key: str, host: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ValidationError, match="write an IP address and a port"):
        GatewayConfig.model_validate({section: {name: f"{host}:9901"}})


@pytest.mark.parametrize("address", ["[::1]:1", "[fe80::1%eth0]:1", "0.0.0.0:65535"])
def test_an_ip_address_is_valid(address: str) -> None:
    config = GatewayConfig.model_validate({"listener": {"address": address}})
    assert config.listener.address == address


def test_the_minimum_of_a_drain_is_within_its_timeout() -> None:
    drain = {"minimum": "10s", "timeout": "10s"}
    assert GatewayConfig.model_validate({"envoy": {"drain": drain}}).envoy.drain.minimum == 10
    with pytest.raises(ValidationError, match=r"at most envoy\.drain\.timeout"):
        GatewayConfig.model_validate({"envoy": {"drain": drain | {"minimum": "11s"}}})
