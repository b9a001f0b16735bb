"""Endpoints from files: each is a list of addresses in YAML or JSON.

Another program writes the files, such as a deployment or an agent of a service registry.
"""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path
from time import monotonic

from pydantic import TypeAdapter, ValidationError

from sluice.config.addresses import needs_dns
from sluice.config.document import DocumentError, parse
from sluice.config.endpoints import MAX_ENDPOINTS, Endpoint, EndpointsFrom
from sluice.config.files import UnusableFileError, read_named_file
from xds.sources.endpoints.source import Found, NoEndpoints, Report
from xds.sources.folder_events import FolderEvents
from xds.sources.written import (
    CHECK_INTERVAL,
    FileState,
    file_state,
    is_being_written,
    needed_quiet,
)

MAX_FILE = 4 << 20
"""Bytes: enough for `MAX_ENDPOINTS`."""

_Endpoints = TypeAdapter(tuple[Endpoint, ...])


def read_endpoints(file: Path) -> tuple[Endpoint, ...]:
    """The endpoints in a file. Raises UnusableFileError, which says what is wrong."""
    content = read_named_file(file, MAX_FILE)
    try:
        document = parse(content.decode())
    except UnicodeDecodeError:
        raise UnusableFileError("the file is not UTF-8 text") from None
    except DocumentError as error:
        raise UnusableFileError(f"line {error.line}: {error.message}") from None
    if document is None or not isinstance(document.data, list):
        # An empty file is one that is being written.
        raise UnusableFileError("write a list of endpoints; [] for none")
    try:
        endpoints = _Endpoints.validate_python(document.data)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        message = f"{place} is not valid: write address, and if needed weight and drain"
        raise UnusableFileError(message) from None
    _check(endpoints)
    return endpoints


def _check(endpoints: tuple[Endpoint, ...]) -> None:
    if len(endpoints) > MAX_ENDPOINTS:
        raise UnusableFileError(f"write at most {MAX_ENDPOINTS} endpoints")
    seen: set[str] = set()
    for index, endpoint in enumerate(endpoints):
        if endpoint.address in seen:
            raise UnusableFileError(f"{index}.address: two endpoints have this address")
        seen.add(endpoint.address)
        if needs_dns(endpoint.address):
            message = "write an IP address and a port: for a name, use endpoints_from.dns"
            raise UnusableFileError(f"{index}.address: {message}")


class EndpointFiles:
    """Finds endpoints in files. Paths are relative to `directory`.

    A file that is written in place is read when it is complete (`xds.sources.written`).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._origins: dict[Path, EndpointsFrom] = {}
        self._known: dict[Path, FileState] = {}
        """The state of each file when it was read last."""
        self._changing: dict[Path, tuple[FileState, float]] = {}
        """The latest state of each file that may be incomplete, and when it was seen first."""
        self._events = FolderEvents("the files with endpoints")

    def handles(self, origin: EndpointsFrom) -> bool:
        """Whether the origin is a file."""
        return origin.file is not None

    def find(self, origin: EndpointsFrom) -> Found:
        """Read the file of an origin."""
        assert origin.file is not None
        return _read(self._directory / origin.file)

    def follow(self, origins: Collection[EndpointsFrom]) -> None:
        """Watch the files of these origins. A new one is read once more: it may have changed."""
        self._origins = {
            self._directory / each.file: each for each in origins if each.file is not None
        }
        self._known = {file: each for file, each in self._known.items() if file in self._origins}

    async def run(self, report: Report) -> None:
        """Report each change of a file."""
        while True:
            directories = self._directories()
            async for _ in self._events.of(directories):
                await self._read_changed(report)
                if self._directories() != directories:
                    break

    async def _read_changed(self, report: Report) -> None:
        """Read the files that have changed, when they are complete."""
        while True:
            changed = await asyncio.to_thread(lambda: list(self._complete()))
            for origin, found in changed:
                report(origin, found)
            if not self._changing:
                return
            await asyncio.sleep(CHECK_INTERVAL)

    def _complete(self) -> Iterator[tuple[EndpointsFrom, Found]]:
        """What is in the files that have changed and are complete."""
        for file, origin in dict(self._origins).items():
            state, known = file_state(file), self._known.get(file)
            if state == known:
                self._changing.pop(file, None)
                continue
            seen, since = self._changing.get(file, (None, 0.0))
            if seen != state:
                since = monotonic()
                self._changing[file] = state, since
            quiet = needed_quiet(state, known, written=is_being_written(file))
            if monotonic() - since >= quiet:
                self._known[file] = state
                self._changing.pop(file, None)
                yield origin, _read(file)
        for gone in self._changing.keys() - self._origins.keys():
            del self._changing[gone]

    def _directories(self) -> tuple[Path, ...]:
        # Directories, not files: the watch of a file ends when the file is replaced.
        parents = {file.parent.resolve() for file in self._origins}
        return tuple(sorted(parent for parent in parents if parent.is_dir()))


def _read(file: Path) -> Found:
    try:
        return read_endpoints(file)
    except UnusableFileError as error:
        return NoEndpoints(f"{file}: {error}")
