"""`sluice video-service`: runs the video service."""

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

from sluice.cli.commands import CommandError, Subcommands, UsageError, command
from sluice.cli.file_warnings import print_warnings
from sluice.cli.gateway import config_argument, find_config, read_identity, read_section
from sluice.cli.numbers import seconds, whole_number
from sluice.cli.section_options import with_options
from sluice.config import GatewayConfig
from sluice.config.gateway import ControlPlane, exposed_addresses
from sluice.config.identity_files import video_findings
from sluice.config.named_files import RUNS_HERE
from sluice.config.telemetry import Telemetry
from sluice.config.video import MAX_VIDEO_WORKERS, VideoService
from sluice.extras import VIDEO_HINT, missing_for_video
from sluice.followed_access import FollowedAccess
from sluice.identity import absolute, absolute_access, video_files, video_xds_client

_OPTIONS = {
    "http": "--http",
    "grpc": "--grpc",
    "metrics": "--metrics",
    "workers": "--workers",
    "drain_timeout": "--drain-timeout",
    "hang_timeout": "--hang-timeout",
}
_METRICS_OPTIONS = {"allowed_hosts": "--metrics-allowed-host"}
"""Options by key of `video` and of `telemetry.metrics` in the config."""

_SHARD = re.compile(r"(?:[A-Za-z0-9.-]*-)?([0-9]{1,4})/([0-9]{1,4})")


def register(commands: Subcommands) -> None:
    """Add the command."""
    parser = command(
        commands, "video-service", _video_service, "run the video service", ("video", "protos")
    )
    defaults = VideoService()
    config_argument(parser, "config file with the defaults of the options")
    parser.add_argument(
        "--xds",
        help="addresses of the xDS servers, separated by commas; default: control_plane.replicas, "
        f"else control_plane.xds, {GatewayConfig().control_plane.xds}",
    )
    parser.add_argument(
        "--http",
        help=f"address of worker 0 for uploads; default: video.http, {defaults.http}",
    )
    parser.add_argument(
        "--grpc",
        help=f"address of worker 0 for gRPC calls; default: video.grpc, {defaults.grpc}",
    )
    parser.add_argument(
        "--metrics",
        help="address of metrics, health and the status of streams; default: video.metrics, "
        f"{defaults.metrics}",
    )
    parser.add_argument(
        "--metrics-allowed-host", action="append", metavar="NAME",
        help="host name that the Host header of requests for the status may have; may be repeated; "
        "default: telemetry.metrics.allowed_hosts",
    )  # fmt: skip
    parser.add_argument(
        "--workers", type=whole_number(1, MAX_VIDEO_WORKERS),
        help=f"number of worker processes; default: video.workers, {defaults.workers}",
    )  # fmt: skip
    parser.add_argument(
        "--shard", metavar="I/N",
        help="this is number I, from 0, of N replicas with the same number of workers: each stream "
        "of a camera runs on one of them. I may be a name that ends with the number, such as "
        "video-2/3. Default: 0/1",
    )  # fmt: skip
    parser.add_argument(
        "--drain-timeout", type=seconds(0.0),
        help="seconds for uploads to end when a worker stops; default: video.drain_timeout, "
        f"{defaults.drain_timeout:g}",
    )  # fmt: skip
    parser.add_argument(
        "--hang-timeout", type=seconds(1.0),
        help="seconds without a heartbeat after which a worker is replaced; default: "
        f"video.hang_timeout, {defaults.hang_timeout:g}",
    )  # fmt: skip
    parser.add_argument(
        "--follow-access", type=Path, metavar="FILE",
        help="config file whose changes of control_plane.access count; default: CONFIG",
    )  # fmt: skip


def check_extra() -> None:
    """Raises CommandError if the packages for video are not installed."""
    if missing := missing_for_video():
        raise CommandError(f"{' and '.join(missing)} is not installed", hint=VIDEO_HINT)


def _video_service(options: argparse.Namespace) -> int:
    check_extra()
    from sluice.http.access import own_name
    from video.process.endpoint import EndpointSettings
    from video.process.main import run
    from video.process.worker import WorkerSettings
    from video.service.assignment import Assignment, Shard

    file = find_config(options)
    shard = Shard(*_shard(options.shard))
    config = _sections(file)
    given = {key: getattr(options, key) for key in _OPTIONS}
    video = with_options(config.video or VideoService(), given, _OPTIONS)
    hosts = {"allowed_hosts": options.metrics_allowed_host}
    metrics = with_options(config.telemetry.metrics, hosts, _METRICS_OPTIONS)
    _check_exposure(config, video)
    identity = config.identity
    files = video_files(identity, Path())
    clients = None if identity is None or files is None else frozenset((identity.envoy.name,))
    pairs = zip(video.addresses(video.http), video.addresses(video.grpc), strict=True)
    workers = [
        WorkerSettings(
            Assignment(index, video.workers, shard),
            http,
            grpc,
            options.xds or ",".join(config.control_plane.xds_addresses),
            video.drain_timeout,
            files,
            clients,
            video_xds_client(identity, Path()),
        )
        for index, (http, grpc) in enumerate(pairs)
    ]
    access = FollowedAccess(options.follow_access or file, config.control_plane.access)
    endpoint = EndpointSettings(
        video.metrics, metrics.allowed_hosts, files, access, own_name(identity)
    )
    return run(workers, endpoint, video.hang_timeout)


def _shard(text: str | None) -> tuple[int, int]:
    """The number of the replica, and the number of replicas. Raises UsageError."""
    match = _SHARD.fullmatch(text or "0/1")
    if match is None or not int(match[1]) < int(match[2]):
        raise UsageError(f"--shard {text}: write I/N, with I from 0 to N - 1, such as 0/2")
    return int(match[1]), int(match[2])


def _sections(file: Path | None) -> GatewayConfig:
    """The sections of a config file that the service needs, with absolute file names.

    Without a file, they have their defaults. Prints the warnings about files. Raises ConfigError.
    """
    if file is None:
        return GatewayConfig()
    control_plane = read_section(file, "control_plane", ControlPlane)
    identity = read_identity(file)
    found = video_findings(identity, file.parent, datetime.now(UTC))
    print_warnings(found, RUNS_HERE, file)
    access = absolute_access(control_plane.access, file.parent)
    return GatewayConfig().model_copy(
        update={
            "video": read_section(file, "video", VideoService),
            "control_plane": control_plane.model_copy(update={"access": access}),
            "identity": None if identity is None else absolute(identity, file.parent),
            "telemetry": read_section(file, "telemetry", Telemetry),
        }
    )


def _check_exposure(config: GatewayConfig, video: VideoService) -> None:
    """Raises UsageError for an address that strangers could use. An option may have set it."""
    for path, message in exposed_addresses(config.model_copy(update={"video": video})):
        if path[0] == "video":
            raise UsageError(f"{'.'.join(map(str, path))}: {message}")
