"""The state-of-the-world variant of the xDS protocol, on one stream, without input or output.

A response carries every subscribed resource of a type, and a nonce. A request that repeats the
nonce accepts (ACK) or rejects (NACK) that response. A request with an older nonce was sent before
the client received the newer response, and is ignored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources, Snapshot, TypeVersion
from xds.protocol.subscription import Subscription

MAX_REASON = 4096
"""Characters of a NACK's reason that are kept: Envoy names every resource that it rejects."""


class Acknowledgement(Enum):
    """What a request says about the response before it."""

    NONE = "none"
    ACK = "ack"
    NACK = "nack"


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
class TypeState:
    """The state of one resource type on a stream: the versions sent, accepted and rejected last.

    `nacked` and `reason` are None after an ACK. `at` is the time of the last ACK or NACK, in
    seconds. `outstanding`: the client has not acknowledged the last response yet. `due`: a response
    must be sent even if the version has been sent already.
    """

    subscription: Subscription
    nonce: str = ""
    sent: TypeVersion | None = None
    acked: TypeVersion | None = None
    nacked: TypeVersion | None = None
    reason: str | None = None
    at: float | None = None
    outstanding: bool = False
    due: bool = True

    def acknowledge(self, error: str | None, now: float) -> Acknowledgement:
        """Record an ACK (no error) or a NACK of the last response."""
        self.outstanding, self.at = False, now
        if error is None:
            self.acked, self.nacked, self.reason = self.sent, None, None
            return Acknowledgement.ACK
        self.nacked, self.reason = self.sent, error[:MAX_REASON] or "no reason given"
        return Acknowledgement.NACK


@dataclass(slots=True)
class SotwStream:
    """The state of one client's stream, by resource type."""

    types: dict[ResourceType, TypeState] = field(default_factory=dict)
    _responses: int = 0

    def on_request(self, request: SotwRequest, now: float) -> Acknowledgement:
        """Process a request. Raises OverLimitError where it exceeds a bound."""
        state = self.types.get(request.type)
        if state is None:
            state = TypeState(Subscription(request.type))
            state.subscription.replace(request.names)
            self.types[request.type] = state
            return Acknowledgement.NONE
        if request.nonce != state.nonce:
            return Acknowledgement.NONE
        verdict = Acknowledgement.NONE
        if state.outstanding:
            verdict = state.acknowledge(request.error, now)
        else:
            # The client asks again for what it has acknowledged. Envoy does so for a cluster that
            # it warms again: it waits for a response even if the endpoints are the same.
            state.due = True
        if state.subscription.replace(request.names):
            state.due = True
        return verdict

    def responses(self, snapshot: Snapshot) -> Iterator[SotwResponse]:
        """The responses that are due, in push order. Taking a response records it as sent."""
        for resource_type in resource_types.ALL:
            state = self.types.get(resource_type)
            if state is not None and self._is_due(state, snapshot):
                yield self._send(state, snapshot)

    def _is_due(self, state: TypeState, snapshot: Snapshot) -> bool:
        if state.outstanding or state.subscription.empty:
            return False
        if state.due:
            return True
        resource_type = state.subscription.type
        if state.sent == snapshot.types[resource_type].version:
            return False
        return not self._waits_for_referrer(resource_type, snapshot)

    def _waits_for_referrer(self, resource_type: ResourceType, snapshot: Snapshot) -> bool:
        """Whether a changed type waits until the client has acknowledged the referrer's change.

        A response that the client has requested never waits: Envoy accepts new clusters only after
        it has received their endpoints.
        """
        if not resource_type.after_referrer or resource_type.referrer is None:
            return False
        referrer = self.types.get(resource_type.referrer)
        if referrer is None:
            return False
        version = snapshot.types[resource_type.referrer].version
        return referrer.outstanding or referrer.sent != version

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

    def in_sync(
        self, snapshot: Snapshot, types: Sequence[ResourceType] = resource_types.ALL
    ) -> bool:
        """Whether the client has accepted these types of a snapshot."""
        return all(self._in_sync(each, snapshot) for each in types)

    def _in_sync(self, resource_type: ResourceType, snapshot: Snapshot) -> bool:
        if self._must_subscribe(resource_type, snapshot):
            return False
        state = self.types.get(resource_type)
        if state is None or state.subscription.empty:
            return True
        acknowledged = not state.outstanding and not state.due
        return acknowledged and state.acked == snapshot.types[resource_type].version

    def _must_subscribe(self, resource_type: ResourceType, snapshot: Snapshot) -> bool:
        """Whether the client has yet to subscribe to what the referrer's resources refer to."""
        referrer = resource_type.referrer
        if referrer is None or referrer not in self.types or not snapshot.types[referrer].resources:
            return False
        names = snapshot.types[resource_type].resources
        if not names:
            return False
        state = self.types.get(resource_type)
        return state is None or not state.subscription.includes_all(names)
