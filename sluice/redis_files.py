"""Credentials of a client of Redis, and a client that follows the files that have them."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from sluice.config.files import UnusableFileError
from sluice.config.limit_backend import read_password
from sluice.tls import FileState, check_readable, file_states

log = logging.getLogger(__name__)

CLOSE_DELAY: Final = 10.0
"""Seconds for which a client that was replaced stays open: longer than an exchange may take."""


@dataclass(frozen=True, slots=True)
class RedisCredentials:
    """How a client of Redis identifies itself, and how it knows the server.

    `password_file` replaces `password`. `ca` verifies the server instead of the certificates of the
    system. `certificate` and `private_key` are the client's own. Without TLS, the last three are
    not used.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, whose change replaces a client."""
        named = (self.password_file, self.ca, self.certificate, self.private_key)
        return tuple(each for each in named if each is not None)

    def login(self) -> dict[str, str | None]:
        """The options of a client that log in. Raises UnusableFileError."""
        password = self.password
        if self.password_file is not None:
            password = read_password(self.password_file)
        return {"username": self.username, "password": password}

    def tls(self) -> dict[str, str | None]:
        """The options of a client with TLS, after a look at the files.

        Raises OSError, of which ssl.SSLError is a kind, for files that cannot be used.
        """
        named = {
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.private_key,
        }
        used = {name: file for name, file in named.items() if file is not None}
        check_readable(used.values())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            context.load_verify_locations(self.ca)
        if self.certificate is not None:
            # With a password, OpenSSL does not ask for one at the terminal.
            context.load_cert_chain(self.certificate, self.private_key, password="")
        return {name: str(file) for name, file in used.items()}


class Closable(Protocol):
    """A client of Redis."""

    async def aclose(self) -> None:
        """Close the connections."""


Client = TypeVar("Client", bound=Closable)


class FollowedClient(Generic[Client]):
    """A client that is created again when one of its files changes.

    `create` raises UnusableFileError for files that cannot be used. Then the last client stays: a
    certificate may be replaced before its key.
    """

    def __init__(self, files: tuple[Path, ...], create: Callable[[], Client]) -> None:
        self._files, self._create = files, create
        self._states: list[FileState] = file_states(files)
        self._client = create()
        self._replaced: set[asyncio.Task[None]] = set()

    def __call__(self) -> Client:
        """The client for the next exchange, on the event loop."""
        if self._files:
            states = file_states(self._files)
            if states != self._states:
                self._states = states
                self._replace()
        return self._client

    async def aclose(self) -> None:
        """Close all clients."""
        replaced = list(self._replaced)
        for task in replaced:
            task.cancel()
        await asyncio.gather(*replaced, return_exceptions=True)
        await self._client.aclose()

    def _replace(self) -> None:
        try:
            new = self._create()
        except (UnusableFileError, OSError) as error:
            log.warning("the credentials for Redis cannot be used, the last ones stay: %s", error)
            return
        log.info("the credentials for Redis are read again")
        task = asyncio.create_task(_close_later(self._client))
        self._replaced.add(task)
        task.add_done_callback(self._replaced.discard)
        self._client = new


async def _close_later(client: Closable) -> None:
    """Close a client when its exchanges have ended."""
    try:
        await asyncio.sleep(CLOSE_DELAY)
    finally:
        await client.aclose()
