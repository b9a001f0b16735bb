"""A filter that verifies tokens reaches every node before its config is in force.

Which tokens a filter and routes of different configs admit, test_native_mixes.py shows.
"""

import pytest
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import JwtProvider

from tests.xds.rollout.nodes_in_memory import Client, callout, native_envoy
from tests.xds.rollout.test_rollout import run, start_fleet
from tests.xds.rollout.token_filters import provider, providers_of, with_filter
from xds.protocol import resource_types
from xds.protocol.snapshot import Resource, ResourceSet, Snapshot, Variant

EXTENSION, ROUTE = resource_types.EXTENSION, resource_types.ROUTE
LISTENER = resource_types.LISTENER

CONFIGS: dict[str, tuple[JwtProvider, ...]] = {
    "one": (provider("kept", "k"), provider("changed", "a"), provider("removed", "r")),
    "two": (provider("kept", "k"), provider("changed", "b")),
    "three": (provider("kept", "k"), provider("changed", "a"), provider("added", "n")),
}
"""The providers of each config, which its routes may use."""


def published(config: str, providers: tuple[JwtProvider, ...] | None = None) -> Snapshot:
    """The snapshot of a config."""
    filters = with_filter(config, *(CONFIGS[config] if providers is None else providers))
    return Snapshot.of(
        {
            resource_types.CLUSTER: {"a": Resource.of(b"a")},
            LISTENER: {"gateway": Resource.of(b"listener")},
            EXTENSION: filters.types[EXTENSION].resources,
            ROUTE: {"gateway": Resource.of(config.encode())},
            resource_types.POLICY: {config: Resource.of(b"policy")},
            resource_types.RATE_LIMIT: {config: Resource.of(b"limits")},
        },
        config,
    )


def states(client: Client) -> list[tuple[str, set[str]]]:
    """The routes and the issuers that a node had, one after the other."""
    history: list[tuple[str, set[str]]] = []
    routes, providers = "", list[JwtProvider]()
    for response in client.received:
        if response.type is EXTENSION:
            providers = list(providers_in(response.resources).values())
        elif response.type is ROUTE:
            routes = response.resources["gateway"].body.decode()
        else:
            continue
        if routes:
            history.append((routes, {each.issuer for each in providers}))
    return history


def providers_in(resources: object) -> dict[str, JwtProvider]:
    snapshot = Snapshot.of({EXTENSION: resources}, "v")  # type: ignore[dict-item]
    return providers_of(snapshot)


def test_a_change_of_routes_and_keys_reaches_nodes() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node = native_envoy(fleet.nodes)
            fleet.clients = [node, callout(fleet.nodes)]
            for config in ("one", "two", "three", "one"):
                await fleet.roll_out(published(config))
                assert states(node)[-1] == (config, {each.issuer for each in CONFIGS[config]})

    run(test)


def test_restrictions_are_in_force_on_every_node_before_the_config_is() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            slow, worker = native_envoy(fleet.nodes, "slow"), callout(fleet.nodes)
            fleet.clients = [slow, native_envoy(fleet.nodes), worker]
            await fleet.roll_out(published("one"))
            slow.automatic = False
            fleet.submit(published("two"))
            await fleet.until_idle()
            assert [response.type for response in slow.waiting] == [EXTENSION, ROUTE]
            assert [set(each.resources) for each in worker.received] == [{"one"}, {"two"}]
            assert (fleet.rollout.version, fleet.rollout.step) == ("one", "switch")
            slow.acknowledge(slow.waiting[0])
            await fleet.until_idle()
            assert fleet.rollout.version == "one"
            slow.acknowledge(slow.waiting[1])
            await fleet.until_idle()
            assert fleet.rollout.version == "two"
            assert states(slow)[-1] == ("two", {"kept", "changed"})

    run(test)


def test_a_rejected_change_is_taken_back() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node, worker = native_envoy(fleet.nodes), callout(fleet.nodes)
            other = Client(fleet.nodes, "other", (resource_types.RATE_LIMIT,))
            fleet.clients = [node, worker, other]
            await fleet.roll_out(published("one"))
            other.rejects = "two"
            await fleet.roll_out(published("two"))
            assert ("two", {"kept", "changed"}) in states(node)
            assert states(node)[-1] == ("one", {"kept", "changed", "removed"})
            assert [set(each.resources) for each in worker.received] == [{"one"}, {"two"}, {"one"}]

    run(test)


