"""TLS and credentials of the parts of a gateway, from `identity` of the config."""

from collections.abc import Iterable
from pathlib import Path

from sluice.config.access import Access
from sluice.config.identity import CalloutIdentity, Identity, VideoIdentity
from sluice.tls import NO_CREDENTIALS, ClientCredentials, TlsFiles


def absolute(identity: Identity, directory: Path) -> Identity:
    """The identity with absolute file names. They are relative to `directory`."""
    own, video, folder = identity.control_plane, identity.video, directory.absolute()
    return identity.model_copy(
        update={
            "ca": _absolute(folder, identity.ca),
            "control_plane": None if own is None else own.model_copy(update=_files(folder, own)),
            "callout": identity.callout.model_copy(update=_files(folder, identity.callout)),
            "envoy": identity.envoy.model_copy(update=_files(folder, identity.envoy)),
            "video": video and video.model_copy(update=_files(folder, video)),
        }
    )


def absolute_access(access: Access, directory: Path) -> Access:
    """The access with absolute file names. They are relative to `directory`."""
    folder = directory.absolute()
    tokens = tuple(each.model_copy(update=_files(folder, each)) for each in access.tokens)
    return access.model_copy(update={"tokens": tokens})


def control_plane_files(identity: Identity | None, directory: Path) -> TlsFiles | None:
    """The certificate of the control plane as a server; None without TLS."""
    if identity is None or identity.control_plane is None or identity.ca is None:
        return None
    own = identity.control_plane
    return TlsFiles(
        directory / own.certificate, directory / own.private_key, directory / identity.ca
    )


def callout_files(identity: Identity | None, directory: Path) -> TlsFiles | None:
    """The certificate of the callout as a server; None without TLS."""
    return None if identity is None else _server_files(identity, identity.callout, directory)


def video_files(identity: Identity | None, directory: Path) -> TlsFiles | None:
    """The certificate of the video service as a server; None without TLS."""
    if identity is None or identity.video is None:
        return None
    return _server_files(identity, identity.video, directory)


def _server_files(
    identity: Identity, part: CalloutIdentity | VideoIdentity, directory: Path
) -> TlsFiles | None:
    certificate, key = part.certificate, part.private_key
    if identity.ca is None or certificate is None or key is None:
        return None
    return TlsFiles(directory / certificate, directory / key, directory / identity.ca)


def xds_client(identity: Identity | None, directory: Path) -> ClientCredentials:
    """The credentials of the callout as a client of xDS."""
    if identity is None:
        return NO_CREDENTIALS
    return _xds_client(identity, identity.callout, directory)


def video_xds_client(identity: Identity | None, directory: Path) -> ClientCredentials:
    """The credentials of the video service as a client of xDS."""
    if identity is None or identity.video is None:
        return NO_CREDENTIALS
    return _xds_client(identity, identity.video, directory)


def _xds_client(
    identity: Identity, part: CalloutIdentity | VideoIdentity, directory: Path
) -> ClientCredentials:
    own, server, token = (
        _server_files(identity, part, directory),
        identity.control_plane,
        part.token_file,
    )
    return ClientCredentials(
        ca=None if identity.ca is None else directory / identity.ca,
        server_name="" if server is None else server.name,
        certificate=None if own is None else own.certificate,
        key=None if own is None else own.key,
        token_file=None if token is None else directory / token,
    )


def callout_client(identity: Identity | None, own: TlsFiles | None) -> ClientCredentials:
    """The credentials of a client of the callout, which has the certificate `own` of a part."""
    if identity is None or not identity.mutual or own is None:
        return NO_CREDENTIALS
    return ClientCredentials(own.ca, identity.callout.name, own.certificate, own.key)


def callout_clients(identity: Identity, access: Access) -> frozenset[str]:
    """The names in the certificates that may call the callout: those of parts and of operators."""
    own = identity.control_plane
    parts = (identity.envoy.name, identity.callout.name, *(() if own is None else (own.name,)))
    operators = (each.name for each in access.certificates if each.role == "operator")
    return frozenset((*parts, *operators))


_FILES = ("certificate", "private_key", "token_file", "secret_file", "sds_folder")


def _files(folder: Path, section: object) -> dict[str, str | None]:
    """The file names of a section."""
    names: Iterable[str] = (name for name in _FILES if hasattr(section, name))
    return {name: _absolute(folder, getattr(section, name)) for name in names}


def _absolute(folder: Path, name: str | None) -> str | None:
    return None if name is None else str(folder / name)
