"""The config schema, shared by the control plane and the callout workers.

`sluice.config.load` reads YAML. It is not imported here, because workers never read YAML.
"""

from sluice.config.auth import ApiKey, Auth, JwtIssuer
from sluice.config.errors import ConfigError, Problem
from sluice.config.gateway import GatewayConfig
from sluice.config.models import Model, Version
from sluice.config.policy import PolicyDocument, policy_document

__all__ = [
    "ApiKey",
    "Auth",
    "ConfigError",
    "GatewayConfig",
    "JwtIssuer",
    "Model",
    "PolicyDocument",
    "Problem",
    "Version",
    "policy_document",
]
