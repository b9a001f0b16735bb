"""The state-of-the-world protocol on one stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds.protocol import resource_types
from xds.protocol.snapshot import Snapshot
from xds.protocol.subscription import (
    MAX_NAMES,
    Acknowledgement,
    OverLimitError,
    Stream,
    SubscriptionRequest,
    SubscriptionResponse,
)

CDS, EDS = resource_types.CLUSTER, resource_types.ENDPOINT
LDS, POLICY = resource_types.LISTENER, resource_types.POLICY


def view(clusters: str = "a", endpoints: str = "a", content: bytes = b"1") -> Snapshot:
    return Snapshot.of(
        {
            CDS: dict.fromkeys(clusters, content),
            EDS: dict.fromkeys(endpoints, content),
            POLICY: {"policy": b"p"},
        }
    )


def sent(stream: Stream, shown: Snapshot) -> list[SubscriptionResponse]:
    return list(stream.responses(shown))


def ack(
    stream: Stream, response: SubscriptionResponse, names: tuple[str, ...] = ()
) -> Acknowledgement:
    request = SubscriptionRequest(response.type, response.version, names, response.nonce)
    return stream.on_request(request, now=1.0)


def test_a_first_request_is_answered_with_everything() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (response,) = sent(stream, view("ab"))
    assert set(response.resources) == {"a", "b"}
    assert response.nonce


def test_a_client_that_comes_back_with_a_version_is_told_again() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS, version=view().versions[CDS]), now=0)
    assert len(sent(stream, view())) == 1
    assert not stream.in_sync(view())


def test_an_accepted_version_is_not_sent_twice() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (response,) = sent(stream, view())
    assert ack(stream, response) is Acknowledgement.ACK
    assert sent(stream, view()) == []
    assert stream.in_sync(view(endpoints=""), [CDS])


def test_nothing_more_is_sent_of_a_type_until_it_is_answered() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (first,) = sent(stream, view("a"))
    assert sent(stream, view("ab")) == []
    ack(stream, first)
    (second,) = sent(stream, view("ab"))
    assert set(second.resources) == {"a", "b"}


def test_a_refusal_keeps_its_reason_and_the_version_accepted_before() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (good,) = sent(stream, view("a"))
    ack(stream, good)
    (bad,) = sent(stream, view("ab"))
    refusal = SubscriptionRequest(CDS, good.version, (), bad.nonce, error="b is wrong")
    assert stream.on_request(refusal, now=7.0) is Acknowledgement.NACK
    subscription = stream.subscriptions[CDS]
    assert subscription.reason == "b is wrong"
    assert (subscription.acked, subscription.nacked) == (good.version, bad.version)
    assert subscription.at == 7.0
    assert sent(stream, view("ab")) == []
    assert not stream.in_sync(view("ab"))
    # Part of what was refused may be in force at the client: what was good is sent again.
    assert [response.version for response in sent(stream, view("a"))] == [good.version]


def test_a_request_that_crossed_a_newer_response_says_nothing() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (first,) = sent(stream, view("a"))
    ack(stream, first)
    (second,) = sent(stream, view("ab"))
    assert ack(stream, first) is Acknowledgement.NONE
    assert stream.subscriptions[CDS].outstanding
    assert ack(stream, second) is Acknowledgement.ACK


def test_new_names_are_answered_and_fewer_names_are_not() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(EDS, names=("a",)), now=0)
    (response,) = sent(stream, view("ab", "ab"))
    assert set(response.resources) == {"a"}
    ack(stream, response, ("a", "b"))
    (response,) = sent(stream, view("ab", "ab"))
    assert set(response.resources) == {"a", "b"}
    ack(stream, response, ("b",))
    assert sent(stream, view("ab", "ab")) == []


def test_a_client_that_asks_again_after_its_answer_is_told_again() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(EDS, names=("a",)), now=0)
    (response,) = sent(stream, view())
    ack(stream, response, ("a",))
    stream.on_request(SubscriptionRequest(EDS, response.version, ("a",), response.nonce), now=2)
    assert len(sent(stream, view())) == 1


def test_who_asks_for_no_endpoints_is_sent_none() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(EDS), now=0)
    assert sent(stream, view()) == []


def endpoints_asked_for(shown: Snapshot) -> Stream:
    """An Envoy's stream that has been told, and has accepted, what is shown."""
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (clusters,) = sent(stream, shown)
    stream.on_request(SubscriptionRequest(EDS, names=tuple(shown.resources[EDS])), now=0)
    (endpoints,) = sent(stream, shown)
    ack(stream, endpoints, tuple(endpoints.resources))
    ack(stream, clusters)
    return stream


