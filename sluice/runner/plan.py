"""The processes of a gateway: their arguments, and the addresses that they listen on."""

import json
import logging
import os
import resource
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sluice.bootstrap import NodeNames, max_connections, render, write_sds_files
from sluice.config import GatewayConfig
from sluice.config.addresses import is_localhost, split_host_port
from sluice.config.gateway import MAX_THREADS
from sluice.config.load import CONFIG_VARIABLE
from sluice.config.node_groups import group_of
from sluice.data import data_path
from sluice.envoy_binary import NoEnvoyError, find_envoy
from sluice.identity import absolute, absolute_access
from sluice.output import replace_file
from sluice.runner.cpus import usable_cpus
from sluice.runner.process import ProcessSpec

log = logging.getLogger(__name__)

DEMO_MODELS = frozenset({"sentiment", "digits", "echo"})
"""Models that `examples.model_server` can serve."""

_ANY_PORT = "127.0.0.1:0"


def new_token(folder: Path) -> Path:
    """A file in `folder` with a new token, by which the runner reads the status of the gateway."""
    file = folder / "reader.token"
    replace_file(file, secrets.token_urlsafe(32).encode(), private=True)
    return file


def control_plane(
    config: GatewayConfig,
    path: Path | None,
    store: str | None = None,
    reader_token: Path | None = None,
) -> ProcessSpec:
    """The control plane: xDS server and admin HTTP server.

    `reader_token`: file with the token of one more reader.
    """
    argv = [*_python("sluice.cli"), "control-plane"]
    if path is not None:
        argv.append(str(path))
    if store is not None:
        argv += ["--store", store]
    if reader_token is not None:
        argv += ["--reader-token", str(reader_token)]
    listens = [config.control_plane.http, config.control_plane.xds]
    if config.mcp is not None:
        listens.append(config.mcp.address)
    return ProcessSpec("control plane", argv, listens, _environment())


def callout(
    config: GatewayConfig,
    directory: Path,
    transport: str | None,
    folder: Path,
    followed: Path | None = None,
) -> ProcessSpec:
    """The supervisor of the callout workers. A worker listens after it has received a policy.

    File names in the config are relative to `directory`. Writes the sections about identity and
    access, which have no options, into `folder`. `followed`: the config file whose changes of the
    access count.
    """
    telemetry = config.telemetry
    sections = folder / "callout.yaml"
    content = json.dumps(_identity_sections(config, directory))
    replace_file(sections, content.encode(), private=True)
    argv = [
        *_python("sluice.cli"), "callout", str(sections),
        "--xds", ",".join(config.control_plane.xds_addresses),
        "--address", config.callout.address,
        "--workers", str(config.callout.workers),
        "--drain-timeout", str(config.callout.drain_timeout),
        "--hang-timeout", str(config.callout.hang_timeout),
        "--max-memory", f"{config.callout.max_memory}B",
        "--metrics", telemetry.metrics.address,
    ]  # fmt: skip
    if followed is not None:
        argv += ["--follow-access", str(followed)]
    for name in telemetry.metrics.allowed_hosts:
        argv += ["--metrics-allowed-host", name]
    if telemetry.profile is not None:
        argv += ["--profile-secret", str(directory / telemetry.profile.secret_file)]
    if transport is not None:
        argv += ["--transport", transport]
    timeout = config.callout.drain_timeout + 2
    listens = [*config.callout.addresses(), telemetry.metrics.address]
    return ProcessSpec("callout", argv, listens, _environment(), timeout)


def video_service(
    config: GatewayConfig, directory: Path, folder: Path, followed: Path | None = None
) -> ProcessSpec | None:
    """The supervisor of the workers of the video service. None if the config has no `video`.

    Arguments as in `callout`.
    """
    video = config.video
    if video is None:
        return None
    sections = folder / "video.yaml"
    content = _identity_sections(config, directory)
    content["video"] = video.model_dump(mode="json", exclude_none=True)
    content["telemetry"] = {
        "metrics": {"allowed_hosts": list(config.telemetry.metrics.allowed_hosts)}
    }
    replace_file(sections, json.dumps(content).encode(), private=True)
    argv = [
        *_python("sluice.cli"), "video-service", str(sections),
        "--xds", ",".join(config.control_plane.xds_addresses),
    ]  # fmt: skip
    if followed is not None:
        argv += ["--follow-access", str(followed)]
    listens = [*video.addresses(video.http), *video.addresses(video.grpc), video.metrics]
    return ProcessSpec("video service", argv, listens, _environment(), video.drain_timeout + 3)


