"""`sluice validate`, `sluice schema` and `sluice bootstrap`: commands that need only a config."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from sluice.bootstrap import render, write_sds_files
from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.exit_status import ExitStatus
from sluice.cli.gateway import config_argument, require_config
from sluice.config import GatewayConfig
from sluice.config.checked import LoadedConfig, load_checked
from sluice.config.disruption import check_change
from sluice.config.errors import Problem
from sluice.config.identity_files import envoy_findings
from sluice.config.load import ConfigText, load, read_text
from sluice.config.named_files import RUNS_ON_THIS_MACHINE, judge
from sluice.config.node_groups import group_of
from sluice.config.resolution import UNRESOLVABLE_HOST, unresolvable_hosts
from sluice.config.warnings_reference import CODES as WARNINGS
from sluice.contract.names import NODE_CLUSTER
from sluice.envoy_binary import NoEnvoyError
from sluice.near_names import did_you_mean


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
    bootstrap = command(
        commands,
        "bootstrap",
        _bootstrap,
        "print an Envoy bootstrap, for a file whose name ends in .yaml; with `identity`, also "
        "write the files of identity.envoy.sds_folder",
    )
    config_argument(bootstrap, "config file")
    bootstrap.add_argument(
        "--node-id", default="envoy", help="node ID of the Envoy, as shown by sluice status"
    )
    bootstrap.add_argument(
        "--cluster", default=NODE_CLUSTER, help="cluster of the Envoy, for node_groups"
    )
    bootstrap.add_argument(
        "--locality", default="", metavar="REGION[/ZONE[/SUB_ZONE]]",
        help="locality of the Envoy, for node_groups",
    )  # fmt: skip
    bootstrap.add_argument(
        "--group", metavar="NAME", help="fail unless the Envoy is in this group of node_groups"
    )


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


def _bootstrap(options: argparse.Namespace) -> int:
    file = require_config(options)
    config = load(file)
    if options.group is not None:
        _check_group(config, options)
    if config.identity is not None:
        found = envoy_findings(config.identity, file.parent, datetime.now(UTC))
        place = ConfigText(read_text(file), str(file)).problem
        for warning in judge(found, RUNS_ON_THIS_MACHINE, place):
            print(f"warning: {warning}", file=sys.stderr)
    for written in write_sds_files(config, file.parent):
        print(f"wrote {written}, which Envoy needs", file=sys.stderr)
    bootstrap = render(
        config,
        options.node_id,
        cluster=options.cluster,
        locality=options.locality,
        directory=file.parent,
    )
    print(bootstrap, end="")
    return 0


def _check_group(config: GatewayConfig, options: argparse.Namespace) -> None:
    """Raises CommandError unless the Envoy of the options is in the group that they name."""
    wanted, groups = options.group, config.node_groups
    if wanted not in groups:
        raise UsageError(f"node_groups has no {wanted!r:.80}{did_you_mean(wanted, groups)}")
    found = group_of(groups, options.node_id, options.cluster, options.locality)
    if found != wanted:
        match = ", ".join(
            f"{key} {' or '.join(items[:3])}" for key, items in groups[wanted].match if items
        )
        raise CommandError(
            f"this Envoy would be in {'no group' if found is None else f'the group {found}'}: the "
            f"group {wanted} has the {match}; give --node-id, --cluster or --locality"
        )
