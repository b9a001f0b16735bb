"""The rules of the incremental variant that other variants do not have."""

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xds.protocol import resource_types
from xds.protocol.delta import DeltaRequest, DeltaResponse, DeltaStream
from xds.protocol.shared_names import OverLimitError
from xds.protocol.snapshot import EMPTY, Resource, Snapshot
from xds.protocol.stream import Acknowledgement
from xds.protocol.subscription import MAX_NAME, MAX_NAMES

CDS, EDS, POLICY = resource_types.CLUSTER, resource_types.ENDPOINT, resource_types.POLICY


def snapshot(clusters: dict[str, str], endpoints: dict[str, str], version: str = "v1") -> Snapshot:
    return Snapshot.of(
        {
            each: {name: Resource.of(content.encode()) for name, content in contents.items()}
            for each, contents in ((CDS, clusters), (EDS, endpoints))
        },
        version,
    )


def sent(stream: DeltaStream, published: Snapshot, clock: float = 0.0) -> list[DeltaResponse]:
    return list(stream.responses(published, clock))


def ack(stream: DeltaStream, response: DeltaResponse, error: str | None = None) -> Acknowledgement:
    return stream.on_request(DeltaRequest(response.type, nonce=response.nonce, error=error), now=1)


def accept(stream: DeltaStream, published: Snapshot) -> list[DeltaResponse]:
    """Accept every response that is due."""
    responses = sent(stream, published)
    for response in responses:
        ack(stream, response)
    return responses


def envoy(published: Snapshot) -> DeltaStream:
    """The stream of an Envoy that has accepted every cluster and endpoint."""
    stream = DeltaStream()
    stream.on_request(DeltaRequest(CDS), now=0)
    accept(stream, published)
    names = tuple(published.types[EDS].resources)
    stream.on_request(DeltaRequest(EDS, subscribe=names), now=0)
    accept(stream, published)
    assert stream.in_sync(published)
    return stream


def resources(response: DeltaResponse) -> tuple[set[str], set[str]]:
    return set(response.changes.resources), set(response.changes.removed)


def test_the_endpoints_of_a_changed_cluster_are_sent_again_before_the_cluster_is_accepted() -> None:
    """Envoy warms the cluster, accepts it only then, and does not request its endpoints again."""
    stream = envoy(snapshot({"a": "1", "b": "1"}, {"a": "1", "b": "1"}))
    changed = snapshot({"a": "2", "b": "1"}, {"a": "1", "b": "1"}, "v2")
    clusters, endpoints = sent(stream, changed)
    assert (clusters.type, resources(clusters)) == (CDS, ({"a"}, set()))
    assert (endpoints.type, resources(endpoints)) == (EDS, ({"a"}, set()))
    ack(stream, endpoints)
    ack(stream, clusters)
    assert sent(stream, changed) == []
    assert stream.in_sync(changed)


def test_a_changed_cluster_and_its_changed_endpoints_are_sent_once() -> None:
    stream = envoy(snapshot({"a": "1", "b": "1"}, {"a": "1", "b": "1"}))
    changed = snapshot({"a": "2", "b": "1"}, {"a": "2", "b": "2"}, "v2")
    assert [resources(each) for each in accept(stream, changed)] == [
        ({"a"}, set()),
        ({"a", "b"}, set()),
    ]
    assert sent(stream, changed) == []


def test_endpoints_of_a_new_cluster_are_sent_when_the_client_subscribes() -> None:
    stream = envoy(snapshot({"a": "1"}, {"a": "1"}))
    more = snapshot({"a": "1", "b": "1"}, {"a": "1", "b": "1"}, "v2")
    (clusters,) = sent(stream, more)
    assert not stream.in_sync(more)
    stream.on_request(DeltaRequest(EDS, subscribe=("b",)), now=0)
    (endpoints,) = sent(stream, more)
    assert resources(endpoints) == ({"b"}, set())
    ack(stream, endpoints)
    ack(stream, clusters)
    assert stream.in_sync(more)


