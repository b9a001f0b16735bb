"""While a VirtualService changes, the mesh has the routes of both versions, in their order."""

from hypothesis import given
from hypothesis import strategies as st

from protos.istio_mcp_pb2 import Resource as Envelope
from protos.istio_networking_pb2 import (
    DestinationRule,
    HTTPMatchRequest,
    HTTPRoute,
    StringMatch,
    Subset,
    VirtualService,
)
from xds.istio.combined import combined_destination_rules, combined_virtual_services
from xds.istio.envelope import enveloped
from xds.istio.resources import IstioKind
from xds.protocol.snapshot import Resource

LAST = "refused"
ROUTES = st.lists(st.sampled_from("abcdef"), unique=True)


def route(name: str, label: str) -> HTTPRoute:
    """A route for the decision `name`; the last route matches every request."""
    found = HTTPRoute(name=f"{name} {label}")
    if name != LAST:
        headers = {"x-model-service": StringMatch(exact=name)}
        found.match.append(HTTPMatchRequest(headers=headers))
    return found


def service(names: list[str], label: str) -> Resource:
    routes = [route(name, label) for name in (*names, LAST)]
    spec = VirtualService(hosts=[label], http=routes)
    return enveloped("sluice/sluice", IstioKind.VIRTUAL_SERVICE.message_url, spec)


def names(resource: Resource) -> list[str]:
    envelope = Envelope.FromString(resource.body)
    assert envelope.metadata.name == "sluice/sluice"
    return [each.name for each in VirtualService.FromString(envelope.body.value).http]


@given(ROUTES, ROUTES)
def test_both_have_their_routes_and_the_first_one_decides(
    first: list[str], second: list[str]
) -> None:
    combined = names(combined_virtual_services(service(first, "1"), service(second, "2")))
    only_second = [name for name in second if name not in first]
    expected = {*(f"{name} 1" for name in first), *(f"{name} 2" for name in only_second)}
    assert set(combined[:-1]) == expected
    assert combined[-1] == f"{LAST} 1"
    for label, order in (("1", first), ("2", only_second)):
        assert [each[0] for each in combined[:-1] if each.endswith(label)] == order
    place = {each[0]: n for n, each in enumerate(combined[:-1])}
    for number, added in enumerate(second):
        if added in only_second:
            assert all(place[added] < place[each] for each in second[number + 1 :])


def test_an_added_route_is_before_the_routes_that_follow_it() -> None:
    combined = combined_virtual_services(service(["a", "c"], "1"), service(["b", "c"], "2"))
    assert names(combined) == ["a 1", "b 2", "c 1", f"{LAST} 1"]


@given(ROUTES)
def test_a_resource_without_additions_stays_as_it_is(routes: list[str]) -> None:
    first = service(["a", "b", "c", "d", "e", "f"], "1")
    assert combined_virtual_services(first, service(routes, "2")) is first


def rule(*subsets: str, host: str) -> Resource:
    spec = DestinationRule(host=host, subsets=[Subset(name=each) for each in subsets])
    return enveloped("sluice/service", IstioKind.DESTINATION_RULE.message_url, spec)


def test_a_service_has_the_subsets_of_both() -> None:
    combined = combined_destination_rules(rule("a", "b", host="1"), rule("b", "c", host="2"))
    spec = DestinationRule.FromString(Envelope.FromString(combined.body).body.value)
    assert (spec.host, [each.name for each in spec.subsets]) == ("1", ["a", "b", "c"])


def test_combined_resources_have_a_version_of_their_own() -> None:
    """istiod applies a resource only if its version differs."""
    first, second = service(["a"], "1"), service(["b"], "2")
    versions = {
        Envelope.FromString(each.body).metadata.version
        for each in (first, second, combined_virtual_services(first, second))
    }
    assert len(versions) == 3
