"""The state-of-the-world protocol on one stream."""

from hypothesis import given
from hypothesis import strategies as st

from xds.protocol import resource_types
from xds.protocol.snapshot import EMPTY, Resource, Snapshot
from xds.protocol.sotw import SotwRequest, SotwResponse, SotwStream
from xds.protocol.stream import Acknowledgement

CDS, EDS, POLICY = resource_types.CLUSTER, resource_types.ENDPOINT, resource_types.POLICY


def snapshot(
    clusters: str = "a", endpoints: str = "a", content: bytes = b"1", version: str = "v1"
) -> Snapshot:
    resource = Resource.of(content)
    return Snapshot.of(
        {
            CDS: dict.fromkeys(clusters, resource),
            EDS: dict.fromkeys(endpoints, resource),
            POLICY: {"policy": Resource.of(b"p")},
        },
        version,
    )


def subscribed(*requests: SotwRequest) -> SotwStream:
    """A stream after its first requests."""
    stream = SotwStream()
    for request in requests or (SotwRequest(CDS),):
        stream.on_request(request, now=0)
    return stream


def sent(stream: SotwStream, published: Snapshot, clock: float = 0.0) -> list[SotwResponse]:
    return list(stream.responses(published, clock))


def ack(stream: SotwStream, response: SotwResponse, names: tuple[str, ...] = ()) -> Acknowledgement:
    request = SotwRequest(response.type, response.version.info, names, response.nonce)
    return stream.on_request(request, now=1.0)


def test_a_type_that_no_config_has_set_gets_no_response() -> None:
    """An empty response would remove the resources that Envoy has from an earlier control plane."""
    stream = subscribed(SotwRequest(CDS), SotwRequest(POLICY))
    assert sent(stream, EMPTY) == []
    assert stream.in_sync(EMPTY)
    assert {response.type for response in sent(stream, snapshot())} == {CDS, POLICY}


def test_the_first_response_carries_every_resource() -> None:
    (response,) = sent(subscribed(), snapshot("ab"))
    assert set(response.resources) == {"a", "b"}
    assert response.nonce


def test_a_client_that_reconnects_with_a_version_gets_every_resource_again() -> None:
    stream = subscribed(SotwRequest(CDS, version=snapshot().version or ""))
    assert len(sent(stream, snapshot())) == 1
    assert not stream.in_sync(snapshot())


def test_an_accepted_version_is_not_sent_twice() -> None:
    stream = subscribed()
    (response,) = sent(stream, snapshot())
    assert ack(stream, response) is Acknowledgement.ACK
    assert sent(stream, snapshot()) == []
    assert stream.in_sync(snapshot(endpoints=""), [CDS])


def test_equal_resources_of_another_config_version_are_not_sent() -> None:
    stream = subscribed()
    (response,) = sent(stream, snapshot())
    ack(stream, response)
    assert sent(stream, snapshot(version="v2")) == []
    assert stream.in_sync(snapshot(endpoints="", version="v2"))


def test_a_type_is_not_sent_again_before_the_client_has_acknowledged_it() -> None:
    stream = subscribed()
    (first,) = sent(stream, snapshot("a"))
    assert sent(stream, snapshot("ab")) == []
    ack(stream, first)
    (second,) = sent(stream, snapshot("ab"))
    assert set(second.resources) == {"a", "b"}


def test_a_nack_records_its_reason_and_keeps_the_accepted_version() -> None:
    stream = subscribed()
    (good,) = sent(stream, snapshot("a"))
    ack(stream, good)
    (bad,) = sent(stream, snapshot("ab"))
    nack = SotwRequest(CDS, good.version.info, (), bad.nonce, error="b is wrong")
    assert stream.on_request(nack, now=7.0) is Acknowledgement.NACK
    state = stream.types[CDS]
    assert state.reason == "b is wrong"
    assert (state.acked, state.nacked) == (good.version, bad.version)
    assert state.at == 7.0
    assert sent(stream, snapshot("ab")) == []
    assert not stream.in_sync(snapshot("ab"))
    # The client may use a part of the rejected version, so the good version is sent again.
    assert [response.version for response in sent(stream, snapshot("a"))] == [good.version]