def _identity_sections(config: GatewayConfig, directory: Path) -> dict[str, object]:
    """A config with the sections about identity and access, with absolute file names."""
    section = config.control_plane
    access = absolute_access(section.access, directory).model_dump(mode="json", exclude_none=True)
    found: dict[str, object] = {
        "control_plane": {"access": access, "allow_insecure": section.allow_insecure},
        "callout": {"allow_insecure": config.callout.allow_insecure},
        "telemetry": {"metrics": {"allow_insecure": config.telemetry.metrics.allow_insecure}},
    }
    if config.identity is not None:
        identity = absolute(config.identity, directory)
        found["identity"] = identity.model_dump(mode="json", exclude_none=True)
    return found


def envoy(
    config: GatewayConfig,
    directory: Path,
    binary: Path | None,
    folder: Path,
    node: NodeNames,
) -> ProcessSpec:
    """Envoy. Writes the bootstrap into `folder`, and the files of SDS.

    File names in the config are relative to `directory`. Raises NoEnvoyError if no binary is found,
    and OSError.
    """
    bootstrap = folder / "bootstrap.yaml"
    write_sds_files(config, directory)
    content = render(
        config,
        node,
        connections=_client_connections(config),
        directory=directory,
        drain_folder=folder,
    )
    bootstrap.write_text(content)
    argv = [
        str(find_envoy() if binary is None else _executable(binary)),
        "--config-path", str(bootstrap),
        "--concurrency", str(config.envoy.concurrency or min(usable_cpus(), MAX_THREADS)),
        "--log-level", config.envoy.log_level,
        # Envoy warns of deprecated fields: `xds.resources.telemetry` says why there is one.
        "--component-log-level", "misc:error",
        "--disable-hot-restart",
    ]  # fmt: skip
    return ProcessSpec("envoy", argv, [config.envoy.admin, _listener(config, node)])


def _listener(config: GatewayConfig, node: NodeNames) -> str:
    """The address on which an Envoy listens for clients."""
    group = group_of(config.node_groups, node.id, node.cluster, node.locality)
    common = config.listener
    return (common if group is None else config.node_groups[group].listener_of(common)).address


def _client_connections(config: GatewayConfig) -> int:
    """The maximum number of client connections of an Envoy on this machine."""
    wanted = config.envoy.max_connections
    # Envoy raises its limit of open files to the hard limit.
    _, max_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if max_files == resource.RLIM_INFINITY:
        return wanted
    possible = max_connections(config, max_files)
    if possible < wanted:
        asked_for = "max_connections" in config.envoy.model_fields_set
        log.log(
            logging.WARNING if asked_for else logging.INFO,
            "Envoy may open %d files, so it accepts only %d client connections, not "
            "envoy.max_connections (%d): raise the hard limit of open files (ulimit -Hn)",
            max_files, possible, wanted,
        )  # fmt: skip
    return possible


def demo_models(config: GatewayConfig, *, faults: bool) -> ProcessSpec | None:
    """The example model server, for the loopback endpoints of the demo models.

    None if the config has no such endpoint. `faults`: whether clients may inject faults.
    """
    argv = _python("examples.model_server")
    if faults:
        argv.append("--faults")
    listens = []
    for name, version, protocol, address in _demo_endpoints(config):
        rest, grpc = (_ANY_PORT, address) if protocol == "grpc" else (address, _ANY_PORT)
        argv += ["--serve", f"{name}:{version}", rest, grpc]
        listens.append(address)
    environment = _environment(str(data_path("examples").parent))
    return ProcessSpec("example models", argv, listens, environment) if listens else None


def _demo_endpoints(config: GatewayConfig) -> Iterator[tuple[str, str, str, str]]:
    """Model, version, protocol and address of each endpoint that the example server serves."""
    seen = set()
    for name, model in config.models.items():
        for version, served in model.versions.items():
            for endpoint in served.endpoints:
                address = endpoint.address
                host = split_host_port(address)[0]
                local = host == "127.0.0.1" or is_localhost(host)
                if name in DEMO_MODELS and local and address not in seen:
                    seen.add(address)
                    yield name, version, served.protocol, address


def _python(module: str) -> list[str]:
    # Without -P, packages in the working directory would hide the installed ones.
    return [sys.executable, "-P", "-m", module]


def _environment(*folders: str) -> dict[str, str]:
    """The import path of a child process: these folders, then the import path of this process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, *sys.path])}
    # The arguments of a child process are complete. The file may have changed since the start.
    environment.pop(CONFIG_VARIABLE, None)
    return environment


def _executable(binary: Path) -> str:
    """The path of the program. Raises NoEnvoyError if it cannot be executed."""
    found = shutil.which(binary)
    if found is None:
        raise NoEnvoyError(f"no Envoy at {binary}: the file is missing or cannot be executed")
    return found
