"""The policy of the workers: the settings that all models share, and each model as JSON."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from protos import policy_pb2
from sluice.config import PolicyDocument

_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def policy(document: PolicyDocument, native: Mapping[str, str] = _NONE) -> bytes:
    """The serialized sluice.policy.v1.Policy. `native`: digests of models with native routes."""
    message = policy_pb2.Policy(version=document.version, config=document.serialized_settings())
    for name, model in document.models.items():
        message.models.add(
            name=name,
            version=model.digest,
            config=model.serialized,
            native=native.get(name, ""),
        )
    return message.SerializeToString()
