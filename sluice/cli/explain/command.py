"""`sluice explain`: the decision on a request, stage by stage."""

import argparse
import asyncio
import json
from collections.abc import Iterator

from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.exit_status import ExitStatus
from sluice.cli.explain.assumed import AssumedCaller
from sluice.cli.explain.curl import add_arguments, read_request
from sluice.cli.gateway import (
    address_near,
    config_argument,
    control_plane,
    control_plane_option,
    control_plane_status,
    find_config,
    no_answer,
    no_control_plane,
    require_config,
)
from sluice.config.addresses import is_ip, is_local, split_host_port
from sluice.explain.report import Explanation
from sluice.explain.source import NoGateway, RunningGateway, Source
from sluice.http.client import (
    NoAnswerError,
    Status,
    UnexpectedAnswerError,
    reading_status,
)
from sluice.printable import printable

MAX_LINE = 5000
"""Maximum characters of a printed line."""

EXIT_REFUSED = ExitStatus.CONFLICT
"""The gateway would refuse the request."""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    parser = command(
        commands,
        "explain",
        _explain,
        "explain the decision on a request, stage by stage; takes the arguments of curl",
        ("extproc", "protos"),
    )
    # An abbreviation could be another option of curl.
    parser.allow_abbrev = False
    config_argument(parser, "config of the gateway")
    parser.add_argument(
        "url", metavar="URL", help="URL or path of the request; its host is not contacted"
    )
    add_arguments(parser)
    control_plane_option(parser)
    parser.add_argument(
        "--offline", action="store_true",
        help="decide by the file CONFIG, and ask no gateway: for a config before it is used",
    )  # fmt: skip
    caller = parser.add_mutually_exclusive_group()
    caller.add_argument(
        "--claims", metavar="JSON", type=_claims,
        help="decide as if the request had a valid token with these claims; iss names its issuer, "
        "default: the first; aud and exp are added",
    )  # fmt: skip
    caller.add_argument(
        "--api-key",
        metavar="NAME",
        help="decide as if the request had the API key with this name in auth.api_keys",
    )
    parser.add_argument(
        "--client-address", metavar="ADDRESS", type=_ip_address,
        help="IP address of the client, for limits; default: 127.0.0.1",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the explanation as JSON")


def _ip_address(text: str) -> str:
    if not is_ip(text):
        raise argparse.ArgumentTypeError("write an IP address")
    return text


def _claims(text: str) -> dict[str, object]:
    try:
        claims = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise argparse.ArgumentTypeError('write a JSON object, such as \'{"sub": "alice"}\'')
    return claims


def _explain(options: argparse.Namespace) -> int:
    # Imported late: main checks extproc and protos before it calls this function.
    from sluice.cli.explain.credentials import with_credentials
    from sluice.explain.policy import NoPolicyError, read_policy
    from sluice.explain.stages import explanation

    if str(options.config).startswith(("http:", "https:")):
        raise UsageError("CONFIG comes before URL")
    request = read_request(options)
    assumed = AssumedCaller(options.claims, options.api_key)
    source = _source(options, request.authority)

    async def run() -> Explanation:
        read, asked = with_credentials(await read_policy(source.gateway), request, assumed)
        return await explanation(source, read, asked, options.client_address)

    try:
        explained = asyncio.run(run())
    except NoPolicyError as error:
        raise CommandError(error) from error
    if options.json:
        print(json.dumps(explained.as_json(), indent=2))
    else:
        for line in explained.lines():
            # A claim of a token may contain control sequences of terminals.
            print(printable(line, MAX_LINE))
    return 0 if explained.decision.admitted else EXIT_REFUSED


def _source(options: argparse.Namespace, authority: str) -> Source:
    if options.offline:
        if options.control_plane is not None or options.context is not None:
            raise UsageError("--offline asks no gateway, so it excludes --control-plane")
        file = require_config(options)
        return Source(f"from {file}", NoGateway(file, "--offline asks no gateway"))
    config = find_config(options)
    address = control_plane(options)
    try:
        status = control_plane_status(address, "worker_addresses")
    except NoAnswerError as error:
        answered = isinstance(error, UnexpectedAnswerError)
        if config is None or address.by_option or answered:
            raise no_control_plane(address, error) from error
        reason = no_answer("the control plane", address, error)
        return Source(f"from {config}, no gateway answers", NoGateway(config, reason))
    try:
        with reading_status():
            workers = [address_near(address.url, each) for each in status["worker_addresses"]]
            xds = address_near(address.url, status["xds"])
            gateway = RunningGateway(xds, tuple(workers), address.xds, address.workers)
            notes = tuple(_notes(status, authority))
    except NoAnswerError as error:
        raise no_control_plane(address, error) from error
    return Source(f"in force at {address.url}", gateway, notes)


def _notes(status: Status, authority: str) -> Iterator[str]:
    if status["error"] is not None:
        yield "the latest change of the config is not in force: see sluice status"
    host, _, port = authority.rpartition(":")
    listener = status["listener"]
    if is_local(host.strip("[]")) and port != split_host_port(listener)[1]:
        yield f"the URL names {authority}, but the listener of this gateway is {listener}"
