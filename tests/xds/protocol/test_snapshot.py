"""A version changes if the content of the resources changes, and only then."""

from hypothesis import given
from hypothesis import strategies as st

from xds.protocol import resource_types
from xds.protocol.snapshot import Resource, ResourceSet, Snapshot

CONTENTS = st.dictionaries(st.text(max_size=3), st.binary(max_size=3), max_size=4)


def resource_set(contents: dict[str, bytes]) -> ResourceSet:
    return ResourceSet.of({name: Resource.of(body) for name, body in contents.items()}, "v1")


@given(CONTENTS, CONTENTS)
def test_resource_sets_have_equal_versions_exactly_if_their_resources_are_equal(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    assert (resource_set(one).version == resource_set(other).version) == (one == other)


def test_a_resource_does_not_depend_on_how_it_is_cut_into_parts() -> None:
    whole, parts = Resource.of(b"abc"), Resource.of(b"a", b"", b"bc")
    assert (whole, whole.body) == (parts, parts.body)
    assert Resource.of(b"abd") != whole


def test_the_order_of_resources_does_not_change_the_version() -> None:
    assert (
        resource_set({"a": b"1", "b": b"2"}).version == resource_set({"b": b"2", "a": b"1"}).version
    )


def test_the_config_version_does_not_make_equal_resources_different() -> None:
    assert ResourceSet.of({}, "v1").version == ResourceSet.of({}, "v2").version


def test_a_changed_resource_changes_its_own_version_and_no_other() -> None:
    before, after = resource_set({"a": b"1", "b": b"1"}), resource_set({"a": b"1", "b": b"2"})
    changed = [
        name
        for name, resource in before.resources.items()
        if resource.version != after.resources[name].version
    ]
    assert changed == ["b"]


def test_replacing_a_type_does_not_change_the_other_types() -> None:
    policy = {"policy": Resource.of(b"1")}
    before = Snapshot.of({resource_types.POLICY: policy}, "v1")
    after = before.with_types({resource_types.CLUSTER: resource_set({"a": b"1"})})
    assert after.types[resource_types.POLICY] is before.types[resource_types.POLICY]
    assert not after.has_same_resources(before)
