"""Exports a config: all objects, in the order in which they are created, and notes."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sluice.config import GatewayConfig
from sluice.config.secrets import NO_SECRETS, Secrets, VersionSecrets
from xds.gateway_api.backends import version_backends
from xds.gateway_api.callout import POLICY, callout_objects, client_secret
from xds.gateway_api.objects import Object
from xds.gateway_api.patches import conversion_patches
from xds.gateway_api.routes import model_routes, undecided
from xds.gateway_api.target import Target
from xds.gateway_api.traffic import client_policy, version_policy

_NO_SECRETS = VersionSecrets()


@dataclass(frozen=True, slots=True)
class Export:
    """The objects, and what an operator must know or do besides."""

    objects: list[Object]
    notes: list[str]


def export_gateway_api(
    config: GatewayConfig, target: Target, secrets: Secrets = NO_SECRETS
) -> Export:
    """Export the routing of a config. `secrets`: the CA certificates of model servers.

    Raises UnexportableError for what Envoy Gateway cannot do, if requests would fail.
    """
    objects: list[Object] = []
    notes: list[str] = []
    for name, model in config.models.items():
        backends = {}
        for version, section in model.versions.items():
            authorities = secrets.versions.get((name, version), _NO_SECRETS).ca
            found = version_backends(target, name, version, section, authorities)
            backends[version] = found.references
            objects += found.objects
            notes += found.notes
        objects += model_routes(target, name, model, backends)
        objects += (version_policy(target, config, name, model, each) for each in model.versions)
    objects += undecided(target)
    # The policies come first: no route is without them for a moment.
    policies = [
        client_policy(target, config),
        *callout_objects(target, config, _names("HTTPRoute", objects)),
        *((conversion_patches(target),) if target.converts else ()),
    ]
    return Export(_distinct([*policies, *objects]), [*notes, *_notes(target, config)])


def _names(kind: str, objects: Iterable[Object]) -> list[str]:
    metadata = (each["metadata"] for each in objects if each["kind"] == kind)
    return [each["name"] for each in metadata if isinstance(each, dict)]


def _distinct(objects: Iterable[Object]) -> list[Object]:
    """Versions whose endpoints have one Service need one grant."""
    return list({json.dumps([each["kind"], each["metadata"]]): each for each in objects}.values())


def _notes(target: Target, config: GatewayConfig) -> Iterator[str]:
    secret = client_secret(target, config)
    if secret is not None:
        yield secret
    if config.telemetry.reports.enabled:
        yield (
            f"Gateway {target.gateway_namespace}/{target.gateway} must name EnvoyProxy {POLICY} in "
            "infrastructure.parametersRef, or the callout gets no reports: no access log, no "
            "metrics of requests, and breakers that never open"
        )
    converting = sorted(name for name, model in config.models.items() if model.converts)
    if converting and not target.converts:
        yield (
            f"requests that must be converted will fail (models {', '.join(converting[:3])}"
            f"{' and others' if len(converting) > 3 else ''}): --conversion exports the patches"
        )
    if config.video is not None:
        yield "video is not exported: clients can neither upload videos nor watch streams"
    if config.limits.listener is not None or config.limits.models or config.limits.model_types:
        yield "limits.listener, limits.models and limits.model_types are not exported"
