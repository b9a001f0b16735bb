"""Kubernetes objects as JSON: their head, their names, and the texts in them."""

import hashlib
import re
from collections.abc import Mapping
from typing import Final

from sluice.config.errors import KeyPath

Object = dict[str, object]
"""A Kubernetes object, or a part of one, as JSON."""

GATEWAY: Final = "gateway.networking.k8s.io"
ENVOY_GATEWAY: Final = "gateway.envoyproxy.io"
"""API groups."""

_API_VERSIONS: Final[Mapping[str, str]] = {
    "HTTPRoute": f"{GATEWAY}/v1",
    "BackendTLSPolicy": f"{GATEWAY}/v1",
    "ReferenceGrant": f"{GATEWAY}/v1beta1",
    "Backend": f"{ENVOY_GATEWAY}/v1alpha1",
    "BackendTrafficPolicy": f"{ENVOY_GATEWAY}/v1alpha1",
    "ClientTrafficPolicy": f"{ENVOY_GATEWAY}/v1alpha1",
    "EnvoyExtensionPolicy": f"{ENVOY_GATEWAY}/v1alpha1",
    "EnvoyPatchPolicy": f"{ENVOY_GATEWAY}/v1alpha1",
    "EnvoyProxy": f"{ENVOY_GATEWAY}/v1alpha1",
    "HTTPRouteFilter": f"{ENVOY_GATEWAY}/v1alpha1",
    "ConfigMap": "v1",
}

PREFIX: Final = "sluice"
"""Begin of the names of all objects."""

PART_OF: Final = {"app.kubernetes.io/part-of": "sluice-gateway-api"}
"""Labels of all objects, by which `kubectl` finds those that are no longer exported."""

_DIGITS: Final = 10
"""Hex digits of a hash in a name."""

_PLAIN: Final = re.compile(rf"(?!.*-[0-9a-f]{{{_DIGITS}}}$)[a-z0-9]+(-[a-z0-9]+)*")
"""Names of models and versions that are part of the name of an object as they are: not those that
end like one with a hash."""


class UnexportableError(Exception):
    """Envoy Gateway cannot do what a key of the config demands. `hint` says what is possible."""

    def __init__(self, path: KeyPath, message: str, hint: str) -> None:
        super().__init__(message)
        self.path = path
        self.hint = hint


def kubernetes_object(
    kind: str, namespace: str, name: str, content: Object, key: str = "spec"
) -> Object:
    """An object with this content."""
    metadata: Object = {"name": name, "namespace": namespace, "labels": dict(PART_OF)}
    return {"apiVersion": _API_VERSIONS[kind], "kind": kind, "metadata": metadata, key: content}


def object_name(*parts: str) -> str:
    """The name of an object of a model or of one of its versions: different for different parts.

    Names of models may have capital letters, dots and underscores, which names of objects cannot
    have, or not everywhere. Such a name gets a hash, as does a name that looks as if it had one.
    """
    if all(_PLAIN.fullmatch(part) for part in parts):
        return ".".join((PREFIX, *parts))
    readable = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")
    digest = hashlib.sha256("/".join(parts).encode()).hexdigest()[:_DIGITS]
    return f"{PREFIX}.{readable}-{digest}"


def rule_name(version: str) -> str:
    """The name of the rule of a version in the route of its model."""
    return object_name(version).removeprefix(f"{PREFIX}.")


def duration(seconds: float) -> str:
    """A duration of Gateway API (GEP-2257), which has at most five digits for each unit."""
    rest = round(seconds * 1000)
    if seconds and not rest:
        rest = 1
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, milliseconds = divmod(rest, 1000)
    units = (hours, "h"), (minutes, "m"), (whole, "s"), (milliseconds, "ms")
    return "".join(f"{count}{unit}" for count, unit in units if count) or "0s"
