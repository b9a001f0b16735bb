"""Compiled limit rules: which requests a rule applies to, which budget they use and their cost."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from extproc.caller import caller_name
from extproc.limits.arithmetic import MICROS_PER_SECOND, Algorithm, Limit
from sluice.config.limits import UNIT_SECONDS, LimitMatch, LimitRule


def _no_claim(_: str) -> Collection[str]:
    return ()


@dataclass(frozen=True, slots=True)
class RequestView:
    """The parts of a request that rules use.

    `subject`, `groups` and `claims` come from verified credentials. `claims` returns the values of
    a claim by its name. Header names are in lower case. `body_size` is in bytes; None if it is not
    known in advance.
    """

    subject: str | None = None
    groups: Collection[str] = ()
    claims: Callable[[str], Collection[str]] = _no_claim
    model: str = ""
    version: str = ""
    model_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    client_address: str = ""
    body_size: int | None = None

    @property
    def owner(self) -> str:
        """Who chooses the header values: the subject, or the network of an anonymous client."""
        return caller_name(self.subject, self.client_address)


MAX_CACHED_KEYS = 1000
"""Keys that a rule caches."""

MAX_CACHED_LENGTH = 256
"""Characters of the values of a cached key. Clients choose the values, so they may be long."""

Part = Callable[[RequestView], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule."""

    name: str
    limit: Limit
    shadow: bool
    window: int
    """Seconds in which an empty budget fills up."""
    config: LimitRule
    parts: tuple[Part, ...]
    prefix: str
    client_chosen: bool
    """Whether clients choose the values of the key: headers, or one of many own addresses."""
    keys: dict[tuple[str, ...], str] = field(default_factory=dict, compare=False, repr=False)
    """Cached keys by the values of their parts: hashing is the slowest part of a check."""

    def applies(self, view: RequestView) -> bool:
        """Return whether the request meets every condition."""
        conditions = self.config.match
        return not conditions or all(_meets(match, view) for match in conditions)

    def key(self, view: RequestView) -> str:
        """Return the budget's key, with a hash of the values: they may be long or confidential."""
        if not self.parts:
            return self.prefix
        values = tuple([part(view) for part in self.parts])
        key = self.keys.get(values)
        if key is None:
            key = self._hashed(values)
            if len(self.keys) >= MAX_CACHED_KEYS:
                self.keys.clear()
            if sum(map(len, values)) <= MAX_CACHED_LENGTH:
                self.keys[values] = key
        return key

    def _hashed(self, values: tuple[str, ...]) -> str:
        digest = blake2b(digest_size=16)
        for value in values:
            encoded = value.encode()
            digest.update(b"%d:%b" % (len(encoded), encoded))
        return f"{self.prefix}:{digest.hexdigest()}"

    def cost(self, view: RequestView) -> int:
        """Return the tokens that the request takes: at least 1, at most the limit's capacity."""
        cost = self.config.cost
        if cost.per_body is None and cost.header is None:
            return cost.constant
        maximum = self.limit.capacity if cost.maximum is None else cost.maximum
        tokens = cost.constant
        if cost.per_body is not None:
            size = view.body_size
            tokens = max(tokens, maximum if size is None else -(-size // cost.per_body))
        header = None if cost.header is None else view.headers.get(cost.header)
        if header is not None:
            tokens = max(tokens, _number(header, maximum))
        return min(tokens, maximum)


def compile_rule(config: LimitRule) -> Rule:
    """Compile one rule of the config."""
    seconds = UNIT_SECONDS[config.per]
    algorithm = Algorithm(config.algorithm)
    window = seconds
    if algorithm is Algorithm.TOKEN_BUCKET:
        window = max(1, -(-config.capacity * seconds // config.rate))
    # The prefix has algorithm and unit, because another algorithm or unit needs a new budget.
    return Rule(
        name=config.name,
        limit=Limit(algorithm, config.rate, seconds * MICROS_PER_SECOND, config.capacity),
        shadow=config.shadow,
        window=window,
        config=config,
        parts=tuple(_part(name) for name in config.key),
        prefix=f"{config.name}:{algorithm}:{config.per}",
        client_chosen=any(map(_is_client_chosen, config.key)),
    )


def _is_client_chosen(part: str) -> bool:
    return part == "client_address" or part.startswith("header:")


def _part(name: str) -> Part:
    kind, _, argument = name.partition(":")
    if kind == "claim":
        return lambda view: _joined(view.claims(argument))
    if kind == "header":
        return lambda view: view.headers.get(argument, "")
    return _PARTS[kind]


_PARTS: dict[str, Part] = {
    "subject": lambda view: view.subject or "",
    "group": lambda view: _joined(view.groups),
    "model": lambda view: view.model,
    "version": lambda view: view.version,
    "model_type": lambda view: view.model_type or "",
    "client_address": lambda view: view.client_address,
}


def _joined(values: Collection[str]) -> str:
    """One text for all values, in an order that does not depend on the token."""
    return "\n".join(sorted(values))


def _meets(match: LimitMatch, view: RequestView) -> bool:
    values = _values(match.part, view)
    if match.match == "exact":
        return any(value in match.values for value in values)
    return any(value.startswith(match.values) for value in values)


def _values(part: str, view: RequestView) -> Collection[str]:
    """The values of a part, one of which must match. A missing claim has the empty value."""
    kind, _, argument = part.partition(":")
    if kind == "group":
        return view.groups
    if kind == "claim":
        return view.claims(argument) or ("",)
    return (_part(part)(view),)


def _number(text: str, maximum: int) -> int:
    """Return the number in a header of any length, at most `maximum`. Other text is `maximum`."""
    if not (text.isascii() and text.isdigit()):
        return maximum
    digits = text.lstrip("0")
    # `int` refuses thousands of digits.
    return maximum if len(digits) > len(str(maximum)) else min(int(digits or "0"), maximum)