def test_a_request_with_an_older_nonce_is_ignored() -> None:
    stream = subscribed()
    (first,) = sent(stream, snapshot("a"))
    ack(stream, first)
    (second,) = sent(stream, snapshot("ab"))
    assert ack(stream, first) is Acknowledgement.NONE
    assert stream.types[CDS].outstanding
    assert ack(stream, second) is Acknowledgement.ACK


def test_more_names_cause_a_response_and_fewer_names_do_not() -> None:
    stream = subscribed(SotwRequest(EDS, names=("a",)))
    (response,) = sent(stream, snapshot("ab", "ab"))
    assert set(response.resources) == {"a"}
    ack(stream, response, ("a", "b"))
    (response,) = sent(stream, snapshot("ab", "ab"))
    assert set(response.resources) == {"a", "b"}
    ack(stream, response, ("b",))
    assert sent(stream, snapshot("ab", "ab")) == []


def test_a_client_that_repeats_its_request_gets_another_response() -> None:
    stream = subscribed(SotwRequest(EDS, names=("a",)))
    (response,) = sent(stream, snapshot())
    ack(stream, response, ("a",))
    stream.on_request(SotwRequest(EDS, response.version.info, ("a",), response.nonce), now=2)
    assert len(sent(stream, snapshot())) == 1


def test_a_client_that_subscribes_to_no_endpoints_gets_no_response() -> None:
    assert sent(subscribed(SotwRequest(EDS)), snapshot()) == []


def test_a_client_that_unsubscribes_from_all_names_gets_no_response() -> None:
    stream = subscribed(SotwRequest(CDS, names=("a",)))
    (response,) = sent(stream, snapshot("ab"))
    ack(stream, response)
    assert sent(stream, snapshot("abc")) == []
    assert stream.in_sync(snapshot("abc"), [CDS])
    stream.on_request(SotwRequest(CDS, names=("*",), nonce=response.nonce), now=2)
    (response,) = sent(stream, snapshot("abc"))
    assert set(response.resources) == {"a", "b", "c"}


def synced_envoy(published: Snapshot) -> SotwStream:
    """The stream of an Envoy that has accepted every cluster and endpoint of a snapshot."""
    stream = subscribed()
    (clusters,) = sent(stream, published)
    names = tuple(published.types[EDS].resources)
    stream.on_request(SotwRequest(EDS, names=names), now=0)
    (endpoints,) = sent(stream, published)
    ack(stream, endpoints, tuple(endpoints.resources))
    ack(stream, clusters)
    return stream


def test_changed_endpoints_wait_until_the_client_has_accepted_the_changed_clusters() -> None:
    stream = synced_envoy(snapshot("a", "a"))
    changed = snapshot("a", "a", b"2")
    (clusters,) = sent(stream, changed)
    assert clusters.type == CDS
    assert sent(stream, changed) == []
    ack(stream, clusters)
    (endpoints,) = sent(stream, changed)
    assert endpoints.type == EDS


def test_requested_endpoints_do_not_wait_because_envoy_needs_them_to_accept_clusters() -> None:
    stream = synced_envoy(snapshot("a", "a"))
    more = snapshot("ab", "ab")
    (clusters,) = sent(stream, more)
    nonce = stream.types[EDS].nonce
    stream.on_request(SotwRequest(EDS, names=("a", "b"), nonce=nonce), now=0)
    (endpoints,) = sent(stream, more)
    assert set(endpoints.resources) == {"a", "b"}
    ack(stream, endpoints, ("a", "b"))
    ack(stream, clusters)
    assert stream.in_sync(more)


def test_an_envoy_is_not_in_sync_before_it_has_the_endpoints_of_its_clusters() -> None:
    stream = subscribed()
    (clusters,) = sent(stream, snapshot())
    ack(stream, clusters)
    assert not stream.in_sync(snapshot())
    stream.on_request(SotwRequest(EDS, names=("a",)), now=0)
    (endpoints,) = sent(stream, snapshot())
    assert not stream.in_sync(snapshot())
    ack(stream, endpoints, ("a",))
    assert stream.in_sync(snapshot())


