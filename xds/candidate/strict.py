"""Lets the real Envoy check a config before it is pushed: `envoy --mode validate`.

Envoy reads the resources as a static config. It opens no port and connects to no host. The files of
this check have no secrets, and only this process can read them.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from sluice.config.checked import LoadedConfig
from sluice.config.errors import ConfigError, KeyPath
from sluice.config.files import UnusableFileError, read_named_file
from sluice.envoy_binary import find_envoy
from sluice.printable import printable
from xds.protocol.snapshot import Snapshot
from xds.resources.compiled import CompiledConfig
from xds.resources.envoy_versions import group_variant
from xds.static import static_bootstrap
from xds.static.messages import Json, objects

TIMEOUT: Final = 60.0
"""Seconds for Envoy: much more than it takes for 10,000 models."""

MAX_MESSAGE: Final = 400
"""Characters of Envoy's message that an error shows."""

MAX_OUTPUT: Final = 64 << 10
"""Bytes of Envoy's output that are read."""

MAX_PEM: Final = 1 << 20
"""Bytes of a file of TLS."""

_ERROR: Final = re.compile(r"error initializing configuration '[^']*': (.*)", re.DOTALL)


class StrictCheckError(Exception):
    """Envoy gave no verdict: it took too long, or it crashed. Also a config may be the cause."""


def check_with_envoy(
    loaded: LoadedConfig, compiled: CompiledConfig, envoy: Path | None = None
) -> None:
    """Raises ConfigError if Envoy rejects the resources of a config.

    Raises NoEnvoyError if there is no Envoy, and StrictCheckError if it gives no verdict.
    `envoy`: its path; None: that of `find_envoy`.
    """
    binary = find_envoy() if envoy is None else envoy
    snapshot = compiled.snapshot
    _check_snapshot(binary, loaded, snapshot, ())
    for group in compiled.config.node_groups:
        of_group = snapshot.of_variant(group_variant(group))
        _check_snapshot(binary, loaded, of_group, ("node_groups", group))


def _check_snapshot(binary: Path, loaded: LoadedConfig, snapshot: Snapshot, path: KeyPath) -> None:
    """Check what the Envoys of a group get, whose key path this is, or all others."""
    bootstrap = static_bootstrap(loaded, snapshot, "validate", with_secrets=False)
    _leave_out_files_of_other_machines(bootstrap)
    with tempfile.TemporaryDirectory(prefix="sluice-strict-") as folder:
        rejection = _rejection(binary, Path(folder), json.dumps(bootstrap))
    if rejection is not None:
        message = f"Envoy rejects this config: {rejection}; change the key that the text is about"
        raise ConfigError([loaded.place(path, message)])


def _rejection(binary: Path, folder: Path, bootstrap: str) -> str | None:
    """Why Envoy rejects the bootstrap; None if it accepts it."""
    file, output = folder / "bootstrap.json", folder / "output"
    file.write_text(bootstrap)
    argv = [str(binary), "--mode", "validate", "--config-path", str(file)]
    argv += ["--log-level", "critical", "--disable-hot-restart"]
    try:
        with output.open("wb") as stream:
            ended = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, cwd=folder,
                timeout=TIMEOUT, check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StrictCheckError(f"Envoy has not checked the config in {TIMEOUT:.0f} s") from None
    except OSError as error:
        raise StrictCheckError(f"{binary} cannot be executed: {error.strerror}") from error
    if ended.returncode == 0:
        return None
    with output.open("rb") as stream:
        text = stream.read(MAX_OUTPUT).decode(errors="replace")
    found = _ERROR.search(text)
    if found is None:
        raise StrictCheckError(f"Envoy ended with status {ended.returncode} without a verdict")
    return printable(" ".join(found[1].split()), MAX_MESSAGE)


def _leave_out_files_of_other_machines(bootstrap: Json) -> None:
    """Leave out TLS whose files this machine does not have: Envoy's machine has them."""
    static = bootstrap["static_resources"]
    absent = {each["name"] for each in static["secrets"] if not _has_files(each)}
    static["secrets"] = [each for each in static["secrets"] if each["name"] not in absent]
    for each in objects(static):
        socket = each.get("transport_socket")
        names = {inner.get("name") for inner in objects(socket)}
        if socket is not None and (names & absent or not _has_files(socket)):
            del each["transport_socket"]


def _has_files(settings: Json) -> bool:
    """Whether this machine has all files that an object names."""
    return all(_is_readable(each["filename"]) for each in objects(settings) if "filename" in each)


def _is_readable(name: str) -> bool:
    try:
        read_named_file(Path(name), MAX_PEM)
    except UnusableFileError:
        return False
    return True
