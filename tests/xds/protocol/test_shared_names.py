"""The memory of the names of all clients is bounded, and ends with the clients."""

import gc
from collections.abc import Callable

import pytest

from xds.protocol import resource_types
from xds.protocol.delta import DeltaRequest, DeltaStream
from xds.protocol.shared_names import OverLimitError, SharedNames
from xds.protocol.snapshot import Resource, Snapshot
from xds.protocol.stream import Acknowledgement
from xds.protocol.subscription import Subscription

CDS, EDS = resource_types.CLUSTER, resource_types.ENDPOINT
ROOM = 20_000
"""Bytes for about a hundred names of the tests."""


def names(prefix: str, count: int = 100) -> frozenset[str]:
    return frozenset(f"{prefix}{number}" for number in range(count))


def small() -> SharedNames:
    return SharedNames(maximum=ROOM, maximum_of_set=ROOM, small=0)


def test_clients_with_the_same_names_share_them() -> None:
    shared = small()
    first = shared.of_client(names("a"))
    size = shared.bytes
    assert shared.of_client(names("a")) is first
    assert shared.bytes == size > 0


def test_names_of_a_snapshot_count_for_no_client() -> None:
    shared = small()
    published = shared.of_snapshot(names("a", 10_000))
    assert shared.of_client(names("a", 10_000)) is published
    assert shared.bytes == 0


def test_the_names_of_all_clients_are_bounded_and_those_that_left_do_not_count() -> None:
    shared = small()
    first = [shared.of_client(names("a"))]
    with pytest.raises(OverLimitError, match="all clients"):
        shared.of_client(names("b"))
    first.clear()
    assert shared.bytes == 0
    assert shared.of_client(names("b")) == names("b")


def test_a_set_has_a_limit_of_its_own() -> None:
    with pytest.raises(OverLimitError, match="more than 20000 bytes"):
        SharedNames(maximum_of_set=ROOM).of_client(names("a", 1000))


def test_a_small_set_is_taken_beside_clients_that_use_all_memory() -> None:
    shared = SharedNames(maximum=1, small=2048)
    assert shared.of_client(names("a", 3)) == names("a", 3)
    with pytest.raises(OverLimitError):
        shared.of_client(names("a"))


def test_subscriptions_of_both_variants_count() -> None:
    shared = small()
    first, second = Subscription(EDS, shared=shared), Subscription(EDS, shared=shared)
    first.replace(tuple(names("a")))
    with pytest.raises(OverLimitError):
        second.replace(tuple(names("b", 200)))
    with pytest.raises(OverLimitError):
        second.change(tuple(names("c", 200)), ())
    first.replace(())
    second.change(tuple(names("c")), ())


def test_versions_of_an_earlier_stream_count_until_the_ack_of_their_removal() -> None:
    shared = small()
    stream = DeltaStream(shared=shared)
    stream.on_request(DeltaRequest(CDS, versions=dict.fromkeys(names("a", 50), "1")), now=0)
    assert shared.bytes > 0
    with pytest.raises(OverLimitError):
        DeltaStream(shared=shared).on_request(
            DeltaRequest(CDS, versions=dict.fromkeys(names("b"), "1")), now=0
        )
    gc.collect()  # the exception refers to the refused stream
    published = Snapshot.of({CDS: {"a0": Resource.of(b"1")}}, "v1")
    (response,) = stream.responses(published, 0.0)
    stream.on_request(DeltaRequest(CDS, nonce=response.nonce), now=0)
    assert shared.bytes > 0  # the client keeps the other clusters at first
    stream.remove_kept()
    (response,) = stream.responses(published, 0.0)
    stream.on_request(DeltaRequest(CDS, nonce=response.nonce), now=0)
    assert shared.bytes == 0


def test_clients_with_the_same_versions_share_them() -> None:
    shared = small()
    first = shared.versions(dict.fromkeys(names("a"), "1"))
    assert shared.versions(dict.fromkeys(names("a"), "1")) is first
    with pytest.raises(OverLimitError):
        shared.versions(dict.fromkeys(names("a"), "2"))


def repeat(attack: Callable[[int], None]) -> None:
    for number in range(10):
        attack(number)


def wildcard(shared: SharedNames) -> DeltaStream:
    """A stream that is subscribed to all clusters, and has not acknowledged them."""
    stream = DeltaStream(shared=shared)
    stream.on_request(DeltaRequest(CDS), now=0)
    list(stream.responses(Snapshot.of({CDS: {"a": Resource.of(b"1")}}, "v1"), 0.0))
    return stream


def test_names_of_which_a_client_must_be_told_count_after_it_has_unsubscribed() -> None:
    stream = wildcard(small())

    def subscribe_for_a_moment(number: int) -> None:
        each = tuple(names(f"{number}-", 20))
        stream.on_request(DeltaRequest(CDS, subscribe=each), now=0)
        stream.on_request(DeltaRequest(CDS, unsubscribe=each), now=0)

    with pytest.raises(OverLimitError):
        repeat(subscribe_for_a_moment)


def test_names_of_an_outstanding_response_count() -> None:
    shared = small()
    stream = DeltaStream(shared=shared)
    each = tuple(names("a"))
    stream.on_request(DeltaRequest(EDS, subscribe=each), now=0)
    published = Snapshot.of({EDS: {"b": Resource.of(b"1")}}, "v1")
    (response,) = stream.responses(published, 0.0)
    stream.on_request(DeltaRequest(EDS, unsubscribe=each), now=0)
    before = shared.bytes
    stream.on_request(DeltaRequest(EDS, nonce=response.nonce), now=0)
    assert before - shared.bytes > len("".join(each))


def test_names_of_rejected_responses_count() -> None:
    stream = wildcard(small())
    published = Snapshot.of({CDS: {"a": Resource.of(b"1")}}, "v1")

    def reject(number: int) -> None:
        each = tuple(names(f"{number}-", 20))
        stream.on_request(DeltaRequest(CDS, subscribe=each), now=0)
        for response in stream.responses(published, 0.0):
            nack = DeltaRequest(CDS, unsubscribe=each, nonce=response.nonce, error="no")
            assert stream.on_request(nack, now=0) is Acknowledgement.NACK

    stream.on_request(DeltaRequest(CDS, nonce="1"), now=0)
    with pytest.raises(OverLimitError):
        repeat(reject)


def test_a_snapshot_keeps_no_names_of_a_client_that_has_no_resources() -> None:
    endpoints = Snapshot.of({EDS: {"a": Resource.of(b"1")}}, "v1").types[EDS]
    unknown = names("unknown", 1000)
    assert endpoints.named(unknown) is not endpoints.named(unknown)
    known = frozenset({"a", "gone"})
    assert endpoints.named(known) is endpoints.named(known)
