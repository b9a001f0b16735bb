"""The config schema, shared by the control plane and the callout workers.

- The schema: `gateway` is the root, with a module for each section. `values` has the types of
  scalars, `addresses` reads addresses, `claims` names of claims. `policy` is the part for workers.
- Errors of the schema: validators raise those of `invalid` and `pattern`. `validation` finds the
  key, and `messages` the text. `syntax` has the texts for YAML.
- Reading: `load` reads a config, from the data of `document`; `checked` also reads the files that
  it names (`named_files`, `tls_files`). Workers never read YAML, so these are not imported here.
- Judging a valid config: `analysis` and `resolution` find warnings, `disruption` what a change
  would do to clients.
- Documentation: `schema` finds the sections for `reference`; `warnings_reference` lists the
  warnings.
"""

from sluice.config.auth import ApiKey, Auth, JwtIssuer
from sluice.config.errors import ConfigError, Problem
from sluice.config.gateway import GatewayConfig
from sluice.config.models import Model, Version
from sluice.config.policy import PolicyDocument, PolicySettings, policy_document

__all__ = [
    "ApiKey",
    "Auth",
    "ConfigError",
    "GatewayConfig",
    "JwtIssuer",
    "Model",
    "PolicyDocument",
    "PolicySettings",
    "Problem",
    "Version",
    "policy_document",
]
