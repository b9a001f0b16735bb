"""`sluice validate`, `sluice schema` and `sluice bootstrap`: commands that need only a config."""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from sluice.bootstrap import render
from sluice.cli.commands import Subcommands, command
from sluice.cli.gateway import config_argument, require_config
from sluice.config import GatewayConfig
from sluice.config.checked import load_checked
from sluice.config.disruption import check_change
from sluice.config.load import load
from sluice.config.named_files import RUNS_ON_THIS_MACHINE


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    validate = command(
        commands, "validate", _validate, "check a config file and all files that it names"
    )
    config_argument(validate, "config file to check")
    validate.add_argument(
        "--running", type=Path, metavar="FILE",
        help="config of the running gateway: also fail if the change from it would be refused, "
        "because it would cut off clients",
    )  # fmt: skip
    command(commands, "schema", _schema, "print the JSON Schema of the config, for editors")
    bootstrap = command(
        commands,
        "bootstrap",
        _bootstrap,
        "print an Envoy bootstrap, for a file whose name ends in .yaml",
    )
    config_argument(bootstrap, "config file")
    bootstrap.add_argument(
        "--node-id", default="envoy", help="node ID of the Envoy, as shown by sluice status"
    )


def _validate(options: argparse.Namespace) -> int:
    file = require_config(options)
    checked = load_checked(file, RUNS_ON_THIS_MACHINE)
    if options.running is not None:
        check_change(load(options.running), checked.config, checked.place)
    for warning in checked.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    models, version = _count(checked.config.models), checked.policy.version
    print(f"{file}: valid; {models}, version {version}")
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
