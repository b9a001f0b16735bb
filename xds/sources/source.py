"""The interface of a config source, and the error for a failure that nobody expected."""

import logging
import traceback
from collections.abc import AsyncIterator
from typing import Protocol

from sluice.config import ConfigError, Problem
from sluice.config.checked import LoadedConfig

log = logging.getLogger(__name__)


class ConfigSource(Protocol):
    """Provides every change of the config."""

    @property
    def name(self) -> str:
        """The source's name in the status and the logs, such as a path."""

    def changes(self) -> AsyncIterator[LoadedConfig | ConfigError]:
        """The config after each change, or a ConfigError if the config is not valid.

        The iterator does not end, and raises no exception.
        """


def unexpected_error(source: str, error: Exception) -> ConfigError:
    """The ConfigError for a fault of the control plane that a config has revealed.

    Logs where the exception was raised, but not its message, which may contain a secret.
    """
    name = type(error).__name__
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("config %s: unexpected %s at\n%s", source, name, frames)
    message = f"the control plane cannot use this config ({name}); its log says where it failed"
    return ConfigError([Problem(source, 0, "", message)])
