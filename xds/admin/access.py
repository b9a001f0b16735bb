"""Access of the admin HTTP server: who calls it, and which role a handler needs.

A handler gets its caller by `principal_of`; the name is the author of the caller's changes.
"""

from collections.abc import Callable
from pathlib import Path

from sluice.config.addresses import is_local, split_host_port
from sluice.config.gateway import GatewayConfig
from sluice.http.access import AccessGuard, Principal, Role, own_name, principal_of
from sluice.http.hosts import HostGuard

__all__ = ["AccessGuard", "Principal", "Role", "admin_guard", "principal_of"]

ALLOWED_HOSTS_KEY = "control_plane.allowed_hosts"


def admin_guard(
    started: GatewayConfig,
    in_force: Callable[[], GatewayConfig],
    directory: Path,
    reader_token: Path | None = None,
) -> AccessGuard:
    """The guard of the admin HTTP server.

    The server listens on the address with which it was `started`. `in_force` returns the config
    whose `control_plane.access` counts now, with file names relative to `directory`. `reader_token`
    is a file with the token of one more reader.
    """
    section, identity = started.control_plane, started.identity
    return AccessGuard(
        lambda: in_force().control_plane.access,
        directory,
        HostGuard(section.http, section.allowed_hosts, ALLOWED_HOSTS_KEY),
        trusted=is_local(split_host_port(section.http)[0]),
        own_name=own_name(identity),
        reader_token=reader_token,
    )
