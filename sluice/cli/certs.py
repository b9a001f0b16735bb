"""`sluice certs`: a certificate authority and certificates for development."""

import argparse
import ipaddress
import sys
from datetime import UTC, datetime
from pathlib import Path

from sluice.certificates import Part, UnusableAuthorityError, make_certificates
from sluice.cli.commands import CommandError, Subcommands, command
from sluice.cli.credentials import valid_name
from sluice.cli.numbers import whole_number
from sluice.config.identity import CALLOUT, CONTROL_PLANE, ENVOY, VIDEO

PARTS = (
    Part(CONTROL_PLANE, "control-plane", is_server=True),
    Part(CALLOUT, "callout", is_server=True),
    Part(ENVOY, "envoy", is_server=False),
    Part(VIDEO, "video", is_server=True),
)
OPERATOR = "operator"
MAX_DAYS = 825
"""Days for which a certificate is valid: many clients refuse a longer time."""

_CONFIG = """\
identity:
  ca: {folder}/ca.crt
  control_plane:
    certificate: {folder}/control-plane.crt
    private_key: {folder}/control-plane.key
  callout:
    certificate: {folder}/callout.crt
    private_key: {folder}/callout.key
  envoy:
    certificate: {folder}/envoy.crt
    private_key: {folder}/envoy.key
  # Only with `video`:
  video:
    certificate: {folder}/video.crt
    private_key: {folder}/video.key
control_plane:
  access:
    certificates: [{clients}]
"""


def register(commands: Subcommands) -> None:
    """Add this module's commands."""
    certs = command(
        commands, "certs", _certs,
        "make a development CA, and certificates for the parts of a gateway and for operators; "
        "again: make new certificates, with the same CA",
    )  # fmt: skip
    certs.add_argument(
        "folder", metavar="FOLDER", type=Path, nargs="?", default=Path("certs"),
        help="folder of the files; default: certs",
    )  # fmt: skip
    certs.add_argument(
        "--host", action="append", default=[], type=_host, metavar="NAME",
        help="further host name or IP address of the servers; may be repeated",
    )  # fmt: skip
    certs.add_argument(
        "--operator", action="append", type=valid_name, metavar="NAME",
        help=f"name of an operator who gets a certificate; may be repeated; default: {OPERATOR}",
    )  # fmt: skip
    certs.add_argument(
        "--days", type=whole_number(1, MAX_DAYS), default=90,
        help="days for which the certificates are valid; default: %(default)s",
    )  # fmt: skip
    certs.add_argument(
        "--new-ca", action="store_true",
        help="make a new CA; the last one stays valid, until the next new one",
    )  # fmt: skip


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return valid_name(text)


def _certs(options: argparse.Namespace) -> int:
    operators = options.operator or [OPERATOR]
    clients = [Part(name, name, is_server=False) for name in operators]
    taken = {"ca", *(part.file for part in PARTS)}
    if taken.intersection(operators):
        raise CommandError(f"an operator cannot have the name of a part: {', '.join(taken)}")
    written = make_certificates(
        options.folder,
        (*PARTS, *clients),
        options.host,
        options.days,
        datetime.now(UTC),
        new_authority=options.new_ca,
    )
    try:
        for each in written:
            print(f"wrote {each.file}, valid until {each.end:%Y-%m-%d}", file=sys.stderr)
    except UnusableAuthorityError as error:
        raise CommandError(f"{error}: restore them, or give another FOLDER") from error
    print("Entries of the config:", file=sys.stderr)
    entries = ", ".join(f"{{name: {name}, role: operator}}" for name in operators)
    print(_CONFIG.format(folder=options.folder, clients=entries), end="")
    return 0
