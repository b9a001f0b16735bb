"""The resources that istiod gets from the control plane, as part of a compiled config."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from xds.istio.envelope import enveloped
from xds.istio.resources import IstioResource, compile_istio
from xds.protocol.resource_types import ISTIO, ResourceType
from xds.protocol.snapshot import Resource, ResourceSet
from xds.resources.compiled import CompiledConfig

_BY_URL: Final[Mapping[str, ResourceType]] = {each.url: each for each in ISTIO}


def with_istio(compiled: CompiledConfig) -> CompiledConfig:
    """The config with the resources of the mesh, if the control plane serves istiod."""
    if compiled.config.mcp is None:
        return compiled
    snapshot = compiled.snapshot
    found = istio_sets(compile_istio(compiled.served), snapshot.version or "")
    return replace(compiled, snapshot=replace(snapshot, types={**snapshot.types, **found}))


def istio_sets(
    resources: Iterable[IstioResource], version: str
) -> Mapping[ResourceType, ResourceSet]:
    """The resources of each type. `version`: that of the config."""
    found: dict[ResourceType, dict[str, Resource]] = {each: {} for each in ISTIO}
    for each in resources:
        name = f"{each.namespace}/{each.name}"
        found[_BY_URL[each.kind.type_url]][name] = enveloped(name, each.kind.message_url, each.spec)
    return {each: ResourceSet.of(known, version) for each, known in found.items()}