def test_changed_endpoints_wait_until_the_clusters_they_belong_to_are_accepted() -> None:
    stream = endpoints_asked_for(view("a", "a"))
    changed = view("a", "a", b"2")
    (clusters,) = sent(stream, changed)
    assert clusters.type == CDS
    assert sent(stream, changed) == []
    ack(stream, clusters)
    (endpoints,) = sent(stream, changed)
    assert endpoints.type == EDS


def test_endpoints_that_are_asked_for_do_not_wait_as_envoy_needs_them_to_accept_clusters() -> None:
    stream = endpoints_asked_for(view("a", "a"))
    more = view("ab", "ab")
    (clusters,) = sent(stream, more)
    nonce = stream.subscriptions[EDS].nonce
    stream.on_request(SubscriptionRequest(EDS, names=("a", "b"), nonce=nonce), now=0)
    (endpoints,) = sent(stream, more)
    assert set(endpoints.resources) == {"a", "b"}
    ack(stream, endpoints, ("a", "b"))
    ack(stream, clusters)
    assert stream.in_sync(more)


def test_an_envoy_is_in_sync_only_once_it_has_the_endpoints_of_its_clusters() -> None:
    stream = Stream()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    (clusters,) = sent(stream, view())
    ack(stream, clusters)
    assert not stream.in_sync(view())
    stream.on_request(SubscriptionRequest(EDS, names=("a",)), now=0)
    (endpoints,) = sent(stream, view())
    assert not stream.in_sync(view())
    ack(stream, endpoints, ("a",))
    assert stream.in_sync(view())


@pytest.mark.parametrize(
    ("types", "kind"), [((CDS, LDS), "envoy"), ((POLICY,), "callout"), ((LDS,), "unknown")]
)
def test_a_node_is_known_by_what_it_asks_for(
    types: tuple[resource_types.ResourceType, ...], kind: str
) -> None:
    stream = Stream()
    for url in types:
        stream.on_request(SubscriptionRequest(url), now=0)
    assert stream.kind == kind


def test_too_many_names_are_refused() -> None:
    names = tuple(map(str, range(MAX_NAMES + 1)))
    with pytest.raises(OverLimitError):
        Stream().on_request(SubscriptionRequest(EDS, names=names), now=0)


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["answer", "refuse", "stale", "again"]),
            st.tuples(st.sets(st.sampled_from("abc")), st.sampled_from([b"1", b"2"])),
        ),
        max_size=40,
    )
)
def test_whatever_happens_a_client_that_answers_ends_with_what_is_shown(
    events: list[str | tuple[set[str], bytes]],
) -> None:
    stream, shown = Stream(), view()
    stream.on_request(SubscriptionRequest(CDS), now=0)
    unanswered: list[SubscriptionResponse] = []
    nonces = [""]
    for event in events:
        if isinstance(event, tuple):
            shown = view("".join(event[0]), "", event[1])
        elif event == "stale":
            stream.on_request(SubscriptionRequest(CDS, nonce=nonces[0]), now=0)
        elif event == "again":
            stream.on_request(SubscriptionRequest(CDS, nonce=nonces[-1]), now=0)
            unanswered.clear()
        elif unanswered:
            error = "no" if event == "refuse" else None
            stream.on_request(
                SubscriptionRequest(CDS, nonce=unanswered.pop().nonce, error=error), now=0
            )
        fresh = sent(stream, shown)
        assert len(fresh) + len(unanswered) <= 1
        unanswered += fresh
        nonces += [response.nonce for response in fresh]
    stream.subscriptions[CDS].due = True
    for _ in range(3):
        for response in unanswered or sent(stream, shown):
            last = response
            ack(stream, response)
        unanswered = []
    assert last.resources == shown.resources[CDS]
    assert stream.subscriptions[CDS].acked == shown.versions[CDS]
