"""`sluice validate` and `sluice schema`: commands that need only a config."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sluice.cli.commands import CommandError, Subcommands, command
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import config_argument, require_config
from sluice.config import GatewayConfig
from sluice.config.checked import LoadedConfig, load_checked
from sluice.config.disruption import check_change
from sluice.config.errors import Problem
from sluice.config.load import load
from sluice.config.named_files import RUNS_ON_THIS_MACHINE
from sluice.config.resolution import UNRESOLVABLE_HOST, unresolvable_hosts
from sluice.config.warnings_reference import CODES as WARNINGS
from sluice.envoy_binary import NoEnvoyError


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
    validate.add_argument("--strict", action="store_true", help="exit with 1 if there are warnings")
    validate.add_argument(
        "--ignore", action="append", default=[], metavar="CODE", choices=WARNINGS,
        help="do not look for warnings of this kind, such as unresolvable_host, which needs DNS; "
        "may be repeated. `sluice docs reference/warnings` lists all",
    )  # fmt: skip
    validate.add_argument(
        "--with-envoy", action="store_true",
        help="let Envoy check the config too, as far as it is compiled for Envoy (envoy --mode "
        "validate)",
    )  # fmt: skip
    validate.add_argument("--envoy", type=Path, metavar="PATH", help="Envoy of --with-envoy")
    command(commands, "schema", _schema, "print the JSON Schema of the config, for editors")


def _validate(options: argparse.Namespace) -> int:
    file = require_config(options)
    checked = load_checked(file, RUNS_ON_THIS_MACHINE)
    if options.running is not None:
        check_change(load(options.running), checked.config, checked.place)
    if options.with_envoy or options.envoy is not None:
        _check_with_envoy(checked, options.envoy)
    warnings = list(_warnings(checked, options.ignore))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    models, version = _count(len(checked.config.models), "model"), checked.policy.version
    found = f", {_count(len(warnings), 'warning')}" if warnings else ""
    print(f"{file}: valid; {models}, version {version}{found}")
    return ExitStatus.FAILED if warnings and options.strict else 0


def _check_with_envoy(checked: LoadedConfig, envoy: Path | None) -> None:
    # Imported late: the other checks need no package but sluice.
    from xds.candidate.strict import StrictCheckError, check_with_envoy
    from xds.resources.compiled import compile_config

    try:
        check_with_envoy(checked, compile_config(checked, checked.config), envoy)
    except (NoEnvoyError, StrictCheckError) as error:
        raise CommandError(error) from error


def _warnings(checked: LoadedConfig, ignored: Sequence[str]) -> Iterator[Problem]:
    for warning in checked.warnings:
        if warning.code not in ignored:
            yield warning
    if UNRESOLVABLE_HOST.code not in ignored:
        for unresolvable in unresolvable_hosts(checked.config):
            yield unresolvable.warning(checked.place)


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _schema(_: argparse.Namespace) -> int:
    print(json.dumps(GatewayConfig.model_json_schema(), indent=2))
    return 0
