"""Names in a mesh: the hosts of versions, and names that Kubernetes accepts."""

import hashlib
import re
from typing import Final

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MAX_LABEL: Final = 63
_SEPARATOR: Final = "--"
_OTHER: Final = re.compile(r"[^a-z0-9]+")

_DIGEST: Final = 8
"""Hex digits after a changed name: two names of a config do not get the same label by chance."""

_MAX_KEPT: Final = 40
"""Characters that are kept of a changed name."""


def label(name: str) -> str:
    """A DNS label for the name of a model or of a version (RFC 1123 section 2.1).

    A name that is a label stays. Another one, or one with two hyphens in a row, is changed and gets
    two hyphens and a hash, so that different names have different labels.
    """
    if _LABEL.fullmatch(name) and _SEPARATOR not in name:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
    kept = _OTHER.sub("-", name.lower())[:_MAX_KEPT].strip("-")
    return f"{kept}{_SEPARATOR}{digest}"


def resource_name(model: str, version: str) -> str:
    """The name of the resources of a version. A label has no dot, so the name is unique."""
    return f"{label(model)}.{label(version)}"


def version_host(model: str, version: str, domain: str) -> str:
    """The host of a version in the mesh."""
    return f"{label(version)}.{label(model)}.{domain}"


def service_host(service: str, namespace: str, cluster_domain: str) -> str:
    """The host of a Kubernetes service."""
    return f"{service}.{namespace}.svc.{cluster_domain}"


def subset_name(model: str, version: str) -> str:
    """The subset of a service for a version: several versions may have the same service."""
    joined = f"{model}{_SEPARATOR}{version}"
    plain = (label(model), label(version)) == (model, version)
    return joined if plain and len(joined) <= _MAX_LABEL else label(f"{model}/{version}")


def secret_name(model: str, version: str) -> str:
    """The Kubernetes Secret with the CA and the client certificate for the TLS of a version."""
    return f"sluice-{label(f'{model}/{version}')}"
