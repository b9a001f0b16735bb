"""The policy of the workers: the settings that all models share, and each model as JSON."""

from protos import policy_pb2
from sluice.config import PolicyDocument


def policy(document: PolicyDocument) -> bytes:
    """The serialized sluice.policy.v1.Policy."""
    message = policy_pb2.Policy(version=document.version, config=document.serialized_settings())
    for name, model in document.models.items():
        message.models.add(name=name, version=model.digest, config=model.serialized)
    return message.SerializeToString()
