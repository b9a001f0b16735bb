"""Cache of admissions, keyed by the serialized request headers.

Most requests of one client differ only in `x-request-id`, `traceparent` and `content-length`. The
key is a digest of Envoy's ProcessingRequest without the values of these headers, so a hit needs no
decision, and no parsing unless a body handler needs the headers. An entry is small although a
message with a token is not.

A hit returns exactly the response that a decision would give:

- The cache is used only if the stages do not read an omitted value with this policy (`cacheable`).
  Stages declare what they read: see `extproc.decision.reads`.
- The digest is SHA-256, so nobody can find two messages with the same key.
- An admission is cached only if the omitted bytes are the values of these headers (`_is_exact`).
  All lengths stay in the key, so a message with the same key has the same headers in the same
  places.
- Omitted values consist of printable ASCII. A message with another value has another key.
- `get` compares `content-length` with the model's `max_body`, and the time with the expiry of the
  credentials.
"""

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from hashlib import sha256
from types import MappingProxyType
from typing import Final

from extproc.decision import Admission, Reads, declared_reads
from extproc.policy.compiled import Policy
from sluice.contract.headers import CONTENT_LENGTH, REQUEST_ID, TRACEPARENT

MAX_ENTRIES = 16_384
"""The oldest entry is evicted first. There is room for each token of the token cache, and more,
because one caller may send different requests."""

MAX_SEEN = 2 * MAX_ENTRIES
"""Hashes of keys that were seen. An admission is cached when its key is seen for the second time,
so that one-off requests do not evict other entries. With fewer hashes than callers, the keys of
callers that take turns would never be seen for the second time."""

MAX_MESSAGE = 2048
"""Maximum bytes of a message to cache. A typical message with a token has about 1,000 bytes."""

MAX_RESPONSE = 512
"""Maximum bytes of a response to cache. Clients choose its subject and the names of removed
headers, so without a bound they could fill the memory."""

_FIXED_LENGTH = {REQUEST_ID: 36, TRACEPARENT: 55}
"""Lengths of the values that the key omits: a UUID, and version 00 of traceparent
(https://www.w3.org/TR/trace-context/). Values of other lengths stay in the key."""

_OMITTED = frozenset((*_FIXED_LENGTH, CONTENT_LENGTH))


def _serialized_header(name: str, length: bytes, value: bytes) -> bytes:
    """Pattern of a HeaderValue as Envoy serializes it: field 1 is the name, field 3 the value."""
    return re.escape(bytes((len(name),)) + name.encode()) + rb"\x1a" + length + value


# The regex group is the content length, with at most as many digits as the validate stage accepts.
# Two of the three alternatives never match the same number of bytes. The lengths of the enclosing
# messages stay in the key, so one header cannot take the place of another.
_SPLIT = re.compile(
    b"\n(?:%b)"
    % b"|".join(
        (
            *(
                _serialized_header(name, re.escape(bytes((length,))), b"[ -~]{%d}" % length)
                for name, length in _FIXED_LENGTH.items()
            ),
            _serialized_header(CONTENT_LENGTH, rb"[\x01-\x13]", b"([0-9]{1,19})"),
        )
    ),
    re.DOTALL,
)

_OMISSION = secrets.token_bytes(16)
"""Replaces an omitted header in the content of a key. It is random, so no message contains it."""


MessageKey = tuple[bytes, list[bytes | None]]
"""The key of a message, and the values of `content-length` that it omits (None: another header).
A plain tuple, which takes less time to create."""


@dataclass(frozen=True, slots=True)
class CachedAdmission:
    """An admission and its serialized response to Envoy."""

    admission: Admission
    response: bytes
    has_handler: bool
    """Whether the requests need a body handler, which is chosen for each by its headers."""
    has_body: bool


class AdmissionCache:
    """Holds admissions of one policy and one generation of keys. A new one empties the cache."""

    def __init__(self) -> None:
        self._cached: OrderedDict[bytes, CachedAdmission] = OrderedDict()
        self._seen: set[int] = set()
        self._policy: Policy | None = None
        self._key_generation = 0
        self._usable = False
        self.hits = 0
        """Requests whose admission was in the cache."""

    def key(self, policy: Policy, message: bytes) -> MessageKey | None:
        """The key of a message for `get` and `put`; None if its admission cannot be cached."""
        if policy is not self._policy:
            self._set_policy(policy)
        if policy.authenticator.key_generation != self._key_generation:
            self._begin(policy)
        if not self._usable or len(message) > MAX_MESSAGE:
            return None
        parts = _SPLIT.split(message)
        return sha256(_OMISSION.join(parts[::2])).digest(), parts[1::2]

    def get(self, key: MessageKey, clock: Callable[[], float]) -> CachedAdmission | None:
        """The cached admission of a message; None if the message needs a decision.

        `clock` returns seconds since the epoch.
        """
        digest, lengths = key
        cached = self._cached.get(digest)
        if cached is None or clock() >= cached.admission.identity.expires:
            return None
        for length in lengths:
            if length is not None and int(length) > cached.admission.max_body:
                return None
        self.hits += 1
        return cached

    def put(
        self,
        key: MessageKey,
        message: bytes,
        headers: Mapping[str, bytes],
        admission: CachedAdmission,
    ) -> None:
        """Cache the admission of a message if its key is seen for the second time.

        `headers` are the headers in the message.
        """
        digest, _ = key
        if len(admission.response) > MAX_RESPONSE or not self._seen_before(hash(digest)):
            return
        if not _is_exact(message, headers):
            return
        if len(self._cached) >= MAX_ENTRIES:
            self._cached.popitem(last=False)
        self._cached[digest] = _without_claims(admission)

    def clear(self) -> None:
        """Forget all admissions."""
        self._policy = None
        self._cached.clear()
        self._seen.clear()

    def _seen_before(self, key_hash: int) -> bool:
        if key_hash in self._seen:
            return True
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen.add(key_hash)
        return False

    def _set_policy(self, policy: Policy) -> None:
        caches_tokens = policy.authenticator.auth.token_cache_entries > 0
        self._usable = caches_tokens and cacheable(declared_reads(policy))
        self._begin(policy)

    def _begin(self, policy: Policy) -> None:
        self.clear()
        self._policy = policy
        self._key_generation = policy.authenticator.key_generation


def _without_claims(cached: CachedAdmission) -> CachedAdmission:
    """The admission without the claims of the token, which may need much more memory than it.

    A hit needs no claims, only the time at which the token expires.
    """
    identity = cached.admission.identity
    if not identity.claims:
        return cached
    identity = replace(identity, groups=frozenset(), claims=_NO_CLAIMS)
    return replace(cached, admission=replace(cached.admission, identity=identity))


_NO_CLAIMS: Final[Mapping[str, object]] = MappingProxyType({})


def cacheable(reads: Reads) -> bool:
    """Whether the key contains, or a hit checks, every part of a request that decisions read."""
    return (
        not reads.time
        and reads.headers.isdisjoint(_OMITTED)
        and reads.bounded_by_max_body & _OMITTED <= {CONTENT_LENGTH}
        and not any(
            fnmatchcase(name, pattern) for name in _OMITTED for pattern in reads.header_patterns
        )
    )


def _is_exact(message: bytes, headers: Mapping[str, bytes]) -> bool:
    """Whether the omitted bytes are the values of the omitted headers.

    If a name occurs only once in the message, this occurrence is the name of the header.
    """
    return all(message.count(name.encode()) == (name in headers) for name in _OMITTED)