def test_no_node_gets_routes_of_a_policy_that_a_worker_rejects() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node, worker = native_envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [node, worker]
            await fleet.roll_out(published("one"))
            worker.rejects = "two"
            await fleet.roll_out(published("two"))
            assert {routes for routes, _ in states(node)} == {"one"}
            assert states(node)[-1] == ("one", {"kept", "changed", "removed"})

    run(test)


def test_a_change_may_replace_another_one() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node, slow = native_envoy(fleet.nodes), native_envoy(fleet.nodes, "slow")
            fleet.clients = [node, slow]
            await fleet.roll_out(published("one"))
            slow.automatic = False
            for config in ("two", "three"):
                fleet.submit(published(config))
                await fleet.until_idle()
            slow.automatic = True
            for response in slow.waiting:
                slow.acknowledge(response)
            await fleet.until_idle()
            for each in (node, slow):
                assert states(each)[-1] == ("three", {"kept", "changed", "added"})

    run(test)


def test_a_renewal_that_is_rejected_leaves_only_the_keys_that_both_have() -> None:
    """The rejected key sets may have revoked the others."""

    async def test() -> None:
        async with start_fleet() as fleet:
            node, worker = native_envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [node, worker]
            await fleet.roll_out(published("one"))
            worker.rejects = "renewed"
            policy = {"renewed": Resource.of(b"policy")}
            renewed = published("one", CONFIGS["one"][:1]).with_types(
                {resource_types.POLICY: ResourceSet.of(policy, "one")}
            )
            fleet.submit(renewed, renewal=True)
            await fleet.until_idle()
            assert fleet.rollout.result is not None
            assert fleet.rollout.result.nack is not None
            assert states(node)[-1] == ("one", {"kept"})
            assert fleet.rollout.in_force is not None
            assert set(providers_of(fleet.rollout.in_force.snapshot)) == {"kept"}

    run(test)


def test_a_renewal_leaves_the_result_of_the_latest_config() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node, worker = native_envoy(fleet.nodes), callout(fleet.nodes)
            fleet.clients = [node, worker]
            await fleet.roll_out(published("one"))
            worker.rejects = "two"
            await fleet.roll_out(published("two"))
            rejected = fleet.rollout.result
            fleet.submit(published("one", CONFIGS["one"][:1]), renewal=True)
            await fleet.until_idle()
            assert states(node)[-1] == ("one", {"kept"})
            assert fleet.rollout.result is rejected
            assert fleet.rollout.version == "one"

    run(test)


def test_a_rotated_key_reaches_nodes_in_one_push() -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node = native_envoy(fleet.nodes)
            fleet.clients = [node]
            await fleet.roll_out(published("one"))
            before = len(node.received)
            fleet.submit(published("one", CONFIGS["one"][:2]))
            await fleet.until_idle()
            (rotated,) = node.received[before:]
            assert set(providers_in(rotated.resources)) == {"kept", "changed"}
            assert fleet.rollout.in_sync

    run(test)


@pytest.mark.parametrize("variant", ["", "old"])
def test_the_age_of_one_node_refuses_no_config_of_the_others(variant: str) -> None:
    async def test() -> None:
        async with start_fleet() as fleet:
            node, old = native_envoy(fleet.nodes), native_envoy(fleet.nodes, "old")
            old.node.variant, old.rejects = "", "new feature"
            fleet.clients = [node, old]
            snapshot = published("one")
            listeners = dict.fromkeys(("gateway", "new feature"), Resource.of(b"listener"))
            types = {**snapshot.types, LISTENER: ResourceSet.of(listeners, "one")}
            variants = {"old": Variant(lambda: snapshot)}
            await fleet.roll_out(
                Snapshot(types, "one", variants, lambda node: variant if node.id == "old" else "")
            )
            assert (fleet.rollout.version == "one") is (variant == "old")

    run(test)
