"""TLS between the parts of a gateway: contexts that follow their files, and names in certificates.

New content of a file counts for new connections. Connections that are open keep what they have.
"""

import logging
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

log = logging.getLogger(__name__)

H2 = ("h2",)
"""The protocols of a gRPC server or client (ALPN)."""

MAX_TOKEN = 1024
"""Bytes of a token in a file."""

_Pairs = tuple[tuple[str, str], ...]
FileState = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the own certificate with its key, and the authorities of the other side."""

    certificate: Path
    key: Path
    ca: Path | None = None

    def __iter__(self) -> Iterator[Path]:
        return iter([each for each in (self.certificate, self.key, self.ca) if each is not None])


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """How a client identifies the server, and itself.

    `ca`: the authorities of the server; without it, there is no TLS. `server_name`: the name in the
    server's certificate; empty: the host of the URL. `certificate` and `key` are the client's own.
    `token_file` has a bearer token. The files are read for each connection.
    """

    ca: Path | None = None
    server_name: str = ""
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None

    def context(self, protocols: Sequence[str] = ()) -> ssl.SSLContext | None:
        """The context of a new connection. Raises OSError, also for files that are not valid."""
        if self.ca is None:
            return None
        check_readable(each for each in (self.ca, self.certificate, self.key) if each is not None)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def token(self) -> str | None:
        """The token; None without a file. Raises OSError if the file has no token."""
        if self.token_file is None:
            return None
        with self.token_file.open("rb") as file:
            token = file.read(MAX_TOKEN + 1).strip()
        text = token.decode("ascii", errors="replace")
        if not token or len(token) > MAX_TOKEN or not (text.isascii() and text.isprintable()):
            raise OSError("the file of the token must have one line of printable ASCII")
        return text


NO_CREDENTIALS: Final = ClientCredentials()
"""Of a client of a server without TLS."""


def check_readable(files: Iterable[Path]) -> None:
    """Raises an OSError that names the file. The errors of `ssl` do not name it."""
    for file in files:
        file.open("rb").close()


class FollowedContext(ssl.SSLContext):
    """A server context that builds itself anew when one of its files changes.

    `build` raises OSError (of which ssl.SSLError is a kind) for files that cannot be used. Then the
    last good context stays in use: a certificate may be replaced before its key.
    """

    _build: Callable[[], ssl.SSLContext]
    _files: Sequence[Path]
    _states: list[FileState]
    _current: ssl.SSLContext

    @classmethod
    def of(cls, build: Callable[[], ssl.SSLContext], files: Iterable[Path]) -> "FollowedContext":
        """Create the context. Raises OSError."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._build, context._files = build, tuple(files)
        context._states, context._current = file_states(context._files), build()
        return context

    def wrap_bio(  # type: ignore[override]  # asyncio and uvloop call it for each connection
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Wrap a new connection with the present content of the files."""
        states = file_states(self._files)
        if states != self._states:
            self._states = states
            self._reload()
        return self._current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def _reload(self) -> None:
        try:
            self._current = self._build()
            log.info("certificates are read again: %s", self._files[0])
        except OSError as error:
            reason = error.strerror or type(error).__name__
            log.warning(
                "the certificate %s or its key or CA cannot be used, the last ones stay: %s",
                self._files[0], reason,
            )  # fmt: skip


def server_context(files: TlsFiles, *, optional: bool = False) -> FollowedContext:
    """The context of an HTTP server. With `files.ca`, clients have a certificate of it.

    `optional`: whether a client may also have none. Raises OSError.
    """
    verify = ssl.CERT_OPTIONAL if optional else ssl.CERT_REQUIRED
    return FollowedContext.of(lambda: server_settings(files, verify), files)


def server_settings(files: TlsFiles, verify: ssl.VerifyMode) -> ssl.SSLContext:
    """The settings of a server, from TLS 1.2, with the present content of the files.

    `verify`: whether clients need a certificate of `files.ca`, if there is one. Raises OSError, of
    which ssl.SSLError is a kind.
    """
    check_readable(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files.certificate, files.key)
    if files.ca is not None:
        context.load_verify_locations(files.ca)
        context.verify_mode = verify
    return context


def peer_names(tls: ssl.SSLObject) -> frozenset[str]:
    """The names in the verified certificate of the other side; none without a certificate.

    They are its DNS names and URIs, or the common name if it has none of them.
    """
    certificate = tls.getpeercert() or {}
    alternatives = cast("_Pairs", certificate.get("subjectAltName", ()))
    names = frozenset(value for kind, value in alternatives if kind in ("DNS", "URI"))
    if names:
        return names
    subject = cast("tuple[_Pairs, ...]", certificate.get("subject", ()))
    return frozenset(value for part in subject for key, value in part if key == "commonName")


def file_states(files: Iterable[Path]) -> list[FileState]:
    """What differs when a file is changed or replaced."""
    return [_state(file) for file in files]


def _state(file: Path) -> FileState:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
