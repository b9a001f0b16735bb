"""The endpoints that sources have found, for the versions of a config that name a source."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from sluice.config import GatewayConfig
from sluice.config.endpoints import Endpoint, EndpointsFrom

FoundEndpoints: TypeAlias = Mapping[EndpointsFrom, tuple[Endpoint, ...]]
"""The endpoints of each origin."""

NONE_FOUND: Final[FoundEndpoints] = MappingProxyType({})


def with_endpoints(config: GatewayConfig, found: FoundEndpoints) -> GatewayConfig:
    """The config with the endpoints that were found, in `endpoints` of its versions."""
    if not found:
        return config
    models = {}
    for name, model in config.models.items():
        known = {
            key: found[each.endpoints_from]
            for key, each in model.versions.items()
            if each.endpoints_from is not None and each.endpoints_from in found
        }
        if known:
            changed = {
                key: model.versions[key].model_copy(update={"endpoints": endpoints})
                for key, endpoints in known.items()
            }
            models[name] = model.model_copy(update={"versions": {**model.versions, **changed}})
    return config.model_copy(update={"models": {**config.models, **models}}) if models else config
