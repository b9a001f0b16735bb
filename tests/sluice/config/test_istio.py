"""The section `istio`: bad combinations are refused, with what to write."""

import pytest
from pydantic import ValidationError

from sluice.config.gateway import GatewayConfig
from sluice.config.istio import Istio

VERSION = {"endpoints": [{"address": "m.example.com:443"}]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gateways": []}, "write gateways, or set mesh"),
        ({"hosts": []}, "at least 1 item"),
        ({"hosts": ["a.example", "a.example"]}, "'a.example' is listed twice"),
        ({"hosts": ["https://a.example"]}, "write a host name such as models.example.com"),
        ({"hosts": ["*"], "mesh": "callout"}, "callers inside the mesh need a name"),
        ({"gateways": ["a/b/c"]}, "write the name of a Gateway"),
        ({"callout": "10.0.0.1:18100"}, "not an IP address"),
        ({"workloads": [{"labels": {}}]}, "at least 1 item"),
        ({"workloads": [{}, {"labels": {"istio": "ingressgateway"}}]}, "the same pods are listed"),
        ({"workloads": [{"kind": "sidecar"}]}, "only with mesh: callout"),
        ({"service_ports": {"resnet": 80}}, "write the namespace and the name of a service"),
    ],
)
def test_a_section_that_cannot_work_is_refused(settings: object, message: str) -> None:
    assert isinstance(settings, dict)
    with pytest.raises(ValidationError, match=message):
        Istio.model_validate({"hosts": ["models.example.com"], "gateways": ["gw"], **settings})


def test_the_domain_of_the_rate_limit_service_exists() -> None:
    domain = {"descriptors": [{"key": "model", "rate_limit": {"requests_per_unit": 1}}]}
    config = {
        "limits": {"domains": {"mesh": domain}},
        "istio": {"hosts": ["a.example"], "gateways": ["gw"], "rate_limit_domain": "mash"},
    }
    with pytest.raises(ValidationError, match="has no mash; did you mean mesh"):
        GatewayConfig.model_validate(config)


def test_secret_headers_cannot_be_resources_of_a_mesh() -> None:
    version = {**VERSION, "headers_from_secret": {"authorization": {"env": "TOKEN"}}}
    models = {"m": {"versions": {"v1": version}}}
    section = {"hosts": ["models.example.com"], "gateways": ["gw"]}
    GatewayConfig.model_validate({"models": models})
    with pytest.raises(ValidationError, match="cannot have these headers: remove them"):
        GatewayConfig.model_validate({"models": models, "istio": section})
