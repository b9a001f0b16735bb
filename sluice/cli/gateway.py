"""Finds the gateway that a command is about.

All commands use one order: an option with a URL, `--context`, the argument CONFIG, the environment
variable `SLUICE_CONFIG`, the current context, and the default addresses. Only the sections with
addresses are read, so a config with an error elsewhere still finds the gateway whose status
explains the error.
"""

import argparse
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from sluice.cli.commands import CommandError, UsageError
from sluice.cli.contexts import (
    URL_REMEDY,
    Context,
    contexts_file,
    find_context,
    is_url,
    read_contexts,
)
from sluice.cli.exit_status import ExitStatus
from sluice.config.access import Access
from sluice.config.addresses import (
    connectable,
    is_local,
    join_host_port,
    reachable,
    split_host_port,
)
from sluice.config.document import DocumentError, Node, parse
from sluice.config.errors import ConfigError, Problem
from sluice.config.gateway import ControlPlane
from sluice.config.identity import CALLOUT, CONTROL_PLANE, Identity
from sluice.config.load import CONFIG_VARIABLE, load, read_text
from sluice.config.node_groups import NodeGroups
from sluice.config.telemetry import Telemetry
from sluice.config.values import Strict
from sluice.http.client import NoAnswerError, Status, UnexpectedAnswerError, fetch_status
from sluice.http.credentials import NO_CREDENTIALS, Credentials, CredentialsError
from sluice.identity import callout_client, callout_files, control_plane_files, xds_client
from sluice.tls import NO_CREDENTIALS as NO_GRPC_CREDENTIALS
from sluice.tls import ClientCredentials, TlsFiles

NO_ANSWER_HINT = (
    "start the gateway with `sluice up CONFIG`, or name another one with --control-plane URL or "
    "--context NAME"
)
TLS_HINT = (
    "check that the server speaks TLS, and name the CA of its certificate: "
    "sluice context add NAME URL --ca FILE"
)
NOT_ALLOWED_HINT = (
    "give a token with --token-file FILE, or name a gateway with its credentials: "
    "sluice context add NAME URL --token-file FILE"
)

Section = TypeVar("Section", bound=Strict)


@dataclass(frozen=True, slots=True)
class GatewayAddress:
    """URL of a server of the gateway. `origin` says where the URL comes from, for errors.

    `by_option`: an option names the gateway, not a config. `xds` and `workers`: the credentials for
    its gRPC servers.
    """

    url: str
    origin: str
    credentials: Credentials = NO_CREDENTIALS
    by_option: bool = False
    xds: ClientCredentials = NO_GRPC_CREDENTIALS
    workers: ClientCredentials = NO_GRPC_CREDENTIALS


def config_argument(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the argument CONFIG, whose default is `SLUICE_CONFIG`. `purpose` begins its help text."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        type=Path,
        nargs="?",
        help=f"{purpose}; default: the environment variable {CONFIG_VARIABLE}",
    )


def control_plane_option(parser: argparse.ArgumentParser, *more_names: str) -> None:
    """Add the options that name the control plane, and the token for it."""
    parser.add_argument(
        "--control-plane", *more_names, metavar="URL", type=_url,
        help="URL of the control plane; default: control_plane.http of the config",
    )  # fmt: skip
    parser.add_argument("--context", metavar="NAME", help="gateway by its name; see sluice context")
    parser.add_argument(
        "--token-file", metavar="FILE", type=Path,
        help="file with the bearer token for the control plane; default: that of the context",
    )  # fmt: skip


def gateway_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the gateway, for commands without the argument CONFIG."""
    control_plane_option(parser)
    parser.add_argument(
        "--config", metavar="CONFIG", type=Path,
        help="config of the gateway, which has its address; default: the environment variable "
        f"{CONFIG_VARIABLE}",
    )  # fmt: skip


def callout_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option that names the callout. `default` says what is used without it."""
    parser.add_argument(
        "--callout", metavar="URL", type=_url,
        help=f"URL of the callout's metrics endpoint; default: {default}",
    )  # fmt: skip


def find_config(options: argparse.Namespace) -> Path | None:
    """The config that the command is about: CONFIG, else `SLUICE_CONFIG`, else None."""
    if options.config is not None:
        return Path(options.config)
    name = os.environ.get(CONFIG_VARIABLE)
    return Path(name) if name else None


