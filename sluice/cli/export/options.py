"""Options of the commands that export a config, the config that they name, and their output."""

import argparse
from collections.abc import Sequence

from sluice.cli.gateway import require_config
from sluice.cli.output import serialized
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


def show_objects(options: argparse.Namespace, objects: Sequence[object]) -> None:
    """Print Kubernetes objects: a document of YAML for each, or one list in JSON."""
    if options.output == "json":
        items = {"apiVersion": "v1", "kind": "List", "items": objects}
        print(serialized("json", items), end="")
    else:
        print("---\n".join(serialized("yaml", each) for each in objects), end="")
