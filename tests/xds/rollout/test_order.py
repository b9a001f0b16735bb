"""In every step of a rollout, each cluster exists that routes or the policy refer to."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from protos.base_pb2 import Node as NodeMessage
from tests.xds.rollout.nodes_in_memory import native_envoy
from xds.protocol import resource_types
from xds.protocol.nodes import Nodes
from xds.protocol.snapshot import EMPTY, Resource, ResourceSet, Snapshot, Variant
from xds.rollout.order import steps

NAMES = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([b"1", b"2"]))


def snapshot(models: dict[str, bytes], version: str = "v1") -> Snapshot:
    """Models with a cluster and endpoints each, which the routes and the policy refer to."""
    resources = {name: Resource.of(content) for name, content in models.items()}
    names = Resource.of("".join(models).encode())
    return Snapshot.of(
        {
            resource_types.CLUSTER: resources,
            resource_types.ENDPOINT: resources,
            resource_types.ROUTE: {"routes": names},
            resource_types.POLICY: {"policy": names},
        },
        version,
    )


def referenced(snapshot: Snapshot) -> set[str]:
    """The clusters that routes and policy refer to."""
    routes = snapshot.types[resource_types.ROUTE].resources
    return set(routes["routes"].body.decode()) if routes else set()


@given(NAMES, NAMES)
def test_clusters_exist_in_every_step_that_refers_to_them(
    old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    for step in steps(snapshot(old), snapshot(new)):
        for each in (resource_types.CLUSTER, resource_types.ENDPOINT):
            assert referenced(step.snapshot) <= set(step.snapshot.types[each].resources)


@given(NAMES, NAMES)
def test_the_last_step_has_the_new_resources_and_one_step_puts_them_in_force(
    old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    plan = steps(snapshot(old), snapshot(new))
    assert plan[-1].snapshot.has_same_resources(snapshot(new))
    assert [step.in_force for step in plan].count(True) == 1


@given(NAMES, NAMES, NAMES)
def test_clusters_exist_in_every_step_that_replaces_an_unfinished_rollout(
    old: dict[str, bytes], abandoned: dict[str, bytes], new: dict[str, bytes]
) -> None:
    for reached in steps(snapshot(old), snapshot(abandoned)):
        for step in steps(reached.snapshot, snapshot(new)):
            assert referenced(step.snapshot) <= set(
                step.snapshot.types[resource_types.CLUSTER].resources
            )


def test_a_change_of_endpoints_changes_only_endpoints() -> None:
    old = snapshot({"a": b"1"})
    new = old.with_types({resource_types.ENDPOINT: ResourceSet.of({"a": Resource.of(b"2")}, "v2")})
    make, switch = steps(old, new)
    changed = [each for each in resource_types.ALL if make.snapshot.types[each] != old.types[each]]
    assert changed == [resource_types.ENDPOINT]
    assert switch.snapshot.has_same_resources(make.snapshot)


def test_no_step_waits_for_endpoints_of_a_cluster_that_gets_host_names() -> None:
    """Envoy resolves the host names, and does not subscribe to endpoints of this cluster."""
    old = snapshot({"a": b"1", "b": b"1"})
    new = snapshot({"a": b"2", "b": b"1"}, version="v2")
    endpoints = ResourceSet.of({"b": Resource.of(b"1")}, "v2")
    plan = steps(old, new.with_types({resource_types.ENDPOINT: endpoints}))
    assert [step.name for step in plan] == ["make", "switch"]
    for step in plan:
        assert set(step.snapshot.types[resource_types.ENDPOINT].resources) == {"b"}
        assert set(step.snapshot.types[resource_types.CLUSTER].resources) == {"a", "b"}


def test_removals_wait_for_requests_with_an_old_decision() -> None:
    _, switch, remove = steps(snapshot({"a": b"1", "b": b"1"}), snapshot({"a": b"1"}))
    assert switch.in_force
    assert switch.pause > 0
    assert set(remove.snapshot.types[resource_types.CLUSTER].resources) == {"a"}


def test_the_first_config_is_rolled_out_in_order() -> None:
    assert [step.name for step in steps(EMPTY, snapshot({"a": b"1"}))] == ["make", "switch"]


def infos(snapshot: Snapshot) -> tuple[str, str]:
    """The versions of clusters and policy on the wire."""
    types = snapshot.types
    return types[resource_types.CLUSTER].version.info, types[resource_types.POLICY].version.info


def test_a_type_has_the_version_of_the_config_that_last_changed_it() -> None:
    old = snapshot({"a": b"1"}, version="v1")
    (switch,) = steps(old, snapshot({"a": b"1"}, version="v2"))
    assert infos(switch.snapshot) == ("v1", "v1")
    *_, changed = steps(switch.snapshot, snapshot({"a": b"2"}, version="v3"))
    assert infos(changed.snapshot) == ("v3", "v1")


def test_clusters_of_two_configs_together_have_a_version_of_their_own() -> None:
    old, new = snapshot({"a": b"1"}, version="v1"), snapshot({"b": b"1"}, version="v2")
    make, decide, switch, remove = steps(old, new)
    assert infos(make.snapshot) == ("v2-make", "v1")
    assert infos(decide.snapshot) == ("v2-make", "v2")
    assert infos(switch.snapshot) == ("v2-make", "v2")
    assert infos(remove.snapshot) == ("v2", "v2")


def test_clusters_that_only_grow_have_the_new_version_at_once() -> None:
    old = snapshot({"a": b"1"}, version="v1")
    make, *_ = steps(old, snapshot({"a": b"1", "b": b"1"}, version="v2"))
    assert infos(make.snapshot) == ("v2", "v1")


def test_a_snapshot_has_the_version_of_the_config_whose_routes_it_has() -> None:
    old, new = snapshot({"a": b"1"}, version="v1"), snapshot({"b": b"1"}, version="v2")
    assert [step.snapshot.version for step in steps(old, new)] == ["v1", "v1", "v2", "v2"]


def test_workers_accept_the_policy_before_envoys_get_the_routes() -> None:
    old, new = snapshot({"a": b"1"}), snapshot({"a": b"2", "b": b"1"}, version="v2")
    make, decide, switch = steps(old, new)
    assert [each.name for each in (make, decide, switch)] == ["make", "decide", "switch"]
    assert decide.types == (resource_types.POLICY,)
    assert not decide.in_force
    before = {
        each.name: (
            each.snapshot.types[resource_types.POLICY] == new.types[resource_types.POLICY],
            each.snapshot.types[resource_types.ROUTE] == new.types[resource_types.ROUTE],
        )
        for each in (make, decide, switch)
    }
    assert before == {"make": (False, False), "decide": (True, False), "switch": (True, True)}


def with_variant(snapshot: Snapshot, variant: Snapshot) -> Snapshot:
    return replace(snapshot, variants={"old": Variant(lambda: variant)})


def test_a_variant_that_no_node_needs_is_not_built() -> None:
    old = with_variant(snapshot({"a": b"1"}), snapshot({"x": b"1"}))
    new = with_variant(snapshot({"b": b"1"}), snapshot({"y": b"1"}))
    for step in steps(old, new):
        assert not step.snapshot.variants["old"].is_built
    assert not new.variants["old"].is_built


@given(NAMES, NAMES)
def test_the_steps_of_a_variant_are_made_before_break_too(
    old: dict[str, bytes], new: dict[str, bytes]
) -> None:
    """Even if nothing changes for the other nodes."""
    same = snapshot({"a": b"1"})
    current, target = with_variant(same, snapshot(old)), with_variant(same, snapshot(new))
    assert current.of_variant("old").has_same_resources(snapshot(old))
    plan = steps(current, target)
    for step in plan:
        found = step.snapshot.of_variant("old")
        assert referenced(found) <= set(found.types[resource_types.CLUSTER].resources)
        assert step.snapshot.has_same_resources(same)
    assert plan[-1].snapshot.of_variant("old").has_same_resources(snapshot(new))
    assert plan[-1].snapshot.of_variant("unknown") is plan[-1].snapshot


@given(NAMES, NAMES, NAMES)
def test_a_node_that_moves_to_another_variant_gets_it_make_before_break(
    old: dict[str, bytes], new: dict[str, bytes], default: dict[str, bytes]
) -> None:
    current = replace(
        snapshot(default),
        variants={"a": Variant(lambda: snapshot(old))},
        variant_of=lambda _: "a",
    )
    target = replace(
        snapshot(default, "v2"),
        variants={"b": Variant(lambda: snapshot(new, "v2"))},
        variant_of=lambda _: "b",
    )
    nodes = Nodes(lambda: 0.0)
    nodes.publish(current)
    moving = native_envoy(nodes)
    nodes.identify(moving.node, NodeMessage(id="moving"))
    has = nodes.snapshot_of(moving.node)
    plan = steps(current, target, nodes.moves(target))
    for step in plan:
        nodes.publish(step.snapshot)
        before, has = has, nodes.snapshot_of(moving.node)
        assert referenced(before) <= set(has.types[resource_types.CLUSTER].resources)
        assert referenced(has) <= set(has.types[resource_types.CLUSTER].resources)
        late = native_envoy(nodes, "late")
        nodes.identify(late.node, NodeMessage(id="late"))
        assert nodes.snapshot_of(late.node).has_same_resources(snapshot(new))
    assert moving.node.variant == "b"
    assert has.has_same_resources(snapshot(new))


def test_a_secret_comes_with_its_cluster_and_goes_after_it() -> None:
    old, new = snapshot({"a": b"1"}), snapshot({"a": b"2"}, "v2")
    secret = ResourceSet.of({"a/ca": Resource.of(b"1")}, "v2")
    with_secret = new.with_types({resource_types.SECRET: secret})
    make, *_ = steps(old, with_secret)
    assert make.snapshot.types[resource_types.SECRET] == secret
    *_, switch, remove = steps(with_secret, snapshot({"a": b"1"}, "v3"))
    assert switch.snapshot.types[resource_types.SECRET].resources == secret.resources
    assert not remove.snapshot.types[resource_types.SECRET].resources
