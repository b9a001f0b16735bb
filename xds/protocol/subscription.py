"""What one client has asked for and been told: the state of one ADS stream, without the stream.

The state-of-the-world variant of the xDS protocol. Every response carries a nonce, and a request
that repeats it accepts (ACK) or refuses (NACK) that response; a request with an older nonce crossed
a newer response on its way and says nothing new.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from xds.protocol import resource_types
from xds.protocol.resource_types import ResourceType
from xds.protocol.snapshot import Resources, Snapshot

MAX_NAMES = 100_000
"""Resource names in one request: 10,000 models with ten versions each."""

MAX_REASON = 4096
"""Characters kept of a refusal; Envoy names every resource it refused."""

Kind = Literal["envoy", "callout", "unknown"]


class OverLimitError(Exception):
    """A request that no honest client sends; the stream ends."""


class Acknowledgement(Enum):
    """What a request says about the response before it."""

    NONE = "none"
    ACK = "ack"
    NACK = "nack"


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """A DiscoveryRequest; `error` is error_detail.message, or None without error_detail."""

    type: ResourceType
    version: str = ""
    names: Sequence[str] = ()
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SubscriptionResponse:
    """A DiscoveryResponse to send."""

    type: ResourceType
    version: str
    nonce: str
    resources: Resources


@dataclass(slots=True)
class Subscription:
    """One type on one stream. `at` is the time (seconds) of the last answer."""

    type: ResourceType
    names: frozenset[str] | None = frozenset()
    nonce: str = ""
    sent: str | None = None
    acked: str | None = None
    nacked: str | None = None
    reason: str | None = None
    at: float | None = None
    outstanding: bool = False
    due: bool = True

    @property
    def ready(self) -> bool:
        """Whether the client can take a response: it asked for something, and owes no answer."""
        return self.names != frozenset() and not self.outstanding

    def wants(self, name: str) -> bool:
        """Whether a resource is among what was asked for."""
        return self.names is None or name in self.names

    def asks_for(self, names: Sequence[str]) -> None:
        """Note the names of a request; none means everything where the type has a wildcard."""
        if len(names) > MAX_NAMES:
            raise OverLimitError(f"more than {MAX_NAMES} resource names in one request")
        everything = self.type.wildcard and (not names or "*" in names)
        asked = None if everything else frozenset(names)
        if self.sent is not None and self._adds(asked):
            self.due = True
        self.names = asked

    def _adds(self, asked: frozenset[str] | None) -> bool:
        if self.names is None:
            return False
        return asked is None or not asked <= self.names

    def answered(self, error: str | None, now: float) -> Acknowledgement:
        """Note an ACK, or a NACK with its reason."""
        self.outstanding, self.at = False, now
        if error is None:
            self.acked, self.nacked, self.reason = self.sent, None, None
            return Acknowledgement.ACK
        self.nacked, self.reason = self.sent, error[:MAX_REASON] or "no reason given"
        return Acknowledgement.NACK


@dataclass(slots=True)
class Stream:
    """The subscriptions of one client, and what to send it next."""

    subscriptions: dict[ResourceType, Subscription] = field(default_factory=dict)
    _count: int = 0

    @property
    def kind(self) -> Kind:
        """What the client is, by what it asks for."""
        if resource_types.POLICY in self.subscriptions:
            return "callout"
        return "envoy" if resource_types.CLUSTER in self.subscriptions else "unknown"

    def on_request(self, request: SubscriptionRequest, now: float) -> Acknowledgement:
        """Take in a request. Raises OverLimitError where it exceeds a bound."""
        subscription = self.subscriptions.get(request.type)
        if subscription is None:
            subscription = Subscription(request.type)
            subscription.asks_for(request.names)
            self.subscriptions[request.type] = subscription
            return Acknowledgement.NONE
        if request.nonce != subscription.nonce:
            return Acknowledgement.NONE
        verdict = Acknowledgement.NONE
        if subscription.outstanding:
            verdict = subscription.answered(request.error, now)
        else:
            # Asked again after the answer: Envoy does so for a cluster that it warms anew, and
            # waits for endpoints even if they are the ones it had.
            subscription.due = True
        subscription.asks_for(request.names)
        return verdict

    def responses(self, view: Snapshot) -> Iterator[SubscriptionResponse]:
        """What has to be sent now, in order; each is noted as sent when it is taken."""
        for kind in resource_types.ALL:
            subscription = self.subscriptions.get(kind)
            if subscription is None or not subscription.ready or self._held(subscription, view):
                continue
            version = view.versions[kind]
            if subscription.due or subscription.sent != version:
                yield self._send(subscription, version, view.resources[kind])

    def _held(self, subscription: Subscription, view: Snapshot) -> bool:
        """Endpoints that nobody waits for come after the clusters that they belong to.

        Those that were asked for come at once: Envoy accepts new clusters only when it has them.
        """
        referrer = subscription.type.referrer
        if referrer is None or not subscription.type.after_referrer or subscription.due:
            return False
        referring = self.subscriptions.get(referrer)
        if referring is None:
            return False
        return referring.outstanding or referring.sent != view.versions[referrer]

    def _send(
        self, subscription: Subscription, version: str, resources: Resources
    ) -> SubscriptionResponse:
        self._count += 1
        subscription.nonce = str(self._count)
        subscription.sent, subscription.outstanding, subscription.due = version, True, False
        wanted = {name: body for name, body in resources.items() if subscription.wants(name)}
        return SubscriptionResponse(subscription.type, version, subscription.nonce, wanted)

    def in_sync(self, view: Snapshot, types: Sequence[ResourceType] = resource_types.ALL) -> bool:
        """Whether the client has accepted what the view says of these types."""
        return all(self._in_sync(each, view) for each in types)

    def _in_sync(self, kind: ResourceType, view: Snapshot) -> bool:
        subscription = self.subscriptions.get(kind)
        if not self._asks_as_it_should(kind, subscription, view):
            return False
        if subscription is None or subscription.names == frozenset():
            return True
        answered = not subscription.outstanding and not subscription.due
        return answered and subscription.acked == view.versions[kind]

    def _asks_as_it_should(
        self, kind: ResourceType, subscription: Subscription | None, view: Snapshot
    ) -> bool:
        """False while an Envoy has yet to ask for what its clusters and listeners refer to."""
        referrer = kind.referrer
        if referrer is None or referrer not in self.subscriptions or not view.resources[referrer]:
            return True
        names = view.resources[kind]
        return not names or (subscription is not None and all(map(subscription.wants, names)))
