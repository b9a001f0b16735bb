"""In every step of a rollout, each cluster exists that routes or the policy refer to."""

from dataclasses import replace

from envoy_data_plane.envoy.config.core.v3 import DataSource, TypedExtensionConfig
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwtAuthentication,
    JwtClaimToHeader,
    JwtProvider,
)
from hypothesis import given
from hypothesis import strategies as st

from sluice.config.limits import Limits
from sluice.contract.names import JWT_FILTER
from xds.protocol import resource_types
from xds.protocol.snapshot import EMPTY, Resource, ResourceSet, Snapshot, Variant
from xds.resources.extensions import extension, verifying
from xds.resources.local_rate_limit import filter_configs
from xds.resources.proto_messages import serialized
from xds.rollout.order import narrow_first, steps

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


def provider(issuer: str, keys: str, *claims: str) -> JwtProvider:
    headers = [JwtClaimToHeader(header_name=f"x-{name}", claim_name=name) for name in claims]
    source = DataSource(inline_string=keys)
    return JwtProvider(issuer=issuer, local_jwks=source, claim_to_headers=headers)


def with_filter(
    routes: str, *providers: JwtProvider, version: str = "v1", ttl: float | None = None
) -> Snapshot:
    """A snapshot with these routes and a filter with these providers, by issuer."""
    config = verifying({each.issuer: each for each in providers})
    body = bytes(extension(JWT_FILTER, config))
    resources = {
        resource_types.EXTENSION: {JWT_FILTER: Resource.of(body, ttl=ttl)},
        resource_types.ROUTE: {"routes": Resource.of(routes.encode())},
    }
    return Snapshot.of(resources, version)


def providers_of(snapshot: Snapshot) -> dict[str, JwtProvider]:
    body = snapshot.types[resource_types.EXTENSION].resources[JWT_FILTER].body
    packed = TypedExtensionConfig.parse(body).typed_config
    assert packed is not None
    return JwtAuthentication.parse(packed.value).providers


def ttl_of(snapshot: Snapshot) -> float | None:
    return snapshot.types[resource_types.EXTENSION].resources[JWT_FILTER].ttl


KEPT, OLD, NEW = provider("kept", "k"), provider("changed", "old"), provider("changed", "new")


def test_while_routes_change_the_filter_accepts_only_what_both_configs_accept() -> None:
    old = with_filter("old", KEPT, OLD, provider("removed", "r"), ttl=30.0)
    new = with_filter("new", KEPT, NEW, provider("added", "a"), version="v2")
    make, switch, admit = steps(old, new)
    assert [each.name for each in (make, switch, admit)] == ["make", "switch", "admit"]
    assert resource_types.EXTENSION in make.types
    assert make.snapshot.types[resource_types.ROUTE] == old.types[resource_types.ROUTE]
    for each in (make, switch):
        assert providers_of(each.snapshot) == {"kept": KEPT}
        assert ttl_of(each.snapshot) == 30.0
    assert switch.in_force
    assert set(providers_of(admit.snapshot)) == {"kept", "changed", "added"}
    assert ttl_of(admit.snapshot) is None


def test_while_routes_change_the_filter_sets_the_headers_that_either_routes_read() -> None:
    """A missing header looks like a missing claim, which may mean another version."""
    old, new = provider("i", "k", "team", "sub"), provider("i", "k", "sub", "tenant")
    make, switch, _ = steps(with_filter("old", old), with_filter("new", new, version="v2"))
    for each in (make, switch):
        (both,) = providers_of(each.snapshot).values()
        assert {header.claim_name for header in both.claim_to_headers} == {"team", "sub", "tenant"}


def test_a_rotated_key_takes_one_step() -> None:
    (switch,) = steps(with_filter("same", OLD), with_filter("same", NEW, version="v2"))
    assert providers_of(switch.snapshot) == {"changed": NEW}


def test_a_rotated_key_is_narrowed_if_a_node_may_have_other_routes() -> None:
    old, new = with_filter("same", OLD), with_filter("same", NEW, version="v2")
    assert [each.name for each in steps(old, new, settled=False)] == ["make", "switch", "admit"]


def test_routes_that_change_alone_need_no_other_filter() -> None:
    (switch,) = steps(with_filter("old", KEPT), with_filter("new", KEPT, version="v2"))
    assert providers_of(switch.snapshot) == {"kept": KEPT}


def test_the_first_filter_needs_no_step_of_its_own() -> None:
    (switch,) = steps(EMPTY, with_filter("new", KEPT))
    assert providers_of(switch.snapshot) == {"kept": KEPT}


def test_the_good_routes_come_back_with_a_filter_that_is_not_wider() -> None:
    good, failed = with_filter("good", KEPT, OLD), with_filter("failed", KEPT, NEW, version="v2")
    narrow = narrow_first(failed, good)
    assert narrow is not None
    assert providers_of(narrow) == {"kept": KEPT}
    assert narrow.types[resource_types.ROUTE] == good.types[resource_types.ROUTE]
    assert narrow_first(with_filter("failed", KEPT, OLD), good) is None


def test_a_filter_that_verifies_no_tokens_is_never_narrowed() -> None:
    def with_limits(snapshot: Snapshot, limits: Limits) -> Snapshot:
        filters = dict(snapshot.types[resource_types.EXTENSION].resources)
        for name, config in filter_configs(limits).items():
            filters[name] = Resource.of(serialized(config))
        changed = ResourceSet.of(filters, snapshot.version or "")
        return snapshot.with_types({resource_types.EXTENSION: changed})

    limits = Limits.model_validate({"listener": {"rate": 5, "burst": 5}})
    old = with_limits(with_filter("old", KEPT, OLD), Limits())
    new = with_limits(with_filter("new", KEPT, NEW, version="v2"), limits)
    known = [each.types[resource_types.EXTENSION].resources for each in (old, new)]
    found = [step.snapshot.types[resource_types.EXTENSION].resources for step in steps(old, new)]
    for name in filter_configs(limits):
        assert all(each[name] in (known[0][name], known[1][name]) for each in found)
        assert found[-1][name] == known[1][name]


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


def test_other_extensions_are_not_narrowed() -> None:
    old, new = with_filter("old", KEPT, OLD), with_filter("new", KEPT, NEW, version="v2")
    limits = [Resource.of(content) for content in (b"old limit", b"new limit")]
    both = [
        each.with_types(
            {
                resource_types.EXTENSION: ResourceSet.of(
                    {**each.types[resource_types.EXTENSION].resources, "limit": limit}, "v"
                )
            }
        )
        for each, limit in zip((old, new), limits, strict=True)
    ]
    make, switch, admit = steps(*both)
    found = [
        each.snapshot.types[resource_types.EXTENSION].resources["limit"]
        for each in (make, switch, admit)
    ]
    assert found == [limits[0], limits[1], limits[1]]
