"""The endpoints that sources find belong to the versions that name them, and outlive errors."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from sluice.config import GatewayConfig
from sluice.config.endpoints import Endpoint, EndpointsFrom
from xds.resources.found_endpoints import with_endpoints
from xds.sources.endpoints.discovered import DiscoveredEndpoints, endpoints_of
from xds.sources.endpoints.source import Found, NoEndpoints, Report

ONE, TWO = EndpointsFrom(file="one"), EndpointsFrom(file="two")
ENDPOINTS = (Endpoint(address="10.0.0.1:80"),)


class Source:
    """Finds what `found` says."""

    def __init__(self) -> None:
        self.found: dict[EndpointsFrom, Found] = {}
        self.followed: set[EndpointsFrom] = set()
        self.asked: list[EndpointsFrom] = []
        self.report: Report = lambda _, __: None

    def handles(self, origin: EndpointsFrom) -> bool:
        return origin.file is not None

    def find(self, origin: EndpointsFrom) -> Found:
        self.asked.append(origin)
        return self.found.get(origin, NoEndpoints("no such file"))

    def follow(self, origins: Collection[EndpointsFrom]) -> None:
        self.followed = set(origins)

    async def run(self, report: Report) -> None:
        self.report = report


def config(**origins: EndpointsFrom | None) -> GatewayConfig:
    listed = {"endpoints": [{"address": "10.0.0.9:80"}]}
    versions: dict[str, Any] = {
        name: listed if origin is None else {"endpoints_from": origin.model_dump()}
        for name, origin in origins.items()
    }
    model = {"versions": versions, "stable": next(iter(versions))}
    return GatewayConfig.model_validate({"models": {"m": model, "other": model}})


@pytest.fixture
def discovered() -> tuple[DiscoveredEndpoints, Source]:
    source = Source()
    found = DiscoveredEndpoints([source])
    asyncio.run(found.run())
    return found, source


def test_a_check_that_may_not_ask_has_only_known_endpoints(
    discovered: tuple[DiscoveredEndpoints, Source],
) -> None:
    found, source = discovered
    source.found = {ONE: ENDPOINTS, TWO: ENDPOINTS}
    found.follow(asyncio.run(found.find(config(v1=ONE))))
    endpoints = endpoints_of(asyncio.run(found.find(config(v1=ONE, v2=TWO), ask=False)))
    assert endpoints == {ONE: ENDPOINTS, TWO: ()}
    assert source.asked == [ONE]


def test_versions_have_the_endpoints_of_their_origin(
    discovered: tuple[DiscoveredEndpoints, Source],
) -> None:
    found, source = discovered
    source.found = {ONE: ENDPOINTS, TWO: ()}
    named = config(v1=ONE, v2=TWO, v3=None, v4=ONE)
    endpoints = endpoints_of(asyncio.run(found.find(named)))
    merged = with_endpoints(named, endpoints).models["m"].versions
    assert [merged[key].endpoints for key in ("v1", "v2", "v4")] == [ENDPOINTS, (), ENDPOINTS]
    assert merged["v3"] is named.models["m"].versions["v3"]
    assert sorted(source.asked, key=str) == [ONE, TWO]


def test_a_config_without_origins_stays_as_it_is(
    discovered: tuple[DiscoveredEndpoints, Source],
) -> None:
    found, _ = discovered
    listed = config(v1=None)
    assert with_endpoints(listed, endpoints_of(asyncio.run(found.find(listed)))) is listed


def test_a_mere_candidate_is_not_followed(discovered: tuple[DiscoveredEndpoints, Source]) -> None:
    found, source = discovered
    asyncio.run(found.find(config(v1=ONE)))
    assert source.followed == set()
    assert found.errors == {}


def test_an_error_leaves_the_endpoints_as_they_were(
    discovered: tuple[DiscoveredEndpoints, Source],
) -> None:
    found, source = discovered
    source.found = {ONE: ENDPOINTS}

    def endpoints() -> object:
        return endpoints_of(asyncio.run(found.find(config(v1=ONE))))

    found.follow(asyncio.run(found.find(config(v1=ONE))))
    source.report(ONE, NoEndpoints("x\ny"))
    assert (endpoints(), found.errors) == ({ONE: ENDPOINTS}, {ONE: r"x\ny"})
    source.report(ONE, ENDPOINTS)
    assert found.errors == {}
    assert not found.changed.is_set()
    source.report(ONE, ())
    assert found.changed.is_set()
    assert endpoints() == {ONE: ()}


def test_an_origin_that_no_config_names_is_forgotten(
    discovered: tuple[DiscoveredEndpoints, Source],
) -> None:
    found, source = discovered
    source.found = {ONE: ENDPOINTS, TWO: ENDPOINTS}
    for each in (config(v1=ONE), config(v1=TWO)):
        found.follow(asyncio.run(found.find(each)))
    assert source.followed == {ONE, TWO}
    found.follow_only(config(v1=TWO))
    assert source.followed == {TWO}
    source.report(ONE, NoEndpoints("gone"))
    assert found.errors == {}
