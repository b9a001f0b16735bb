"""Options of the commands that export a config, and the config that they name."""

import argparse

from sluice.cli.gateway import require_config
from sluice.config.checked import LoadedConfig, load_checked
from sluice.config.named_files import MAY_RUN_ELSEWHERE


def format_option(parser: argparse.ArgumentParser) -> None:
    """Add the option `--output`."""
    parser.add_argument(
        "-o", "--output", choices=("yaml", "json"), default="yaml", help="format of the result"
    )


def load(options: argparse.Namespace) -> LoadedConfig:
    """The config file that the command is about. Other machines may have the files it names."""
    return load_checked(require_config(options), MAY_RUN_ELSEWHERE)