def test_changed_endpoints_follow_changed_clusters_that_wait() -> None:
    stream = envoy(snapshot({"a": "1", "b": "1"}, {"a": "1", "b": "1"}))
    (clusters, endpoints) = sent(stream, snapshot({"a": "2", "b": "1"}, {"a": "1", "b": "1"}, "v2"))
    ack(stream, endpoints)
    both = snapshot({"a": "2", "b": "2"}, {"a": "1", "b": "2"}, "v3")
    assert sent(stream, both) == []
    ack(stream, clusters)
    assert [each.type for each in accept(stream, both)] == [CDS, EDS]


def test_a_client_that_reconnects_gets_the_endpoints_of_the_clusters_that_have_changed() -> None:
    old = snapshot({"a": "1", "b": "1"}, {"a": "1", "b": "1"})
    changed = snapshot({"a": "2", "b": "1"}, {"a": "1", "b": "1"}, "v2")
    stream = DeltaStream()
    stream.on_request(DeltaRequest(CDS, versions=versions(old, CDS)), now=0)
    (clusters,) = sent(stream, changed)
    assert resources(clusters) == ({"a"}, set())
    request = DeltaRequest(EDS, subscribe=("a", "b"), versions=versions(old, EDS))
    stream.on_request(request, now=0)
    (endpoints,) = sent(stream, changed)
    assert resources(endpoints) == ({"a"}, set())


def test_endpoints_of_a_changed_cluster_follow_also_if_both_were_requested_before_the_config() -> (
    None
):
    """A control plane that restarts gets the requests while it compiles its config."""
    old = snapshot({"a": "1", "b": "1"}, {"a": "1", "b": "1"})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(CDS, versions=versions(old, CDS)), now=0)
    request = DeltaRequest(EDS, subscribe=("a", "b"), versions=versions(old, EDS))
    stream.on_request(request, now=0)
    assert sent(stream, EMPTY) == []
    changed = snapshot({"a": "2", "b": "1"}, {"a": "1", "b": "1"}, "v2")
    assert [resources(each) for each in sent(stream, changed)] == [({"a"}, set())] * 2


def versions(published: Snapshot, each: resource_types.ResourceType) -> dict[str, str]:
    found = published.types[each].resources
    return {name: resource.version_text for name, resource in found.items()}


def test_a_client_that_reconnects_with_everything_gets_no_response() -> None:
    published = snapshot({"a": "1"}, {"a": "1"})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(CDS, versions=versions(published, CDS)), now=0)
    assert not stream.in_sync(published, [CDS])
    assert sent(stream, published) == []
    assert stream.in_sync(published, [CDS])


def test_a_client_that_reconnects_while_a_cluster_warms_gets_all_endpoints() -> None:
    """Envoy requests no clusters while one warms (https://github.com/envoyproxy/envoy/issues/36951)."""
    published = snapshot({"a": "1"}, {"a": "1"})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(EDS, subscribe=("a",), versions=versions(published, EDS)), now=0)
    assert [resources(each) for each in sent(stream, published)] == [({"a"}, set())]


def test_a_client_without_resources_gets_an_empty_first_response() -> None:
    """Envoy starts only when it knows that there are no clusters."""
    stream, none = DeltaStream(), snapshot({}, {})
    stream.on_request(DeltaRequest(CDS), now=0)
    assert [resources(each) for each in accept(stream, none)] == [(set(), set())]
    assert sent(stream, none) == []
    stream.on_request(DeltaRequest(EDS), now=0)
    assert sent(stream, none) == []
    assert sent(DeltaStream(), EMPTY) == []


def test_names_in_a_request_with_an_old_nonce_count() -> None:
    published = snapshot({}, {"a": "1", "b": "1"})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(EDS, subscribe=("a",)), now=0)
    (first,) = sent(stream, published)
    late = DeltaRequest(EDS, subscribe=("b",), nonce="of another stream")
    assert stream.on_request(late, now=0) is Acknowledgement.NONE
    ack(stream, first)
    assert [resources(each) for each in accept(stream, published)] == [({"b"}, set())]


def test_an_ack_may_change_the_subscription() -> None:
    published = snapshot({}, {"a": "1", "b": "1"})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(EDS, subscribe=("a",)), now=0)
    (first,) = sent(stream, published)
    request = DeltaRequest(EDS, subscribe=("b",), unsubscribe=("a",), nonce=first.nonce)
    assert stream.on_request(request, now=0) is Acknowledgement.ACK
    assert [resources(each) for each in accept(stream, published)] == [({"b"}, set())]
    changed = snapshot({}, {"a": "2", "b": "1"}, "v2")
    assert stream.in_sync(changed, [EDS])
    assert sent(stream, changed) == []


