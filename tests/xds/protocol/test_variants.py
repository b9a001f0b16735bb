"""Every type behaves in the same way over all transport variants, in memory and over gRPC."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.xds.protocol.clients import Client, MemoryLink, Transport, World, world
from xds.protocol import delta, resource_types

TRANSPORTS = [
    Transport(each, incremental, aggregated)
    for each in resource_types.OWN
    for incremental in (False, True)
    for aggregated in (True, False)
    if aggregated or each.service
]
Behaviour = Callable[[World], Awaitable[None]]


def names(transport: Transport, *named: str) -> tuple[str, ...]:
    """What a client subscribes to that wants all these resources."""
    return () if transport.type.wildcard else named


async def subscribed(plane: World, *named: str) -> Client:
    """A client that has accepted the resources."""
    client = plane.client()
    await client.start(*named)
    await client.accept()
    await plane.settled()
    return client


async def a_client_gets_the_resources_that_it_subscribes_to(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, *names(plane.transport, "a", "b"))
    assert client.resources == {"a": b"a=1", "b": b"b=1"}
    assert (plane.node.id, plane.node.version, plane.pushes) == ("client", "v1", 1)


async def before_the_first_config_a_client_gets_no_response(plane: World) -> None:
    client = plane.client()
    await client.start(*names(plane.transport, "a"))
    await plane.settled()
    plane.publish("v1", a="1")
    assert (await client.accept()).resources == {"a": b"a=1"}
    assert plane.pushes == 1


async def a_client_by_name_gets_no_other_resource(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, "a")
    assert client.resources == {"a": b"a=1"}


async def an_asterisk_subscribes_to_every_resource(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, "*")
    assert client.resources == {"a": b"a=1", "b": b"b=1"}
    plane.publish("v2", a="1", b="1", c="1")
    await client.accept()
    assert client.resources == {"a": b"a=1", "b": b"b=1", "c": b"c=1"}


async def a_change_is_sent_once_and_equal_resources_are_not_sent(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, *names(plane.transport, "a", "b"))
    plane.publish("v2", a="1", b="1")
    await plane.settled()
    plane.publish("v3", a="2", b="1")
    response = await client.accept()
    await plane.settled()
    assert client.resources == {"a": b"a=2", "b": b"b=1"}
    assert plane.pushes == 2
    assert plane.node.version == "v3"
    if plane.transport.incremental:
        assert (response.resources, response.removed) == ({"a": b"a=2"}, set())


async def more_names_bring_their_resources(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, "a")
    await client.subscribe("b")
    response = await client.accept()
    await plane.settled()
    assert client.resources == {"a": b"a=1", "b": b"b=1"}
    assert plane.pushes == 2
    if plane.transport.incremental:
        assert set(response.resources) == {"b"}


async def a_resource_that_a_client_subscribes_to_again_is_sent_again(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, "a", "b")
    await client.subscribe("a")
    assert (await client.accept()).resources["a"] == b"a=1"


async def after_an_unsubscription_changes_are_not_sent(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, "a", "b")
    await client.unsubscribe("b")
    if not plane.transport.incremental:
        # The request looks like that of an Envoy that warms a cluster again.
        await client.accept()
    subscription = plane.node.stream.types[plane.transport.type].subscription
    await plane.until(lambda: not subscription.includes("b"))
    await plane.settled()
    pushes = plane.pushes
    plane.publish("v2", a="2", b="2")
    assert (await client.accept()).resources == {"a": b"a=2"}
    await plane.settled()
    assert plane.pushes == pushes + 1


async def a_removed_resource_is_gone_and_may_come_back(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, *names(plane.transport, "a", "b"))
    plane.publish("v2", a="1")
    response = await client.accept()
    await plane.settled()
    assert client.resources == {"a": b"a=1"}
    if plane.transport.incremental:
        assert (response.resources, response.removed) == ({}, {"b"})
    plane.publish("v3", a="1", b="1")
    await client.accept()
    assert client.resources == {"a": b"a=1", "b": b"b=1"}


async def a_resource_that_does_not_exist_arrives_when_it_does(plane: World) -> None:
    plane.publish("v1", a="1")
    client = plane.client()
    await client.start("a", "b")
    response = await client.accept()
    await plane.settled()
    assert client.resources == {"a": b"a=1"}
    if plane.transport.incremental:
        # An Envoy that asks for one cluster waits for it (tests/xds/protocol/test_awaited.py).
        waits = plane.transport.type is resource_types.CLUSTER and not plane.transport.aggregated
        assert response.removed == (set() if waits else {"b"})
    plane.publish("v2", a="1", b="1")
    await client.accept()
    assert client.resources == {"a": b"a=1", "b": b"b=1"}
    assert plane.pushes == 2


async def a_rejected_version_is_not_sent_again_and_the_next_one_is_complete(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = await subscribed(plane, *names(plane.transport, "a", "b"))
    good = plane.nodes.snapshot
    plane.publish("v2", a="2", b="1")
    await client.nack(await client.receive(), "a is bad")
    await plane.until(lambda: plane.nodes.nacks[plane.transport.type] == 1)
    nack = plane.nodes.nack()
    assert nack is not None
    assert (nack.reason, nack.type) == ("a is bad", plane.transport.type)
    assert plane.node.version == "v1"
    assert not plane.nodes.all_in_sync([plane.transport.type])
    plane.nodes.publish(good)
    assert (await client.accept()).resources["a"] == b"a=1"
    await plane.settled()
    assert (plane.pushes, plane.nodes.nack()) == (3, None)


async def an_ack_with_an_old_nonce_counts_for_nothing(plane: World) -> None:
    plane.publish("v1", a="1")
    client = await subscribed(plane, *names(plane.transport, "a"))
    plane.publish("v2", a="2")
    first = await client.accept()
    await plane.settled()
    plane.publish("v3", a="3")
    second = await client.receive()
    await client.ack(first)
    await client.nack(second)
    await plane.until(lambda: plane.nodes.nacks[plane.transport.type] == 1)
    assert plane.nodes.acks[plane.transport.type] == 2
    assert plane.node.version == "v2"


async def while_a_response_is_outstanding_nothing_else_is_sent(plane: World) -> None:
    plane.publish("v1", a="1", b="1")
    client = plane.client()
    await client.start(*names(plane.transport, "a", "b"))
    first = await client.receive()
    for number in range(2, 6):
        plane.publish(f"v{number}", a=str(number), b="1")
    await client.ack(first)
    response = await client.accept()
    await plane.settled()
    assert response.resources["a"] == b"a=5"
    assert plane.pushes == 2


async def a_client_that_reconnects_has_everything_afterwards(plane: World) -> None:
    """With the incremental variant it gets only what it does not have."""
    plane.publish("v1", a="1", b="1", c="1")
    wanted = names(plane.transport, "a", "b", "c")
    client = await subscribed(plane, *wanted)
    await client.link.close()
    await plane.until(lambda: not list(plane.nodes))
    plane.publish("v2", a="2", b="1")
    again = plane.client()
    again.resources = dict(client.resources)
    await again.start(*wanted, versions=client.versions)
    response = await again.accept()
    if plane.transport.incremental:
        # Clusters that this stream has not sent may wait for any endpoints.
        all_again = plane.transport.aggregated and plane.transport.type.warms_referrer
        assert set(response.resources) == ({"a", "b"} if all_again else {"a"})
        if plane.transport.type.make_before_break and not all_again:
            assert (response.removed, again.resources["c"]) == (set(), b"c=1")
            response = await again.accept()
            assert response.resources == {}
        assert response.removed == {"c"}
    await plane.settled()
    assert again.resources == {"a": b"a=2", "b": b"b=1"}


BEHAVIOURS: list[Behaviour] = [
    a_client_gets_the_resources_that_it_subscribes_to,
    before_the_first_config_a_client_gets_no_response,
    a_client_by_name_gets_no_other_resource,
    an_asterisk_subscribes_to_every_resource,
    a_change_is_sent_once_and_equal_resources_are_not_sent,
    more_names_bring_their_resources,
    a_resource_that_a_client_subscribes_to_again_is_sent_again,
    after_an_unsubscription_changes_are_not_sent,
    a_removed_resource_is_gone_and_may_come_back,
    a_resource_that_does_not_exist_arrives_when_it_does,
    a_rejected_version_is_not_sent_again_and_the_next_one_is_complete,
    an_ack_with_an_old_nonce_counts_for_nothing,
    while_a_response_is_outstanding_nothing_else_is_sent,
    a_client_that_reconnects_has_everything_afterwards,
]


@pytest.fixture(autouse=True)
def keep_only_until_the_ack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client keeps what is gone until it has accepted everything else, and no longer."""
    monkeypatch.setattr(delta, "KEEP", 0.0)


def run(behaviour: Behaviour, transport: Transport, directory: Path | None) -> None:
    async def main() -> None:
        async with world(transport, directory) as plane:
            await behaviour(plane)

    asyncio.run(main())


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda each: each.__name__)
def test_in_memory(behaviour: Behaviour, transport: Transport) -> None:
    run(behaviour, transport, None)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda each: each.__name__)
def test_over_grpc(behaviour: Behaviour, transport: Transport, tmp_path: Path) -> None:
    run(behaviour, transport, tmp_path)


@pytest.mark.parametrize("transport", TRANSPORTS, ids=str)
def test_resources_with_a_ttl_are_sent_again_before_it_ends(transport: Transport) -> None:
    async def main() -> None:
        async with world(transport, None) as plane:
            plane.publish("v1", ttl=30.0, a="1")
            client = await subscribed(plane, *names(transport, "a"))
            assert isinstance(client.link, MemoryLink)
            for clock in (10.0, 20.0):
                client.link.clock = clock - 0.1
                await plane.settled()
                client.link.clock = clock
                assert (await client.accept()).resources == {"a": b"a=1"}

    asyncio.run(main())
