"""Finds the limit of a descriptor, as envoyproxy/ratelimit does with the same config.

Each entry of a descriptor selects a child in the configured tree, by its key and in this order: the
child with the same value, the first child with a pattern (`a*`, `a*b`) that matches the value, the
child without a value. The descriptor has the limit of the node that its last entry selects.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.config.rate_limit_service import Descriptor, RateLimitDomain, RateLimitPolicy

DescriptorEntry = tuple[str, str]
"""Key and value."""


@dataclass(frozen=True, slots=True)
class Match:
    """The limit of a descriptor. `counter` is the name under which its hits are counted."""

    policy: RateLimitPolicy
    counter: str
    shadow: bool = False
    quota: bool = False


@dataclass(slots=True)
class _Node:
    config: Descriptor | None = None
    exact: dict[DescriptorEntry, "_Node"] = field(default_factory=dict)
    patterns: list[tuple[str, list[str], "_Node"]] = field(default_factory=list)
    defaults: dict[str, "_Node"] = field(default_factory=dict)

    def child(self, key: str, value: str) -> "_Node | None":
        found = self.exact.get((key, value))
        if found is not None:
            return found
        for pattern_key, parts, node in self.patterns:
            if key == pattern_key and _matches(parts, value):
                return node
        return self.defaults.get(key)


class DescriptorMatcher:
    """The descriptor trees of all domains."""

    def __init__(self, domains: Mapping[str, RateLimitDomain]) -> None:
        self._domains = {name: _tree(domain.descriptors) for name, domain in domains.items()}

    def __contains__(self, domain: str) -> bool:
        return domain in self._domains

    def find(self, domain: str, entries: Sequence[DescriptorEntry]) -> Match | None:
        """Return the limit of a descriptor; None if it has none."""
        node = self._domains.get(domain)
        names = [domain]
        for key, value in entries:
            node = None if node is None else node.child(key, value)
            if node is None or node.config is None:
                return None
            config = node.config
            names.append(f"{key}_{config.value}" if config.value else key)
        leaf = None if node is None else node.config
        if leaf is None or leaf.rate_limit is None:
            return None
        if leaf.detailed_metric:
            names[1:] = [f"{key}_{value}" for key, value in entries]
        return Match(leaf.rate_limit, ".".join(names), leaf.shadow_mode, leaf.quota_mode)


def without_replaced(matches: Iterable[Match | None]) -> list[Match | None]:
    """Set matches to None if their limit is replaced by another limit of the same request."""
    matches = list(matches)
    replaced = {name for match in matches if match is not None for name in match.policy.replaces}
    return [
        match
        if match is None or match.policy.unlimited or match.policy.name not in replaced
        else None
        for match in matches
    ]


def _tree(descriptors: Iterable[Descriptor]) -> _Node:
    root = _Node()
    for config in descriptors:
        node = _tree(config.descriptors)
        node.config = config
        if not config.value:
            root.defaults[config.key] = node
        elif "*" in config.value:
            root.patterns.append((config.key, config.value.split("*"), node))
        else:
            root.exact[(config.key, config.value)] = node
    return root


def _matches(parts: Sequence[str], value: str) -> bool:
    """Return whether a value consists of the parts in order, with any text between them."""
    first, *middle, last = parts
    if len(value) < len(first) + len(last) or not value.startswith(first):
        return False
    end = len(value) - len(last)
    at = len(first)
    for part in middle:
        at = value.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return value.endswith(last)
