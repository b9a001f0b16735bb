"""`sluice validate`, `sluice schema` and `sluice bootstrap`: commands that need only a config."""

import argparse
import json
from collections.abc import Mapping

from sluice.bootstrap import render
from sluice.cli.commands import Subcommands, command
from sluice.cli.gateway import config_argument, require_config
from sluice.config import GatewayConfig, policy_document
from sluice.config.load import load


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    validate = command(
        commands, "validate", _validate, "check a config file, and read its key set files"
    )
    config_argument(validate, "config file to check")
    command(commands, "schema", _schema, "print the JSON Schema of the config, for editors")
    bootstrap = command(
        commands, "bootstrap", _bootstrap, "print an Envoy bootstrap for the gateway"
    )
    config_argument(bootstrap, "config file")
    bootstrap.add_argument(
        "--node-id", default="envoy", help="node ID of the Envoy, as shown by sluice status"
    )


def _validate(options: argparse.Namespace) -> int:
    file = require_config(options)
    config = load(file)
    policy = policy_document(config, file.parent)
    print(f"{file}: valid; {_count(config.models)}, version {policy.version}")
    return 0


def _count(models: Mapping[str, object]) -> str:
    return "1 model" if len(models) == 1 else f"{len(models)} models"


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(GatewayConfig.model_json_schema(), indent=2))
    return 0


def _bootstrap(options: argparse.Namespace) -> int:
    config = load(require_config(options))
    print(render(config, options.node_id), end="")
    return 0
