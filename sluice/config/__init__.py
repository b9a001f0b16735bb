"""The operator's config: the one schema that the control plane and the callout workers share.

Its YAML is read by `sluice.config.load`, which is not imported here: workers never read any.
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
