"""Reads a config and everything that the gateway will read because of it."""

from dataclasses import dataclass
from pathlib import Path

from sluice.config.errors import Place, Problem
from sluice.config.gateway import GatewayConfig
from sluice.config.load import ConfigText, loads, read_text
from sluice.config.named_files import Strictness, check_named_files
from sluice.config.policy import PolicyDocument, policy_document


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A valid config whose files the gateway can use. `place` finds the line of a key."""

    config: GatewayConfig
    policy: PolicyDocument
    warnings: tuple[Problem, ...]
    place: Place


def load_checked(path: Path, strictness: Strictness) -> CheckedConfig:
    """Read and check a config file and the files that it names. Raises ConfigError."""
    text = ConfigText(read_text(path), str(path))
    config = loads(text.text, text.file)
    policy = policy_document(config, path.parent, text.problem)
    warnings = check_named_files(config, path.parent, strictness, text.problem)
    return CheckedConfig(config, policy, tuple(warnings), text.problem)
