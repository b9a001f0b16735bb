"""The rules of the state-of-the-world variant of the xDS protocol, on one stream, without I/O.

A response carries every subscribed resource of a type, and a nonce. A request that repeats the
nonce accepts (ACK) or rejects (NACK) that response. A request with an older nonce was sent before
the client received the newer response, and is ignored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources, Snapshot, TypeVersion
from xds.protocol.stream import Acknowledgement, Stream, TypeState
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

    def responses(self, snapshot: Snapshot) -> Iterator[SotwResponse]:
        """The responses that are due, in push order. Taking a response records it as sent."""
        for resource_type in resource_types.ALL:
            state = self.types.get(resource_type)
            if state is not None and self._is_due(state, snapshot):
                yield self._send(state, snapshot)

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

    def _send(self, state: TypeState, snapshot: Snapshot) -> SotwResponse:
        subscription = state.subscription
        resource_set = snapshot.types[subscription.type]
        self._responses += 1
        state.nonce = str(self._responses)
        state.sent, state.outstanding, state.due = resource_set.version, True, False
        subscribed = {
            name: resource
            for name, resource in resource_set.resources.items()
            if subscription.includes(name)
        }
        return SotwResponse(subscription.type, resource_set.version, state.nonce, subscribed)
