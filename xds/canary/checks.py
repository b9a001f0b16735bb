"""The check of configs that are files: nothing but an edit changes them, so no canary has steps."""

from sluice.config import ConfigError
from sluice.config.checked import LoadedConfig
from xds.resources.compiled import CompiledConfig

_MESSAGE = (
    "the steps of a canary change the config, which is a file here: start the control plane with "
    "--store sqlite:PATH (and --watch FILE to follow the file too), or remove steps"
)


def check_no_steps(loaded: LoadedConfig, _: CompiledConfig) -> None:
    """Raises ConfigError if a canary has steps."""
    problems = [
        loaded.place(("models", name, "canaries", index, "steps"), _MESSAGE)
        for name, model in loaded.config.models.items()
        for index, canary in enumerate(model.canaries)
        if canary.steps
    ]
    if problems:
        raise ConfigError(problems)
