"""An Envoy that asks for a cluster which does not exist yet waits for it (on-demand CDS)."""

import pytest

from xds.protocol.delta import AWAIT, DeltaRequest, DeltaResponse, DeltaStream
from xds.protocol.resource_types import CLUSTER, ENDPOINT
from xds.protocol.snapshot import Resource, Snapshot
from xds.resources import awaited_clusters


def clusters(*names: str) -> Snapshot:
    resources = {name: Resource.of(name.encode()) for name in names}
    return Snapshot.of({CLUSTER: resources, ENDPOINT: {}}, "-".join(names))


class Asking:
    """A stream of the service of clusters, on which names are requested."""

    def __init__(self) -> None:
        self.stream = DeltaStream(aggregated=False)
        self.nonce = ""

    def ask(self, *names: str) -> None:
        self.stream.on_request(DeltaRequest(CLUSTER, names, nonce=self.nonce), now=0)

    def receive(self, snapshot: Snapshot, clock: float = 0.0) -> tuple[set[str], set[str]]:
        """The names that a response has, and those that it says are gone. Accepts it."""
        due: list[DeltaResponse] = list(self.stream.responses(snapshot, clock))
        if not due:
            return set(), set()
        (response,) = due
        self.nonce = response.nonce
        self.ask()
        return set(response.changes.resources), set(response.changes.removed)


@pytest.mark.parametrize("others", [(), ("a",)], ids=["first request", "later request"])
def test_a_cluster_that_comes_late_is_sent_when_it_comes(others: tuple[str, ...]) -> None:
    client = Asking()
    if others:
        client.ask(*others)
        assert client.receive(clusters("a")) == ({"a"}, set())
    client.ask("late")
    assert client.receive(clusters("a")) == (set(), set())
    assert client.receive(clusters("a", "late")) == ({"late"}, set())
    # It is not sent again when its time is over.
    client.stream.remove_kept()
    assert client.receive(clusters("a", "late"), AWAIT) == (set(), set())


@pytest.mark.parametrize("others", [(), ("a",)], ids=["first request", "later request"])
def test_a_cluster_that_does_not_come_is_reported_as_gone_once(others: tuple[str, ...]) -> None:
    client = Asking()
    if others:
        client.ask(*others)
        client.receive(clusters("a"))
    client.ask("never")
    assert client.receive(clusters("a"), 1.0) == (set(), set())
    assert client.stream.renew_at == 1.0 + AWAIT
    client.stream.remove_kept()
    assert client.receive(clusters("a"), 1.0 + AWAIT) == (set(), {"never"})
    assert client.stream.renew_at is None
    assert client.receive(clusters("a"), 2 + AWAIT) == (set(), set())
    # The next request waits again.
    client.ask("never")
    assert client.receive(clusters("a"), 2 + AWAIT) == (set(), set())
    assert client.receive(clusters("a", "never"), 2 + AWAIT) == ({"never"}, set())


def test_a_cluster_that_is_removed_is_reported_at_once() -> None:
    client = Asking()
    client.ask("a", "b")
    assert client.receive(clusters("a", "b")) == ({"a", "b"}, set())
    assert client.receive(clusters("a")) == (set(), {"b"})


def test_an_envoy_does_not_wait_until_it_is_told() -> None:
    assert awaited_clusters.TIMEOUT < AWAIT
