"""After rejected key sets, the filter verifies only what it verified before and would after."""

from dataclasses import replace

from tests.xds.rollout.token_filters import provider, providers_of, with_filter
from xds.protocol.resource_types import EXTENSION, ROUTE
from xds.protocol.snapshot import EMPTY, Resource, ResourceSet, Snapshot, Variant
from xds.rollout.common_keys import with_common_keys

KEPT, OLD, NEW = provider("kept", "k"), provider("changed", "old"), provider("changed", "new")


def ttl_of(snapshot: Snapshot) -> float | None:
    (resource,) = snapshot.types[EXTENSION].resources.values()
    return resource.ttl


def test_the_filter_verifies_only_what_both_do() -> None:
    good = with_filter("good", KEPT, OLD, provider("removed", "r"), ttl=30.0)
    rejected = with_filter("good", KEPT, NEW, provider("added", "a"))
    found = with_common_keys(good, rejected)
    assert providers_of(found) == {"kept": KEPT}
    assert ttl_of(found) == 30.0
    assert found.types[ROUTE] == good.types[ROUTE]
    assert found.version == good.version


def test_other_filters_stay() -> None:
    good, rejected = with_filter("good", KEPT, OLD), with_filter("good", KEPT)
    limit = Resource.of(b"limit")
    filters = {**good.types[EXTENSION].resources, "limit": limit}
    good = good.with_types({EXTENSION: ResourceSet.of(filters, "v1")})
    assert with_common_keys(good, rejected).types[EXTENSION].resources["limit"] == limit


def test_equal_filters_change_nothing() -> None:
    good = with_filter("good", KEPT)
    assert with_common_keys(good, with_filter("rejected", KEPT)) == good
    assert with_common_keys(EMPTY, good) == EMPTY


def test_variants_that_nodes_have_are_narrowed_too() -> None:
    old, unused = (Variant(lambda: with_filter("old", KEPT, OLD)) for _ in range(2))
    assert old.snapshot.version
    good = replace(
        with_filter("good", KEPT, OLD),
        variants={"old": old, "unused": unused},
        variant_of=lambda _: "old",
    )
    rejected = replace(
        with_filter("good", KEPT), variants={"old": Variant(lambda: with_filter("old", KEPT))}
    )
    found = with_common_keys(good, rejected)
    assert providers_of(found.of_variant("old")) == {"kept": KEPT}
    assert found.variants["unused"] is unused
    assert found.variant_of is good.variant_of
    assert not unused.is_built
