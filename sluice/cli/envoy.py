"""`sluice envoy` and `sluice bootstrap`: one Envoy of a gateway, run by Sluice or by others."""

import argparse
import asyncio
import logging
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from sluice.bootstrap import NodeNames, render, write_sds_files
from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.file_warnings import print_warnings
from sluice.cli.gateway import (
    config_argument,
    read_identity,
    read_node_groups,
    read_section,
    require_config,
)
from sluice.config import GatewayConfig
from sluice.config.gateway import Callout, ControlPlane, Envoy, Listener
from sluice.config.identity_files import envoy_findings
from sluice.config.load import load
from sluice.config.named_files import RUNS_HERE, RUNS_ON_THIS_MACHINE, Strictness
from sluice.config.node_groups import NodeGroups, group_of
from sluice.contract.names import NODE_CLUSTER
from sluice.near_names import did_you_mean
from sluice.runner import EnvoyEndedError, EnvoyOptions, StartError, run_envoy


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    envoy = command(
        commands,
        "envoy",
        _envoy,
        "run one Envoy of a gateway, such as in a container; SIGTERM drains it before it ends",
    )
    config_argument(envoy, "config file, of which the sections about Envoy are read")
    _node_arguments(envoy, default_id=None)
    envoy.add_argument(
        "--envoy", type=Path, metavar="PATH", help="Envoy binary; default: the installed one"
    )
    bootstrap = command(
        commands,
        "bootstrap",
        _bootstrap,
        "print an Envoy bootstrap, for a file whose name ends in .yaml; with `identity`, also "
        "write the files of identity.envoy.sds_folder",
    )
    config_argument(bootstrap, "config file")
    _node_arguments(bootstrap, NodeNames().id)


def _node_arguments(parser: argparse.ArgumentParser, default_id: str | None) -> None:
    """Add the options about what the Envoy says of itself. None: the host name is the id."""
    shown = "the host name" if default_id is None else default_id
    parser.add_argument(
        "--node-id", default=default_id or socket.gethostname(), metavar="ID",
        help=f"node ID of the Envoy, as shown by sluice status; default: {shown}",
    )  # fmt: skip
    parser.add_argument(
        "--cluster", default=NODE_CLUSTER, help="cluster of the Envoy, for node_groups"
    )
    parser.add_argument(
        "--locality", default="", metavar="REGION[/ZONE[/SUB_ZONE]]",
        help="locality of the Envoy, for node_groups",
    )  # fmt: skip
    parser.add_argument(
        "--group", metavar="NAME", help="fail unless the Envoy is in this group of node_groups"
    )


def _envoy(options: argparse.Namespace) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    file = require_config(options)
    config, node = _sections(file), _node(options)
    _check(file, config, node, options.group, RUNS_HERE)
    try:
        asyncio.run(run_envoy(config, file.parent, EnvoyOptions(options.envoy, node)))
    except (StartError, EnvoyEndedError) as error:
        raise CommandError(error) from error
    return 0


def _sections(file: Path) -> GatewayConfig:
    """The sections of a config that an Envoy needs. Others may have errors. Raises ConfigError.

    An Envoy can start again while the file has an error: the control plane has a config that is in
    force.
    """
    return GatewayConfig().model_copy(
        update={
            "listener": read_section(file, "listener", Listener),
            "control_plane": read_section(file, "control_plane", ControlPlane),
            "callout": read_section(file, "callout", Callout),
            "envoy": read_section(file, "envoy", Envoy),
            "identity": read_identity(file),
            "node_groups": read_node_groups(file),
        }
    )


def _bootstrap(options: argparse.Namespace) -> int:
    file = require_config(options)
    config, node = load(file), _node(options)
    _check(file, config, node, options.group, RUNS_ON_THIS_MACHINE)
    for written in write_sds_files(config, file.parent):
        print(f"wrote {written}, which Envoy needs", file=sys.stderr)
    print(render(config, node, directory=file.parent), end="")
    return 0


def _node(options: argparse.Namespace) -> NodeNames:
    return NodeNames(options.node_id, options.cluster, options.locality)


def _check(
    file: Path, config: GatewayConfig, node: NodeNames, group: str | None, strictness: Strictness
) -> None:
    """Check the group that an option names, and Envoy's files. Prints the warnings.

    Raises CommandError and ConfigError.
    """
    if group is not None:
        _check_group(config.node_groups, node, group)
    if config.identity is not None:
        found = envoy_findings(config.identity, file.parent, datetime.now(UTC))
        print_warnings(found, strictness, file)


def _check_group(groups: NodeGroups, node: NodeNames, wanted: str) -> None:
    """Raises CommandError unless the Envoy is in the group."""
    if wanted not in groups:
        raise UsageError(f"node_groups has no {wanted!r:.80}{did_you_mean(wanted, groups)}")
    found = group_of(groups, node.id, node.cluster, node.locality)
    if found != wanted:
        match = ", ".join(
            f"{key} {' or '.join(items[:3])}" for key, items in groups[wanted].match if items
        )
        raise CommandError(
            f"this Envoy would be in {'no group' if found is None else f'the group {found}'}: the "
            f"group {wanted} has the {match}; give --node-id, --cluster or --locality"
        )
