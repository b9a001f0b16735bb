"""The secrets of a static config of Envoy, without their content."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sluice.config.checked import LoadedConfig
from sluice.config.models import Version
from sluice.config.redaction import REDACTED
from sluice.config.secrets import system_roots_file
from sluice.contract.names import cluster_name
from xds.resources.secrets import SYSTEM_ROOTS, ca_name, certificate_name, header_name
from xds.static.messages import Json

PLACEHOLDER: Final[Json] = {"inline_string": REDACTED}


def named_secrets(loaded: LoadedConfig) -> list[Json]:
    """Every secret that the clusters name. Those in files have the names of the files, and the
    values of headers are `(redacted)`.
    """
    found = []
    for path, version in loaded.config.referring_versions():
        cluster = cluster_name(path[1], path[3])
        found += list(_of_version(cluster, version, loaded.directory.absolute()))
    roots = system_roots_file(os.environ)
    if roots is not None:
        found.append(_authorities(SYSTEM_ROOTS, roots))
    return found


def _of_version(cluster: str, version: Version, directory: Path) -> Iterator[Json]:
    tls = version.tls
    if tls is not None and tls.ca is not None:
        yield _authorities(ca_name(cluster), directory / tls.ca)
    if tls is not None and tls.certificate is not None and tls.private_key is not None:
        certificate = {
            "certificate_chain": _file(directory / tls.certificate),
            "private_key": _file(directory / tls.private_key),
        }
        yield {"name": certificate_name(cluster), "tls_certificate": certificate}
    for header in version.headers_from_secret:
        name = header_name(cluster, header)
        yield {"name": name, "generic_secret": {"secret": PLACEHOLDER}}


def _authorities(name: str, file: Path) -> Json:
    return {"name": name, "validation_context": {"trusted_ca": _file(file)}}


def _file(file: Path) -> Json:
    return {"filename": str(file)}
