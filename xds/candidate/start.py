"""The start of a control plane: which store it uses, and its first config."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sluice.config import ConfigError, Problem
from sluice.config.addresses import is_local, split_host_port
from sluice.config.gateway import ControlPlane
from sluice.config.mcp import Mcp
from sluice.config.reader import ConfigReader
from xds.candidate.apply import FILE_AUTHOR, draft, file_origin, last_text, revision_name
from xds.sources.file import ConfigFile
from xds.sources.reading import Reading, read_config
from xds.sources.store.store import Draft, Revision, Store, StoreError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StartOptions:
    """Options of `sluice control-plane`.

    `config`: the config file; with a store, what an empty store begins with. `store`: the store;
    None: the config is a file. `watch`: a file whose edits become revisions. `directory`: where the
    files are that a config names; None: the folder of `watch` or `config`, else the working
    directory. `xds` and `http`: where this control plane listens; None: as `control_plane` says.
    `reader_token`: file with the token of one more reader of the admin HTTP server. `mcp`: where
    the server for istiod listens; None: as `istio.mcp` says.
    """

    config: Path | None
    store: str | None = None
    watch: Path | None = None
    directory: Path | None = None
    xds: str | None = None
    http: str | None = None
    reader_token: Path | None = None
    mcp: str | None = None

    @property
    def file(self) -> Path | None:
        """The file whose edits become revisions."""
        return self.watch or (self.config if self.store is None else None)

    @property
    def names_below(self) -> Path:
        """The folder that file names in a config are relative to."""
        return self.folder or Path()

    @property
    def folder(self) -> Path | None:
        """The folder of the gateway, below which a config by API may name files.

        None if nobody has chosen one: the working directory may have any content.
        """
        file = self.watch or self.config
        return self.directory or (None if file is None else file.parent)

    def addresses(self, configured: ControlPlane) -> tuple[str, str]:
        """Where the xDS and the HTTP server listen. Raises ConfigError.

        An option must not open to other machines what the config keeps on this one.
        """
        return (
            _chosen("xds", self.xds, configured.xds, "control_plane.xds"),
            _chosen("http", self.http, configured.http, "control_plane.http"),
        )

    def mcp_address(self, configured: Mcp | None) -> str | None:
        """Where the server for istiod listens; None without one. Raises ConfigError."""
        if configured is not None:
            return _chosen("mcp", self.mcp, configured.address, "istio.mcp.address")
        if self.mcp is not None:
            raise ConfigError([Problem("", 0, "--mcp", "the config has no istio.mcp: write it")])
        return None


def _chosen(option: str, address: str | None, configured: str, key: str) -> str:
    if address is None:
        return configured
    if _is_local(configured) and not _is_local(address):
        message = f"other machines can reach {address}: write it in {key}"
        raise ConfigError([Problem("", 0, f"--{option}", message)])
    return address


_FIRST_REASON: Final = "the first config of the store"
_MISSED_REASON: Final = "edited while no control plane was running"
_SAME_REASON: Final = "the file has the config of the head when it is first watched"


@dataclass(frozen=True, slots=True)
class FirstConfig:
    """The first config of a control plane.

    `draft` must be appended after `head` once the config has been compiled; None: it is the config
    of `head`. `file` is the watched file.
    """

    reading: Reading
    head: Revision | None
    draft: Draft | None = None
    file: ConfigFile | None = None


async def first_config(options: StartOptions, store: Store) -> FirstConfig:
    """Read the first config. Raises ConfigError if it is not valid, and StoreError."""
    head = await store.head()
    if head is None:
        return await asyncio.to_thread(_from_file, options, store)
    if options.file is None:
        if options.config is not None:
            log.info("the store has revision %d, so %s is not read", head.number, options.config)
        return FirstConfig(await asyncio.to_thread(_of_head, head, options), head)
    origin = file_origin(options.file)
    known = await last_text(store, origin)
    return await asyncio.to_thread(_watched, options, options.file, head, known)


def _from_file(options: StartOptions, store: Store) -> FirstConfig:
    """The config with which an empty store begins."""
    path = options.file or options.config
    if path is None:
        raise StoreError(
            f"the store {store.name} is empty: give a CONFIG, which becomes revision 1"
        )
    file = ConfigFile(path, options.names_below)
    loaded = file.read()
    reason = "" if options.store is None else _FIRST_REASON
    first = draft(loaded.text, loaded.policy.version, FILE_AUTHOR, reason, file_origin(path))
    return FirstConfig(file.reading, None, first, None if options.file is None else file)


def _watched(options: StartOptions, path: Path, head: Revision, known: str | None) -> FirstConfig:
    """The config of the head, or of the watched file if it is not the `known` text any more.

    A file that is not valid changes nothing, as while the control plane runs.
    """
    file = ConfigFile(path, options.names_below)
    try:
        loaded = file.read()
    except ConfigError as error:
        log.error("config %s is not valid and changes nothing:\n%s", path, error)
        return FirstConfig(_of_head(head, options), head, file=file)
    if loaded.text == known:
        return FirstConfig(_of_head(head, options), head, file=file)
    # A file that has the text of the head needs a revision too. Without it, the next start after
    # another change would take the file for an edit, which would undo this change.
    reason = _SAME_REASON if loaded.text == head.text else _MISSED_REASON
    edited = draft(loaded.text, loaded.policy.version, FILE_AUTHOR, reason, file_origin(path))
    return FirstConfig(file.reading, head, edited, file)


def _of_head(head: Revision, options: StartOptions) -> Reading:
    reader, name = ConfigReader(), revision_name(head.number)
    reading = read_config(reader, lambda: head.text, name, options.names_below)
    return reading.of_revision(head.number)


def _is_local(address: str) -> bool:
    return is_local(split_host_port(address)[0])
