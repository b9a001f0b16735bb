"""No endpoint is a server of the gateway itself, however its address is written."""

import pytest

from sluice.config import ConfigError
from sluice.config.load import loads

CONFIG = """\
envoy: {{admin: "127.0.0.1:9901"}}
control_plane: {{http: "{server}", allow_insecure: true}}
models: {{a: {{access: {{public: true}}, versions: {{v1: {{{endpoints}}}}}}}}}
"""


def check(server: str, endpoints: str) -> None:
    loads(CONFIG.format(server=server, endpoints=endpoints))


@pytest.mark.parametrize(
    ("server", "endpoint"),
    [
        ("127.0.0.1:8081", "127.0.0.1:8081"),
        ("127.0.0.1:8081", "localhost:8081"),
        ("127.0.0.1:8081", "a.localhost:8081"),
        ("127.0.0.1:8081", "0.0.0.0:8081"),
        ("127.0.0.1:8081", "[::ffff:127.0.0.1]:8081"),
        ("127.0.0.1:8081", "[::ffff:7f00:1]:9901"),
        ("0.0.0.0:8081", "127.0.0.2:8081"),
        ("[::1]:8081", "[0:0::1]:8081"),
        ("[::1]:8081", "[::]:8081"),
    ],
)
def test_an_endpoint_that_is_a_server_of_the_gateway_is_refused(server: str, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="a server of the gateway that clients must not reach"):
        check(server, f'endpoints: [{{address: "{endpoint}"}}]')


def test_a_name_of_this_machine_is_no_way_around() -> None:
    with pytest.raises(ConfigError, match=r"endpoints_from.dns.name: this is a server of the"):
        check("127.0.0.1:8081", "endpoints_from: {dns: {name: localhost, port: 9901}}")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8082", "127.0.0.2:8081", "10.0.0.1:8081"])
def test_other_addresses_are_allowed(endpoint: str) -> None:
    check("127.0.0.1:8081", f'endpoints: [{{address: "{endpoint}"}}]')


@pytest.mark.parametrize("address", ["127.0.0.1:8081", "0.0.0.0:18000"])
def test_the_config_source_of_istiod_has_an_address_of_its_own(address: str) -> None:
    mcp = f'{{address: "{address}", allow_insecure: true}}'
    with pytest.raises(ConfigError, match=r"istio.mcp.address: another server of this machine has"):
        loads(f"istio: {{hosts: [a.example], gateways: [g], mcp: {mcp}}}")