def test_a_wildcard_by_an_empty_list_remains_when_the_client_adds_a_name() -> None:
    published = snapshot({"a": "1", "b": "1"}, {})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(CDS), now=0)
    accept(stream, published)
    stream.on_request(DeltaRequest(CDS, subscribe=("a",)), now=0)
    assert [resources(each) for each in accept(stream, published)] == [({"a"}, set())]
    # The client does not know whether the wildcard includes the name.
    stream.on_request(DeltaRequest(CDS, unsubscribe=("a",)), now=0)
    assert [resources(each) for each in accept(stream, published)] == [({"a"}, set())]
    stream.on_request(DeltaRequest(CDS, unsubscribe=("*",)), now=0)
    assert accept(stream, snapshot({"a": "2", "b": "2"}, {}, "v2")) == []


def test_after_a_nack_the_next_version_has_all_that_was_rejected() -> None:
    """The client may use a part of it, or nothing."""
    stream = DeltaStream()
    stream.on_request(DeltaRequest(CDS), now=0)
    (first,) = sent(stream, snapshot({"a": "1", "b": "bad"}, {}))
    assert ack(stream, first, "b is bad") is Acknowledgement.NACK
    second = snapshot({"a": "1", "b": "1"}, {}, "v2")
    assert [resources(each) for each in accept(stream, second)] == [({"a", "b"}, set())]
    assert stream.in_sync(second, [CDS])
    third = snapshot({"a": "1", "b": "2"}, {}, "v3")
    assert [resources(each) for each in accept(stream, third)] == [({"b"}, set())]


def test_a_version_stays_rejected_when_the_client_accepts_other_resources_of_it() -> None:
    published = snapshot({}, {"a": "bad", "b": "1"})
    stream = DeltaStream()
    stream.on_request(DeltaRequest(EDS, subscribe=("a",)), now=0)
    (first,) = sent(stream, published)
    ack(stream, first, "a is bad")
    stream.on_request(DeltaRequest(EDS, subscribe=("b",)), now=0)
    assert [resources(each) for each in accept(stream, published)] == [({"b"}, set())]
    assert stream.types[EDS].reason == "a is bad"
    assert not stream.in_sync(published, [EDS])


def test_only_resources_with_a_ttl_are_renewed() -> None:
    both = {"a": Resource.of(b"1", ttl=30.0), "b": Resource.of(b"1")}
    published = Snapshot.of({POLICY: both}, "v1")
    stream = DeltaStream()
    stream.on_request(DeltaRequest(POLICY), now=0)
    (first,) = sent(stream, published, clock=100.0)
    assert resources(first) == ({"a", "b"}, set())
    assert stream.renew_at is None
    ack(stream, first)
    assert stream.renew_at == 110.0
    (again,) = sent(stream, published, clock=110.0)
    assert resources(again) == ({"a"}, set())
    assert stream.in_sync(published)


def test_a_change_of_another_resource_does_not_delay_the_renewal() -> None:
    expiring = Resource.of(b"1", ttl=30.0)
    stream = DeltaStream()
    stream.on_request(DeltaRequest(POLICY), now=0)
    for number in range(3):
        changed = {"a": expiring, "b": Resource.of(bytes([number]))}
        (response,) = sent(stream, Snapshot.of({POLICY: changed}, f"v{number}"), clock=number * 4)
        ack(stream, response)
    assert stream.renew_at == 10.0


def test_a_resource_with_a_ttl_is_sent_again_to_a_client_that_reconnects() -> None:
    """It may end at any time."""
    published = Snapshot.of({POLICY: {"a": Resource.of(b"1", ttl=30.0)}}, "v1")
    stream = DeltaStream()
    stream.on_request(DeltaRequest(POLICY, versions=versions(published, POLICY)), now=0)
    assert len(sent(stream, published)) == 1


