"""The operator's config: the one schema that the control plane and the callout workers share.

Its YAML is read by `sluice.config.load`, which is not imported here: workers never read any.
"""

from sluice.config.auth import ApiKey, Auth, JwtIssuer
from sluice.config.errors import ConfigError, Problem
from sluice.config.gateway import GatewayConfig
from sluice.config.models import OIP_GRPC_PREFIX, OIP_PREFIX, Model, Version, cluster_name
from sluice.config.policy import POLICY_TYPE_URL, PolicyDocument, policy_document

__all__ = [
    "OIP_GRPC_PREFIX",
    "OIP_PREFIX",
    "POLICY_TYPE_URL",
    "ApiKey",
    "Auth",
    "ConfigError",
    "GatewayConfig",
    "JwtIssuer",
    "Model",
    "PolicyDocument",
    "Problem",
    "Version",
    "cluster_name",
    "policy_document",
]
