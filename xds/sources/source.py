"""The interface of a config source."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sluice.config import ConfigError, GatewayConfig, PolicyDocument


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid config and its policy. File names in the config are relative to `directory`."""

    config: GatewayConfig
    policy: PolicyDocument
    directory: Path


class ConfigSource(Protocol):
    """Provides the config, and every change of the config."""

    @property
    def name(self) -> str:
        """The source's name in the status and the logs, such as a path."""

    def read(self) -> LoadedConfig:
        """Read the config. Raises ConfigError with every error in the config."""

    def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after each change, or a ConfigError if the config is not valid."""
