"""Looks up the addresses of a camera, without waiting longer than the caller wants to.

The resolver of the system cannot be interrupted, and waits for minutes if no DNS server answers. So
it has a thread of its own, which ends when the resolver does.
"""

import socket
import threading
from concurrent.futures import Future

Address = tuple[socket.AddressFamily, socket.SocketKind, int, tuple[object, ...]]
"""Family, kind, protocol, and what `socket.connect` takes."""


class Lookup:
    """One look-up of `host`, which has begun."""

    def __init__(self, host: str, port: int) -> None:
        self._found = Future[list[Address]]()
        name = f"look up {host}"
        threading.Thread(target=self._run, args=(host, port), name=name, daemon=True).start()

    def wait(self, seconds: float) -> list[Address] | None:
        """The addresses; None if they are not known within this time. Raises OSError."""
        try:
            return self._found.result(seconds)
        except TimeoutError:
            return None

    def _run(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            text = "the name is not valid" if isinstance(error, UnicodeError) else error.strerror
            self._found.set_exception(OSError(0, text))
        else:
            self._found.set_result([(each[0], each[1], each[2], each[4]) for each in found])
