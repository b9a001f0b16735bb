"""The changes of a config that would cut off the clients of a running gateway.

A file that was truncated, or the wrong file, is often a valid config. So such a change takes effect
only if the new config permits it with `allow_disruption`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sluice.config.enumeration import enumerated
from sluice.config.errors import ConfigError, KeyPath, Place, unplaced
from sluice.config.gateway import GatewayConfig, Listener

MIN_MOST_MODELS = 10
"""Removed models from which on "more than half of the models" is a disruption. In a small config,
an operator may well remove two models of three."""

MAX_NAMES = 3
"""Removed models that a message names."""


@dataclass(frozen=True, slots=True)
class Disruption:
    """What a change would do to clients. `path` is the key whose change does it."""

    path: KeyPath
    effect: str


def disruptions(running: GatewayConfig, changed: GatewayConfig) -> list[Disruption]:
    """What a change from the running config would disrupt. Ignores `allow_disruption`."""
    return [found for rule in _RULES for found in rule(running, changed)]


def check_change(running: GatewayConfig, changed: GatewayConfig, place: Place = unplaced) -> None:
    """Raises ConfigError if the change would disrupt, and the new config does not permit it."""
    found = [] if changed.allow_disruption else disruptions(running, changed)
    if found:
        permit = "if this is intended, set allow_disruption: true"
        raise ConfigError([place(each.path, f"{each.effect}; {permit}") for each in found])


def _models(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    served = {path for name, model in changed.models.items() for path in model.prefixes(name)}
    removed = [n for n, model in running.models.items() if served.isdisjoint(model.prefixes(n))]
    if not removed:
        return
    names = enumerated(removed, maximum=MAX_NAMES)
    if len(removed) == len(running.models):
        yield Disruption(("models",), f"this change would remove every model ({names})")
    elif len(removed) >= MIN_MOST_MODELS and 2 * len(removed) > len(running.models):
        total = len(running.models)
        yield Disruption(
            ("models",), f"this change would remove {len(removed)} of {total} models ({names})"
        )


def _streams(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    if running.videos and not changed.videos:
        names = enumerated(list(running.videos), maximum=MAX_NAMES)
        yield Disruption(("videos",), f"this change would stop every camera's stream ({names})")


def _listener(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    for path, _, old, new in _listeners(running, changed):
        if old.address != new.address:
            yield Disruption(
                (*path, "address"),
                f"this change would move the listener from {old.address} to {new.address}, so that "
                "clients could no longer connect",
            )


def _tls(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    for path, of_group, old_listener, new_listener in _listeners(running, changed):
        old, new = old_listener.tls, new_listener.tls
        if (old is None) != (new is None):
            switched, refused = ("off", "with") if new is None else ("on", "without")
            yield Disruption(
                (*path, "tls"),
                f"this change would switch TLS {switched}{of_group}, so that clients {refused} TLS "
                "could no longer connect",
            )
        elif old and new and (old.client_ca is None) != (new.client_ca is None):
            effect = "admit clients without" if new.client_ca is None else "refuse clients without"
            yield Disruption(
                (*path, "tls", "client_ca"), f"this change would {effect} a certificate{of_group}"
            )


def _listeners(
    running: GatewayConfig, changed: GatewayConfig
) -> Iterator[tuple[KeyPath, str, Listener, Listener]]:
    """The listeners before and after a change: of Envoys without a group, and of each group.

    A group that is removed gets the common listener. Nobody knows the Envoys of a new group.
    """
    yield ("listener",), "", running.listener, changed.listener
    for name, group in running.node_groups.items():
        after = changed.node_groups.get(name)
        old = group.listener_of(running.listener)
        new = changed.listener if after is None else after.listener_of(changed.listener)
        if (old, new) != (running.listener, changed.listener):
            path: KeyPath = ("node_groups", name, "listener")
            yield path, f" in the group {name}", old, new


def _group_models(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    """Groups that would serve none of the models that they serve now."""
    for name, group in changed.node_groups.items():
        before = running.node_groups.get(name)
        if before is None or group.models is None:
            continue
        served = set(running.models if before.models is None else before.models)
        if served and served.isdisjoint(group.models):
            yield Disruption(
                ("node_groups", name, "models"),
                f"after this change the group {name} would serve no model that it serves now",
            )


def _credentials(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    """Credentials of a kind that all clients lose, while they need it for a model that stays."""
    old, new = running.auth, changed.auth
    private = any(n in running.models and not m.access.public for n, m in changed.models.items())
    if not private:
        return
    if old.issuers and not new.issuers:
        yield Disruption(
            ("auth", "issuers"),
            "this change would remove every issuer, so that all tokens would be refused",
        )
    if old.api_keys and not new.api_keys:
        yield Disruption(("auth", "api_keys"), "this change would remove every API key")
    elif old.api_keys and old.api_key_header != new.api_key_header:
        yield Disruption(
            ("auth", "api_key_header"),
            f"this change would move API keys from the header {old.api_key_header} to "
            f"{new.api_key_header}, so that the requests of clients would be refused",
        )


def _mesh(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    """The routes that a mesh loses, if istiod gets them from the control plane."""
    if running.istio is None or running.mcp is None:
        return
    if changed.istio is None:
        yield Disruption(("istio",), "this change would remove all routes from the mesh")
    elif set(running.istio.hosts).isdisjoint(changed.istio.hosts):
        hosts = enumerated(running.istio.hosts, maximum=MAX_NAMES)
        yield Disruption(
            ("istio", "hosts"), f"this change would remove every host from the mesh ({hosts})"
        )


_RULES: Final = (_models, _streams, _group_models, _listener, _tls, _credentials, _mesh)
