"""Envoy with the filter of one config and the routes of another, which it may have at any moment.

Each such state is held here. In it, the callout decides about the tokens that the filters of the
two configs read in different ways, and no claim reaches a model server.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.integration.equality.compare import endpoint
from tests.integration.equality.gateway import EqualityGateway, equality_gateway, is_native
from tests.integration.equality.hostile_config import NAME, credential, post
from tests.integration.equality.request import Request, Response
from tests.integration.equality.tokens import Credential, SigningKey, key_set, signing_key
from xds.protocol.resource_types import EXTENSION

Config = dict[str, Any]

KEY, OTHER_KEY = (signing_key("EdDSA", number) for number in range(2))
OTHER = "https://other.test"
PROBE = post("probe")


def issuer(name: str, *keys: SigningKey, **settings: object) -> Config:
    return {
        "issuer": name,
        "audiences": ["api"],
        "algorithms": ["EdDSA"],
        "jwks": key_set(*keys),
        "leeway": 30,
        **settings,
    }


def config(port: int, *issuers: Config, **model: object) -> Config:
    """A model with a rule for groups, and one that tells that Envoy has the config."""
    served = {v: {"endpoints": [{"address": endpoint("m", v, port)}]} for v in ("v1", "v2")}
    probe = {"v1": {"endpoints": [{"address": endpoint("probe", "v1", port)}]}}
    staff = {"allow": [{"groups": ["staff"]}]}
    return {
        "auth": {"issuers": [*issuers, issuer(OTHER, OTHER_KEY)]},
        "models": {
            "m": {"stable": "v1", "versions": served, "access": staff, **model},
            "probe": {"versions": probe, "access": {"public": True}},
        },
    }


GOLD = {"claim": "tier", "value": "gold", "version": "v2"}
GROUPS = {"access": {"allow": [{"groups": ["staff"]}, {"groups": ["guests"]}]}}


def changes(port: int) -> Iterator[tuple[str, Config, Config]]:
    """Pairs of configs: what changes, and the config before and after it."""
    before = config(port, issuer(NAME, KEY))
    yield "another key", before, config(port, issuer(NAME, OTHER_KEY))
    yield "one more key", before, config(port, issuer(NAME, KEY, OTHER_KEY))
    yield "no key", before, config(port, issuer(NAME))
    yield "no issuer", before, config(port)
    yield "leeway", before, config(port, issuer(NAME, KEY, leeway=60))
    yield "claim of groups", before, config(port, issuer(NAME, KEY, group_claim="roles"))
    yield "claim rule", before, config(port, issuer(NAME, KEY), claim_rules=[GOLD])
    yield "keys and groups", before, config(port, issuer(NAME, OTHER_KEY), **GROUPS)


def tokens() -> dict[str, Credential]:
    """A token of each kind. The last one is within the leeway of one config only."""
    return {
        "staff": credential(group="staff"),
        "guests": credential(group="guests"),
        "gold": credential(group="staff", tier="gold"),
        "roles": credential(roles=["staff"]),
        "other key": replace(credential(group="staff"), key=OTHER_KEY),
        "other key, guests": replace(credential(group="guests"), key=OTHER_KEY),
        "late": credential(group="staff", exp=int(time.time()) - 45),
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a request. `answer`: the status and the address of the model server."""

    native: bool
    answer: tuple[int, bytes]
    leaked: bool


States = dict[tuple[str, str], dict[str, Seen]]
"""What became of a request with each token, by change and by state."""


@pytest.fixture(scope="module")
def states() -> States:
    return asyncio.run(_states())


async def _states() -> States:
    found: States = {}
    async with equality_gateway() as gateway:
        for name, before, after in changes(gateway.model_port):
            # The routes of a policy are on before the same routes get another filter.
            for state, routes, filtered, probe in (
                ("before", before, before, _other_issuer()),
                ("old routes", before, after, PROBE),
                ("after", after, after, _other_issuer()),
                ("new routes", after, before, PROBE),
            ):
                filters = gateway.resources(filtered, EXTENSION)
                await gateway.apply(
                    routes, probe, lambda types, f=filters: {**types, EXTENSION: f}, native=True
                )
                found[name, state] = await _send(gateway)
    return found


def _other_issuer() -> Request:
    """A request for the model that every config admits, by an issuer that no change concerns."""
    other = replace(credential(iss=OTHER, group="staff"), key=OTHER_KEY)
    return post("m").with_credential(other)


async def _send(gateway: EqualityGateway) -> dict[str, Seen]:
    requests: dict[Request, str] = {}
    for name, each in tokens().items():
        requests[post("m").with_credential(each)] = name
    found: dict[str, Seen] = {}

    def on_response(request: Request, response: Response) -> None:
        address = response.body.partition(b"\n")[0] if response.status == 200 else b""
        leaked = b"x-sluice-token" in response.body
        answer = response.status, address
        found[requests[request]] = Seen(is_native(response), answer, leaked)

    await gateway.client.send(requests, on_response)
    return found


CHANGES = [name for name, _, _ in changes(0)]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize(("mixed", "policy"), [("old routes", "before"), ("new routes", "after")])
def test_the_filter_of_another_config_changes_no_answer(
    states: States, name: str, mixed: str, policy: str
) -> None:
    found, expected = states[name, mixed], states[name, policy]
    assert {token: each.answer for token, each in found.items()} == {
        token: each.answer for token, each in expected.items()
    }


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("state", ["before", "old routes", "new routes", "after"])
def test_no_claim_reaches_a_model_server(states: States, name: str, state: str) -> None:
    assert not any(each.leaked for each in states[name, state].values())


@pytest.mark.parametrize("name", CHANGES)
def test_envoy_decides_alone_with_a_filter_and_routes_of_one_config(
    states: States, name: str
) -> None:
    assert states[name, "before"]["staff"].native
    without = ("another key", "no key", "no issuer", "claim of groups", "keys and groups")
    assert states[name, "after"]["staff"].native is (name not in without)
    for mixed in ("old routes", "new routes"):
        assert not any(each.native for each in states[name, mixed].values())
