"""The changes of a config that would cut off the clients of a running gateway.

A file that was truncated, or the wrong file, is often a valid config. So such a change takes effect
only if the new config permits it with `allow_disruption`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sluice.config.enumeration import enumerated
from sluice.config.errors import ConfigError, KeyPath, Place, unplaced
from sluice.config.gateway import GatewayConfig

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


def _listener(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    old, new = running.listener.address, changed.listener.address
    if old != new:
        yield Disruption(
            ("listener", "address"),
            f"this change would move the listener from {old} to {new}, so that clients could no "
            "longer connect",
        )


def _tls(running: GatewayConfig, changed: GatewayConfig) -> Iterator[Disruption]:
    old, new = running.listener.tls, changed.listener.tls
    if (old is None) != (new is None):
        switched, refused = ("off", "with") if new is None else ("on", "without")
        yield Disruption(
            ("listener", "tls"),
            f"this change would switch TLS {switched}, so that clients {refused} TLS could no "
            "longer connect",
        )
    elif old is not None and new is not None and (old.client_ca is None) != (new.client_ca is None):
        effect = "admit clients without" if new.client_ca is None else "refuse clients without"
        yield Disruption(
            ("listener", "tls", "client_ca"), f"this change would {effect} a certificate"
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


_RULES: Final = (_models, _listener, _tls, _credentials)