@given(
    st.lists(
        st.one_of(
            st.sampled_from(["ack", "nack", "stale", "repeat"]),
            st.tuples(st.sets(st.sampled_from("abc")), st.sampled_from([b"1", b"2"])),
        ),
        max_size=40,
    )
)
def test_a_client_that_accepts_every_response_gets_the_published_resources(
    events: list[str | tuple[set[str], bytes]],
) -> None:
    stream, published = subscribed(), snapshot()
    outstanding: list[SotwResponse] = []
    nonces = [""]
    for event in events:
        if isinstance(event, tuple):
            published = snapshot("".join(event[0]), "", event[1])
        elif event == "stale":
            stream.on_request(SotwRequest(CDS, nonce=nonces[0]), now=0)
        elif event == "repeat":
            stream.on_request(SotwRequest(CDS, nonce=nonces[-1]), now=0)
            outstanding.clear()
        elif outstanding:
            error = "no" if event == "nack" else None
            stream.on_request(SotwRequest(CDS, nonce=outstanding.pop().nonce, error=error), now=0)
        fresh = sent(stream, published)
        assert len(fresh) + len(outstanding) <= 1
        outstanding += fresh
        nonces += [response.nonce for response in fresh]
    # A client that has rejected the published version gets it again only after another request.
    for response in outstanding:
        ack(stream, response)
    stream.on_request(SotwRequest(CDS, nonce=stream.types[CDS].nonce), now=0)
    for _ in range(2):
        for response in sent(stream, published):
            last = response
            ack(stream, response)
    assert last.resources == published.types[CDS].resources
    assert stream.types[CDS].acked == published.types[CDS].version


def with_ttl(content: bytes = b"1", ttl: float | None = 30.0) -> Snapshot:
    return Snapshot.of({POLICY: {"policy": Resource.of(content, ttl=ttl)}}, "v1")


def test_resources_with_a_ttl_are_sent_again_with_their_content_before_it_ends() -> None:
    """Also to a client that has dropped them, which content alone restores."""
    stream, snapshot = subscribed(SotwRequest(POLICY)), with_ttl(ttl=30.0)
    (first,) = sent(stream, snapshot, clock=100.0)
    ack(stream, first)
    assert stream.renew_at == 110.0
    assert sent(stream, snapshot, clock=109.0) == []
    (again,) = sent(stream, snapshot, clock=110.0)
    assert (again.resources, again.version) == (first.resources, first.version)
    assert again.nonce != first.nonce


def test_a_client_stays_in_sync_while_resources_are_sent_again() -> None:
    stream, snapshot = subscribed(SotwRequest(POLICY)), with_ttl()
    (first,) = sent(stream, snapshot)
    assert not stream.in_sync(snapshot)
    ack(stream, first)
    (again,) = sent(stream, snapshot, clock=10.0)
    assert stream.in_sync(snapshot)
    ack(stream, again)
    (changed,) = sent(stream, with_ttl(b"2"), clock=11.0)
    assert not stream.in_sync(with_ttl(b"2"))
    assert ack(stream, changed) is Acknowledgement.ACK


def test_resources_are_not_sent_again_before_the_client_has_acknowledged_them() -> None:
    stream, snapshot = subscribed(SotwRequest(POLICY)), with_ttl()
    assert len(sent(stream, snapshot)) == 1
    assert stream.renew_at is None
    assert sent(stream, snapshot, clock=1000.0) == []


def test_resources_without_a_ttl_are_not_sent_again() -> None:
    stream = subscribed(SotwRequest(POLICY))
    (first,) = sent(stream, with_ttl())
    ack(stream, first)
    (without,) = sent(stream, with_ttl(ttl=None))
    ack(stream, without)
    assert stream.renew_at is None
    assert sent(stream, with_ttl(ttl=None), clock=1000.0) == []
