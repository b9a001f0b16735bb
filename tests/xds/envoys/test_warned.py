"""The status warns of endpoints that no Envoy can use, and is silent while Envoy does not know."""

from sluice.config import GatewayConfig
from sluice.contract.names import cluster_name
from xds.envoys.fleet import EndpointState, EndpointView, EnvoyView
from xds.envoys.warned import warned_by_envoys

CONFIG = GatewayConfig.model_validate(
    {
        "models": {
            "m": {
                "versions": {
                    "v1": {
                        "endpoints": [{"address": "a.example:1"}, {"address": "127.0.0.1:2"}],
                        "health_check": {},
                    }
                }
            }
        }
    }
)


def envoy(first: EndpointState, second: EndpointState, error: str | None = None) -> EnvoyView:
    states = (("a.example:1", first), ("127.0.0.1:2", second))
    views = [
        EndpointView(cluster_name("m", "v1"), address, state, "why", 0.0)
        for address, state in states
    ]
    return EnvoyView("127.0.0.1:9901", "envoy", error, 0.0, views)


def warned(*envoys: EnvoyView) -> list[str]:
    found = warned_by_envoys(CONFIG, envoys)
    return [f"{each.code} {'.'.join(map(str, each.path))}" for each in found]


def test_a_health_check_that_no_endpoint_passes() -> None:
    failing = ["failing_health_check models.m.versions.v1.health_check"]
    assert warned(envoy("unhealthy", "unhealthy")) == failing
    assert warned(envoy("healthy", "healthy"), envoy("unhealthy", "unhealthy")) == failing
    assert warned(envoy("unhealthy", "healthy")) == []
    assert warned(envoy("unknown", "unhealthy")) == []
    assert warned(envoy("ejected", "ejected")) == []


def test_a_host_name_without_address() -> None:
    assert warned(envoy("unresolved", "healthy")) == [
        "unresolvable_host models.m.versions.v1.endpoints.0.address"
    ]


def test_an_envoy_that_does_not_answer_is_no_reason_for_a_warning() -> None:
    assert warned(envoy("unhealthy", "unhealthy", error="connection refused")) == []
    assert warned() == []
