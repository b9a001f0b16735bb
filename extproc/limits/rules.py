"""Limit rules of the config, compiled: whom a rule is for, which budget is meant, what it costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from extproc.limits.arithmetic import Algorithm, Limit
from sluice.config.limits import UNIT_SECONDS, LimitMatch, LimitRule


@dataclass(frozen=True, slots=True)
class RequestView:
    """What limits may depend on. Everything but `headers` and `client_address` is verified.

    Header names are lower-case; `body_size` is in bytes, None where the client did not say.
    """

    subject: str | None = None
    groups: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    version: str = ""
    model_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    client_address: str = ""
    body_size: int | None = None


MAX_KEYS = 1000
"""Keys a rule remembers."""

MAX_KEY_LENGTH = 256
"""Characters of values worth remembering: clients choose them, and may choose long ones."""

Part = Callable[[RequestView], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule ready to be applied."""

    name: str
    limit: Limit
    shadow: bool
    window: int
    """Seconds in which the quota renews itself."""
    config: LimitRule
    parts: tuple[Part, ...]
    prefix: str
    keys: dict[tuple[str, ...], str] = field(default_factory=dict, compare=False, repr=False)
    """Recent keys by their values: hashing is the dearest part of a check."""

    def applies(self, view: RequestView) -> bool:
        """Whether the request meets every condition."""
        conditions = self.config.match
        return not conditions or all(_meets(match, view) for match in conditions)

    def key(self, view: RequestView) -> str:
        """The budget's key. Values are hashed: they are of any length, and nobody's business."""
        if not self.parts:
            return self.prefix
        values = tuple([part(view) for part in self.parts])
        key = self.keys.get(values)
        if key is None:
            key = self._hashed(values)
            if len(self.keys) >= MAX_KEYS:
                self.keys.clear()
            if sum(map(len, values)) <= MAX_KEY_LENGTH:
                self.keys[values] = key
        return key

    def _hashed(self, values: tuple[str, ...]) -> str:
        digest = blake2b(digest_size=16)
        for value in values:
            encoded = value.encode()
            digest.update(b"%d:%b" % (len(encoded), encoded))
        return f"{self.prefix}:{digest.hexdigest()}"

    def cost(self, view: RequestView) -> int:
        """Tokens the request takes: at least 1, at most what the limit can ever admit."""
        cost = self.config.cost
        if cost.per_body is None and cost.header is None:
            return cost.constant
        most = self.limit.capacity if cost.maximum is None else cost.maximum
        tokens = cost.constant
        if cost.per_body is not None:
            size = view.body_size
            tokens = max(tokens, most if size is None else -(-size // cost.per_body))
        if cost.header is not None:
            tokens = max(tokens, _number(view.headers.get(cost.header, "")))
        return min(tokens, most)


def compile_rule(config: LimitRule) -> Rule:
    """Make a rule of its config."""
    seconds = UNIT_SECONDS[config.per]
    algorithm = Algorithm(config.algorithm)
    window = seconds
    if algorithm is Algorithm.TOKEN_BUCKET:
        window = max(1, -(-config.capacity * seconds // config.rate))
    # A budget's past means nothing to another algorithm, nor a level to another unit.
    return Rule(
        name=config.name,
        limit=Limit(algorithm, config.rate, seconds * 1_000_000, config.capacity),
        shadow=config.shadow,
        window=window,
        config=config,
        parts=tuple(_part(name) for name in config.key),
        prefix=f"{config.name}:{algorithm}:{config.per}",
    )


def _part(name: str) -> Part:
    kind, _, argument = name.partition(":")
    if kind == "claim":
        return lambda view: view.claims.get(argument, "")
    if kind == "header":
        return lambda view: view.headers.get(argument, "")
    return _PARTS[kind]


_PARTS: dict[str, Part] = {
    "subject": lambda view: view.subject or "",
    "group": lambda view: "\n".join(sorted(view.groups)),
    "model": lambda view: view.model,
    "version": lambda view: view.version,
    "model_type": lambda view: view.model_type or "",
    "client_address": lambda view: view.client_address,
}


def _meets(match: LimitMatch, view: RequestView) -> bool:
    values = view.groups if match.part == "group" else (_part(match.part)(view),)
    if match.match == "exact":
        return any(value in match.values for value in values)
    return any(value.startswith(match.values) for value in values)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
