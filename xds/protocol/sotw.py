"""The rules of the state-of-the-world variant of the xDS protocol, on one stream, without I/O.

A response carries every subscribed resource of a type, and a nonce. A request that repeats the
nonce accepts (ACK) or rejects (NACK) that response. A request with an older nonce was sent before
the client received the newer response, and is ignored.

Resources with a TTL are sent again before it ends ("TTL" in the xDS protocol). They are sent with
their content: a heartbeat without content does not restore a resource that the client has dropped,
for example because one of both processes was stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources, ResourceSet, Snapshot, TypeVersion
from xds.protocol.stream import SENDS_IN_TTL, Acknowledgement, ResourceState, Stream, TypeState
from xds.protocol.subscription import Subscription


@dataclass(frozen=True, slots=True)
class SotwRequest:
    """A DiscoveryRequest. `error` is `error_detail.message`; None without `error_detail`.

    `version` has no effect: a new stream gets every resource again.
    """

    type: ResourceType
    version: str = ""
    names: Sequence[str] = ()
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SotwResponse:
    """A DiscoveryResponse to send."""

    type: ResourceType
    version: TypeVersion
    nonce: str
    resources: Resources


@dataclass(slots=True)
class SotwStream(Stream):
    """One client's stream."""

    _responses: int = 0

    def on_request(self, request: SotwRequest, now: float) -> Acknowledgement:
        """Process a request. Raises OverLimitError if the request exceeds a limit."""
        state = self.types.get(request.type)
        if state is None:
            state = TypeState(Subscription(request.type))
            state.subscription.replace(request.names)
            self.types[request.type] = state
            return Acknowledgement.NONE
        if request.nonce != state.nonce:
            return Acknowledgement.NONE
        acknowledgement = Acknowledgement.NONE
        if state.outstanding:
            acknowledgement = state.acknowledge(request.error, now)
        else:
            # The client sends another request after its ACK or NACK. Envoy does so when it warms a
            # cluster again, and then waits for a response even if the endpoints are the same.
            state.due = True
        if state.subscription.replace(request.names):
            state.due = True
        return acknowledgement

    def responses(self, snapshot: Snapshot, clock: float) -> Iterator[SotwResponse]:
        """The responses that are due, in push order. Taking a response records it as sent.

        `clock`: monotonic seconds.
        """
        for resource_type in resource_types.ALL:
            state = self.types.get(resource_type)
            if state is None:
                continue
            changed = self._is_due(state, snapshot)
            if changed or state.must_renew(clock):
                yield self._send(state, snapshot, clock, renewal=not changed)

    def _resource_state(
        self, state: TypeState, name: str, resources: ResourceSet
    ) -> tuple[str, ResourceState]:
        if state.sent is None:
            return "", ResourceState.NOT_SENT
        if state.outstanding:
            return state.sent.info, ResourceState.SENT
        if state.nacked is not None:
            return state.nacked.info, ResourceState.NACKED
        sent = state.sent == resources.version
        return state.sent.info, ResourceState.ACKED if sent else ResourceState.NOT_SENT

    def _is_due(self, state: TypeState, snapshot: Snapshot) -> bool:
        resource_type = state.subscription.type
        resource_set = snapshot.types[resource_type]
        if state.outstanding or state.subscription.empty or not resource_set.published:
            return False
        if state.due:
            return True
        if state.sent == resource_set.version:
            return False
        return not self._waits_for_referrer(resource_type, snapshot)

    def _send(
        self, state: TypeState, snapshot: Snapshot, clock: float, *, renewal: bool
    ) -> SotwResponse:
        subscription = state.subscription
        resource_set = snapshot.types[subscription.type]
        self._responses += 1
        state.nonce = str(self._responses)
        state.sent, state.outstanding, state.due = resource_set.version, True, False
        subscribed = subscription.select(resource_set.resources)
        ttls = [each.ttl for each in subscribed.values() if each.ttl is not None]
        state.renew_at = clock + min(ttls) / SENDS_IN_TTL if ttls else None
        state.renewal = renewal
        return SotwResponse(subscription.type, resource_set.version, state.nonce, subscribed)
