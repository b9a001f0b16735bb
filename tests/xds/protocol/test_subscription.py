"""Subscriptions change with the resource names that a client sends."""

import pytest

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.shared_names import OverLimitError
from xds.protocol.subscription import MAX_NAMES, Subscription

CDS, EDS = resource_types.CLUSTER, resource_types.ENDPOINT


def test_an_empty_list_subscribes_to_every_resource_of_a_wildcard_type() -> None:
    subscription = Subscription(CDS)
    assert subscription.replace(())
    assert subscription.includes_all(["a"])


def test_an_empty_list_subscribes_to_no_resource_of_another_type() -> None:
    subscription = Subscription(EDS)
    subscription.replace(())
    assert subscription.empty
    assert not subscription.includes_all(["a"])


def test_an_empty_list_after_a_name_unsubscribes_from_every_resource() -> None:
    for names in (("a",), ("*",)):
        subscription = Subscription(CDS)
        subscription.replace(names)
        assert not subscription.replace(())
        assert subscription.empty
        assert not subscription.includes_all(["a"])


def test_an_empty_list_is_a_wildcard_until_the_client_sends_a_name() -> None:
    subscription = Subscription(CDS)
    subscription.replace(())
    assert not subscription.replace(())
    assert subscription.includes_all(["a"])
    assert not subscription.replace(("a",))
    assert not subscription.includes_all(["b"])
    subscription.replace(())
    assert subscription.empty


@pytest.mark.parametrize("resource_type", [CDS, EDS])
def test_an_asterisk_subscribes_to_every_resource_of_any_type(
    resource_type: ResourceType,
) -> None:
    subscription = Subscription(resource_type)
    subscription.replace(("a",))
    assert subscription.replace(("a", "*"))
    assert subscription.includes_all(["b"])
    assert not subscription.replace(("a",))
    assert not subscription.includes_all(["b"])


def test_only_new_names_add_resources() -> None:
    subscription = Subscription(EDS)
    assert subscription.replace(("a", "b"))
    assert not subscription.replace(("b",))
    assert subscription.replace(("a",))
    assert not subscription.includes_all(["b"])


def test_more_names_than_the_limit_are_an_error() -> None:
    names = tuple(map(str, range(MAX_NAMES + 1)))
    with pytest.raises(OverLimitError):
        Subscription(EDS).replace(names)
