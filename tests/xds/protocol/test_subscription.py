"""A subscription follows the resource names that a client sends."""

import pytest

from xds.protocol import resource_types
from xds.protocol.subscription import MAX_NAMES, OverLimitError, Subscription

CDS, EDS = resource_types.CLUSTER, resource_types.ENDPOINT


def test_no_names_subscribe_to_every_resource_of_a_wildcard_type() -> None:
    subscription = Subscription(CDS)
    assert subscription.replace(())
    assert subscription.includes("a")


def test_no_names_subscribe_to_nothing_of_another_type() -> None:
    subscription = Subscription(EDS)
    subscription.replace(())
    assert subscription.empty
    assert not subscription.includes("a")


def test_only_new_names_add_resources() -> None:
    subscription = Subscription(EDS)
    assert subscription.replace(("a", "b"))
    assert not subscription.replace(("b",))
    assert subscription.replace(("a",))
    assert not subscription.includes("b")


def test_more_names_than_the_limit_are_an_error() -> None:
    names = tuple(map(str, range(MAX_NAMES + 1)))
    with pytest.raises(OverLimitError):
        Subscription(EDS).replace(names)
