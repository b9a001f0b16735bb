"""Requests that recur: an admission is found again by a request's bytes, without reading them.

One client's requests differ in their id, their trace and their length, and in little else. So a
ProcessingRequest without those values names the admission that a request like it was given before:
1 us to find it, where reading the headers and deciding on them take 10 (python -m bench.decide).

This is exact. An admission is kept only where what is cut out is the whole of those headers' values
(`_exact`), and every length stays in the key. So another message with the same key has the same
headers at the same places, but for values that decisions do not depend on, or that `get` checks.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from extproc.decision import Admission
from extproc.policy.compiled import Policy

ENTRIES = 2048
"""Admissions that are kept; the oldest goes first."""

SEEN = 8192
"""Messages remembered by their hash alone: an admission is kept when its like comes again, so that
what never recurs costs 2 us more and not 4, and displaces nothing.
"""

LARGEST = 2048
"""Bytes of a message whose admission is kept: a usual one, with a token, has 1,000."""

_VARYING = ("x-request-id", "traceparent", "content-length")

# HeaderValues as Envoy writes them: field 1 is the name, field 3 the raw value. The id is a UUID,
# the trace has the form of https://www.w3.org/TR/trace-context/ version 00, and a length no more
# digits than decisions take: so no two of the three have the same length in all, which stays in the
# key. Splitting takes 0.6 us, a `partition` for each name 0.9.
_CUT = re.compile(
    rb"\n(?:\x0cx-request-id\x1a\x24.{36}|\x0btraceparent\x1a\x37.{55}"
    rb"|\x0econtent-length\x1a[\x01-\x13]([0-9]{1,19}))",
    re.DOTALL,
)


MessageParts = list[bytes]
"""A message, cut: what names requests like it at even places, lengths or None at odd ones."""


@dataclass(frozen=True, slots=True)
class CachedAdmission:
    """An admission, and the serialised answer that told of it."""

    admission: Admission
    response: bytes


class AdmissionCache:
    """The admissions of the policy in force, with the keys it knows now."""

    def __init__(self) -> None:
        self._cached: OrderedDict[tuple[bytes, ...], CachedAdmission] = OrderedDict()
        self._seen: set[int] = set()
        self._policy: Policy | None = None
        self._epoch = 0
        self._usable = False
        self.hits = 0
        """Requests whose admission was found."""

    def split(self, policy: Policy, message: bytes) -> MessageParts | None:
        """The message in parts; None where nothing is kept of requests like it."""
        if policy is not self._policy or policy.authenticator.epoch != self._epoch:
            self._reset(policy)
        return _CUT.split(message) if self._usable and len(message) <= LARGEST else None

    def get(self, parts: MessageParts, clock: Callable[[], float]) -> CachedAdmission | None:
        """The admission of requests like this one; None where it must be decided on.

        `clock`: seconds since the epoch.
        """
        known = self._cached.get(tuple(parts[::2]))
        if known is None or clock() >= known.admission.identity.expires:
            return None
        for length in parts[1::2]:
            if length is not None and int(length) > known.admission.max_body:
                return None
        self.hits += 1
        return known

    def put(
        self,
        parts: MessageParts,
        message: bytes,
        headers: Mapping[str, bytes],
        admission: Admission,
        response: bytes,
    ) -> None:
        """Remember what became of a message with these headers, if it was cut as it should be.

        That is, from the second of its like on.
        """
        key = tuple(parts[::2])
        if self._is_new(hash(key)) or not _exact(message, headers):
            return
        if len(self._cached) >= ENTRIES:
            self._cached.popitem(last=False)
        self._cached[key] = CachedAdmission(admission, response)

    def _is_new(self, mark: int) -> bool:
        if mark in self._seen:
            return False
        if len(self._seen) >= SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return True

    def _reset(self, policy: Policy) -> None:
        self._cached.clear()
        self._seen.clear()
        self._policy, self._epoch = policy, policy.authenticator.epoch
        remembers = policy.authenticator.auth.token_cache_entries > 0
        self._usable = remembers and policy.reads.isdisjoint(_VARYING)


def _exact(message: bytes, headers: Mapping[str, bytes]) -> bool:
    """Whether what is cut out is these headers' values, and no part of another's.

    A name that occurs but once in the message is that header's own.
    """
    return all(message.count(name.encode()) == (name in headers) for name in _VARYING)