def require_config(options: argparse.Namespace) -> Path:
    """The config that the command is about. Raises UsageError if none is given."""
    config = find_config(options)
    if config is None:
        raise UsageError(f"give a CONFIG, or set {CONFIG_VARIABLE}")
    return config


def control_plane(options: argparse.Namespace) -> GatewayAddress:
    """The control plane. Raises ConfigError if the config cannot be read, and UsageError."""
    found = _find_control_plane(options)
    if options.token_file is None:
        return found
    token = options.token_file
    return replace(
        found,
        credentials=replace(found.credentials, token_file=token),
        xds=replace(found.xds, token_file=token),
    )


def _find_control_plane(options: argparse.Namespace) -> GatewayAddress:
    if options.control_plane is not None:
        if options.context is not None:
            raise UsageError("--control-plane excludes --context")
        return GatewayAddress(options.control_plane, "--control-plane", by_option=True)
    if options.context is not None:
        context = find_context(read_contexts(), options.context)
        origin = f"the context {options.context}"
        return _of_context(context, origin, by_option=True)
    config = find_config(options)
    if config is None:
        return _current_context() or _default_address()
    section, root = _section(config, "control_plane", ControlPlane)
    origin = _origin(options, config, root, "control_plane", "http")
    identity, folder = read_identity(config), config.parent
    files = control_plane_files(identity, folder)
    url, credentials = _local_url(section.http, files), _own_credentials(files)
    if credentials.certificate is None and is_local(urlsplit(url).hostname or ""):
        credentials = replace(credentials, token_file=_reader_token(section.access, folder))
    return GatewayAddress(
        url,
        origin,
        credentials,
        xds=xds_client(identity, folder),
        workers=callout_client(identity, callout_files(identity, folder)),
    )


def _own_credentials(files: TlsFiles | None) -> Credentials:
    """The credentials of a command on the machine of a gateway: those of its control plane.

    Without access to its key, the command only verifies the server.
    """
    if files is None:
        return NO_CREDENTIALS
    if not os.access(files.key, os.R_OK):
        return Credentials(ca=files.ca)
    return Credentials(None, files.ca, files.certificate, files.key)


def _reader_token(access: Access, folder: Path) -> Path | None:
    """The file with the token of a reader, if this command may read one."""
    readers = (each.secret_file for each in access.tokens if each.role == "reader")
    files = (folder / name for name in readers if name is not None)
    return next((file for file in files if os.access(file, os.R_OK)), None)


def _of_operator(credentials: Credentials, name: str) -> ClientCredentials:
    """The credentials of an operator for a gRPC server that has a name of `sluice certs`."""
    return ClientCredentials(
        credentials.ca, name, credentials.certificate, credentials.key, credentials.token_file
    )


def _of_context(context: Context, origin: str, *, by_option: bool) -> GatewayAddress:
    credentials = context.credentials
    return GatewayAddress(
        context.url,
        origin,
        credentials,
        by_option,
        _of_operator(credentials, CONTROL_PLANE),
        replace(_of_operator(credentials, CALLOUT), token_file=None),
    )


def _current_context() -> GatewayAddress | None:
    contexts = read_contexts()
    if contexts.current is None:
        return None
    context = find_context(contexts, contexts.current)
    origin = f"the current context {contexts.current}, from {contexts_file()}"
    return _of_context(context, origin, by_option=False)


def _default_address() -> GatewayAddress:
    origin = f"the default address; give a CONFIG or set {CONFIG_VARIABLE} for another gateway"
    return GatewayAddress(_local_url(ControlPlane().http), origin)


def control_plane_status(address: GatewayAddress, member: str) -> Status:
    """The status of the control plane, which must have `member`. Raises NoAnswerError."""
    try:
        return fetch_status(address.url, member, credentials=address.credentials, proxy=True)
    except CredentialsError as error:
        raise CommandError(error, status=ExitStatus.NOT_ALLOWED) from error


def callout(options: argparse.Namespace) -> GatewayAddress:
    """The metrics endpoint of the callout, for commands that do not ask the control plane for it.

    Raises ConfigError if the config cannot be read, and UsageError if none is given.
    """
    if options.callout is not None:
        return GatewayAddress(options.callout, "--callout")
    config = require_config(options)
    section, root = _section(config, "telemetry", Telemetry)
    origin = _origin(options, config, root, "telemetry", "metrics", "address")
    identity, folder = read_identity(config), config.parent
    url = _local_url(section.metrics.address, callout_files(identity, folder))
    return GatewayAddress(url, origin, _own_credentials(control_plane_files(identity, folder)))


