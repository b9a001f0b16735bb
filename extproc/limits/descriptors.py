"""Finds the limit that a descriptor means, as envoyproxy/ratelimit does from the same config.

Entries are matched one after the other down the configured tree: key and value, then a prefix
(`value*`), then the key alone. Only the limit at the last entry's depth counts.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sluice.config.limits import Descriptor, RateLimitDomain, RateLimitPolicy

Entry = tuple[str, str]
"""Key and value."""


@dataclass(frozen=True, slots=True)
class Match:
    """A configured limit, and the name under which its hits are counted."""

    policy: RateLimitPolicy
    stat: str
    shadow: bool = False


@dataclass(slots=True)
class _Node:
    config: Descriptor | None = None
    exact: dict[Entry, "_Node"] = field(default_factory=dict)
    prefixes: list[tuple[str, str, "_Node"]] = field(default_factory=list)
    defaults: dict[str, "_Node"] = field(default_factory=dict)

    def child(self, key: str, value: str) -> "_Node | None":
        found = self.exact.get((key, value))
        if found is not None:
            return found
        for prefix_key, prefix, node in self.prefixes:
            if key == prefix_key and value.startswith(prefix):
                return node
        return self.defaults.get(key)


class Descriptors:
    """All domains of a config, as a tree to look up descriptors in."""

    def __init__(self, domains: Mapping[str, RateLimitDomain]) -> None:
        self._domains = {name: _tree(domain.descriptors) for name, domain in domains.items()}

    def __contains__(self, domain: str) -> bool:
        return domain in self._domains

    def find(self, domain: str, entries: Sequence[Entry]) -> Match | None:
        """The limit for a descriptor of a domain; None where there is none."""
        node = self._domains.get(domain)
        names = [domain]
        detailed = False
        for key, value in entries:
            node = None if node is None else node.child(key, value)
            if node is None or node.config is None:
                return None
            config = node.config
            detailed = detailed or config.detailed_metric
            names.append(f"{key}_{config.value}" if config.value else key)
        if node is None or node.config is None or node.config.rate_limit is None:
            return None
        if detailed:
            names[1:] = [f"{key}_{value}" if value else key for key, value in entries]
        return Match(node.config.rate_limit, ".".join(names), node.config.shadow_mode)


def without_replaced(matches: Iterable[Match | None]) -> list[Match | None]:
    """Drop limits that another limit of the same request replaces."""
    matches = list(matches)
    replaced = {name for match in matches if match is not None for name in match.policy.replaces}
    return [
        None if match is not None and match.policy.name in replaced else match for match in matches
    ]


def _tree(descriptors: Iterable[Descriptor]) -> _Node:
    root = _Node()
    for config in descriptors:
        node = _tree(config.descriptors)
        node.config = config
        if not config.value:
            root.defaults[config.key] = node
        elif config.value.endswith("*"):
            root.prefixes.append((config.key, config.value[:-1], node))
        else:
            root.exact[(config.key, config.value)] = node
    return root
