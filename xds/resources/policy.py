"""The policy of the workers: the settings that all models share, and each model as JSON.

Each is a resource of its own, so that an edit of a model sends this model and the settings, which
have the version.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protos import policy_pb2
from sluice.config import Model, PolicyDocument
from sluice.contract import names
from xds.protocol.snapshot import Resource, Resources

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class PolicyCache:
    """The resources of the models of the latest policy."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, bytes, str], Resource] = {}

    def resources(
        self, document: PolicyDocument, native: Mapping[str, str] = _NONE, *, keep: bool = True
    ) -> Resources:
        """The resources, by name. `native`: digests of models with native routes.

        `keep`: whether they replace those of the latest policy.
        """
        resources = {names.POLICY: Resource.of(_settings(document))}
        models = {}
        for name, model in document.models.items():
            key = name, model.digest, native.get(name, "")
            resource = self._models.get(key) or Resource.of(_model(name, model, key[2]))
            resources[names.policy_model(name)] = models[key] = resource
        if keep:
            self._models = models
        return resources


def _settings(document: PolicyDocument) -> bytes:
    message = policy_pb2.Policy(version=document.version, config=document.serialized_settings())
    return message.SerializeToString()


def _model(name: str, model: Model, native: str) -> bytes:
    message = policy_pb2.Policy()
    message.models.add(name=name, version=model.digest, config=model.serialized, native=native)
    return message.SerializeToString()