def read_section(config: Path, name: str, schema: type[Section]) -> Section:
    """A section of a config. Other sections may have errors. Raises ConfigError."""
    return _section(config, name, schema)[0]


def read_identity(config: Path) -> Identity | None:
    """The identity of the parts in a config. Other sections may have errors. Raises ConfigError."""
    root = parse(read_text(config))
    present = root is not None and isinstance(root.data, dict) and root.data.get("identity")
    return read_section(config, "identity", Identity) if present else None


def read_node_groups(config: Path) -> NodeGroups:
    """The groups of Envoys in a config. Other sections may have errors. Raises ConfigError."""
    with _readable(config, "node_groups"):
        root = parse(read_text(config))
        data = root.data if root is not None and isinstance(root.data, dict) else {}
        return TypeAdapter(NodeGroups).validate_python(data.get("node_groups") or {})


def no_control_plane(address: GatewayAddress, error: NoAnswerError) -> CommandError:
    """The error of a command that needs the control plane."""
    text = no_answer("the control plane", address, error)
    if not isinstance(error, UnexpectedAnswerError):
        cause = getattr(error.__cause__, "reason", None)
        hint = TLS_HINT if isinstance(cause, ssl.SSLError) else NO_ANSWER_HINT
        return CommandError(text, hint=hint, status=ExitStatus.NO_CONTROL_PLANE)
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return CommandError(text, hint=NOT_ALLOWED_HINT, status=ExitStatus.NOT_ALLOWED)
    return CommandError(text)


def no_answer(server: str, address: GatewayAddress, error: NoAnswerError) -> str:
    """Say that a server did not answer, or what it answered, and where its address comes from."""
    return describe_no_answer(server, f"{address.url} ({address.origin})", error)


def describe_no_answer(server: str, place: str, error: NoAnswerError) -> str:
    """Say that a server did not answer, or what it answered."""
    if isinstance(error, UnexpectedAnswerError):
        return f"{server} at {place} {error}"
    return f"no answer from {server} at {place}: {error}"


def address_near(control_plane: str, address: str) -> str:
    """An address of the gateway's config, as it is reached from this machine.

    A loopback or wildcard address is an address of the control plane's host, which may be another
    host than the one that runs this command. `control_plane` is the URL of the control plane.
    """
    if address.startswith("unix:"):
        return address
    host, port = split_host_port(address)
    if is_local(connectable(host)):
        host = urlsplit(control_plane).hostname or host
    return join_host_port(host, port)


def _url(text: str) -> str:
    if not is_url(text):
        raise argparse.ArgumentTypeError(URL_REMEDY)
    return text


def _local_url(address: str, tls: TlsFiles | None = None) -> str:
    return f"{'http' if tls is None else 'https'}://{reachable(address)}"


def _section(config: Path, name: str, schema: type[Section]) -> tuple[Section, Node]:
    """A section of a config file, and the whole document. Raises ConfigError.

    If the section or the document is not valid, the error is that of the whole config.
    """
    with _readable(config, name):
        root = parse(read_text(config)) or Node(0, {})
        data = root.data if isinstance(root.data, dict) else {}
        return schema.model_validate(data.get(name) or {}), root


@contextmanager
def _readable(config: Path, name: str) -> Iterator[None]:
    """Raises the ConfigError of the whole config if the section that the block reads is invalid."""
    try:
        yield
    except (DocumentError, ValidationError):
        load(config)
        problem = Problem(str(config), 0, name, "the section cannot be read")
        raise ConfigError([problem]) from None


def _origin(options: argparse.Namespace, config: Path, root: Node, *keys: str) -> str:
    """Name a key of a config and its line, or say that the key has its default."""
    named = "" if options.config is not None else f", from {CONFIG_VARIABLE}"
    node = root
    for key in keys:
        if key not in node.children:
            return f"the default, because {'.'.join(keys)} is not in {config}{named}"
        node = node.children[key]
    return f"{'.'.join(keys)} in {config} line {node.line}{named}"
