"""A DNS server for tests, and an Envoy that asks it."""

import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sluice.envoy_binary import find_envoy

A, AAAA = 1, 28
NO_ERROR, NAME_ERROR = 0, 3

ENVOY = """\
#!{python}
import os, sys, yaml
path = sys.argv[sys.argv.index("--config-path") + 1]
with open(path) as file:
    bootstrap = yaml.safe_load(file)
server = {{"address": "127.0.0.1", "port_value": {port}}}
resolver = bootstrap["typed_dns_resolver_config"]["typed_config"]
resolver["resolvers"] = [{{"socket_address": server}}]
with open(path, "w") as file:
    yaml.safe_dump(bootstrap, file)
os.execv({envoy!r}, [{envoy!r}, *sys.argv[1:]])
"""


@dataclass
class NameServer:
    """Resolves the names in `addresses`. It does not respond to questions about `silent` names."""

    port: int
    addresses: dict[str, list[str]] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def response(self, question: bytes) -> bytes | None:
        """The response to a message with one question (RFC 1035 section 4)."""
        labels, position = [], 12
        while length := question[position]:
            labels.append(question[position + 1 : position + 1 + length].decode())
            position += 1 + length
        name, kind = ".".join(labels).lower(), int.from_bytes(question[position + 1 : position + 3])
        if name in self.silent:
            return None
        records = [packed(text) for text in self.addresses.get(name, [])]
        answers = [record for record in records if len(record) == (4 if kind == A else 16)]
        code = NO_ERROR if name in self.addresses else NAME_ERROR
        counts = b"".join(count.to_bytes(2) for count in (1, len(answers), 0, 0))
        header = question[:2] + bytes((0x81, 0x80 | code)) + counts
        return (
            header
            + question[12 : position + 5]
            + b"".join(
                b"\xc0\x0c" + kind.to_bytes(2) + b"\0\1" + bytes(4) + len(a).to_bytes(2) + a
                for a in answers
            )
        )

    def envoy(self, directory: Path) -> Path:
        """A program that runs Envoy with this name server. For `sluice up --envoy`."""
        program = directory / "envoy"
        program.write_text(
            ENVOY.format(python=sys.executable, port=self.port, envoy=str(find_envoy()))
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program


def packed(address: str) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address)


@contextmanager
def name_server() -> Iterator[NameServer]:
    """Runs a name server during a with block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        server = NameServer(listener.getsockname()[1])

        def serve() -> None:
            while True:
                question, client = listener.recvfrom(4096)
                if not question:
                    return
                response = server.response(question)
                if response is not None:
                    listener.sendto(response, client)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closing:
                closing.sendto(b"", ("127.0.0.1", server.port))
            thread.join()