@pytest.mark.parametrize(
    "request_of",
    [
        lambda names: [DeltaRequest(EDS, subscribe=names)],
        lambda names: [
            DeltaRequest(EDS, subscribe=names[:2]),
            DeltaRequest(EDS, subscribe=names[2:]),
        ],
        lambda names: [DeltaRequest(CDS, versions=dict.fromkeys(names, "1"))],
        lambda _: [DeltaRequest(EDS, subscribe=["x" * (MAX_NAME + 1)])],
    ],
)
def test_subscriptions_are_bounded(request_of: object) -> None:
    assert callable(request_of)
    requests: list[DeltaRequest] = request_of([str(number) for number in range(MAX_NAMES + 1)])
    stream = DeltaStream()
    for request in requests[:-1]:
        stream.on_request(request, now=0)
    with pytest.raises(OverLimitError):
        stream.on_request(requests[-1], now=0)


def test_clients_with_the_same_names_share_what_they_get() -> None:
    published = snapshot({}, {str(number): "1" for number in range(50)})
    streams = [DeltaStream() for _ in range(3)]
    firsts, changes = set(), set()
    for stream in streams:
        names = tuple(str(number) for number in range(50))
        stream.on_request(DeltaRequest(EDS, subscribe=names), now=0)
        firsts.update(id(each.changes) for each in accept(stream, published))
    changed = snapshot({}, {str(number): str(number % 2) for number in range(50)}, "v2")
    for stream in streams:
        changes.update(id(each.changes) for each in accept(stream, changed))
    assert (len(firsts), len(changes)) == (1, 1)
    assert len({id(stream.types[EDS].subscription.names) for stream in streams}) == 1


Event = str | tuple[str, str] | dict[str, str]


@dataclass
class Endpoints:
    """A client that drops what it unsubscribes from, and rejects responses as a whole."""

    stream: DeltaStream = field(default_factory=DeltaStream)
    names: set[str] = field(default_factory=set)
    held: dict[str, Resource] = field(default_factory=dict)
    outstanding: list[DeltaResponse] = field(default_factory=list)
    published: Snapshot = field(default_factory=lambda: snapshot({}, {"a": "1"}))

    def includes(self, name: str) -> bool:
        return name in self.names or "*" in self.names

    def receive(self) -> None:
        fresh = sent(self.stream, self.published)
        assert len(fresh) + len(self.outstanding) <= 1
        self.outstanding += fresh

    def answer(self, error: str | None = None) -> None:
        response = self.outstanding.pop()
        if error is None:
            self.held.update(response.changes.resources)
            for name in response.changes.removed:
                self.held.pop(name, None)
            self._drop()
        ack(self.stream, response, error)

    def on_event(self, event: Event) -> None:
        if isinstance(event, dict):
            self.published = snapshot({}, event, str(event))
        elif isinstance(event, tuple):
            self._change(*event)
        elif event == "stale":
            self.stream.on_request(DeltaRequest(EDS, nonce="0"), now=0)
        elif self.outstanding:
            self.answer("no" if event == "nack" else None)
        self.receive()

    def _change(self, action: str, name: str) -> None:
        if action == "subscribe":
            self.stream.on_request(DeltaRequest(EDS, subscribe=(name,)), now=0)
            self.names.add(name)
            return
        self.stream.on_request(DeltaRequest(EDS, unsubscribe=(name,)), now=0)
        self.names.discard(name)
        self._drop()

    def _drop(self) -> None:
        self.held = {name: each for name, each in self.held.items() if self.includes(name)}


@example(
    [
        {"a": "1", "c": "1"}, ("subscribe", "c"), "ack", {}, "nack", ("subscribe", "a"),
        ("subscribe", "*"),
    ]
)  # fmt: skip
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["ack", "nack", "stale"]),
            st.tuples(st.sampled_from(["subscribe", "unsubscribe"]), st.sampled_from("abc*")),
            st.dictionaries(st.sampled_from("abc"), st.sampled_from("12")),
        ),
        max_size=40,
    )
)
def test_a_client_has_what_is_published_whatever_happened_before(events: list[Event]) -> None:
    client = Endpoints()
    client.stream.on_request(DeltaRequest(EDS), now=0)
    for event in events:
        client.on_event(event)
    client.published = snapshot({}, {"a": "9", "b": "9"}, "last")
    client.receive()
    while client.outstanding:
        client.answer()
        client.receive()
    wanted = client.published.types[EDS].resources
    assert client.held == {name: each for name, each in wanted.items() if client.includes(name)}
    assert client.stream.in_sync(client.published, [EDS])
