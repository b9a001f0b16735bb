"""The access of operators according to a config file, which is read again when it changes.

The callout follows it by itself: it gets only the policy from the control plane.
"""

import logging
from pathlib import Path

from pydantic import ValidationError

from sluice.config.access import Access
from sluice.config.document import DocumentError, parse
from sluice.config.errors import ConfigError
from sluice.config.gateway import ControlPlane
from sluice.config.identity import Identity
from sluice.config.load import read_text
from sluice.config.model_blocks import ModelBlocks
from sluice.identity import absolute_access, callout_clients
from sluice.tls import FileState, file_states

log = logging.getLogger(__name__)


class FollowedAccess:
    """`control_plane.access` of a file, with absolute file names; `first` until it can be read.

    A section that is not valid changes nothing. Nor does one without entries after one that has
    some: the file may be half written, and every local user would be an operator.
    """

    def __init__(self, file: Path | None, first: Access) -> None:
        self._file = None if file is None else file.absolute()
        self._access = first
        self._state: FileState = None

    def __call__(self) -> Access:
        """The access that counts now."""
        if self._file is None:
            return self._access
        (state,) = file_states([self._file])
        if state != self._state:
            self._state = state
            self._read(self._file)
        return self._access

    def _read(self, file: Path) -> None:
        try:
            found = absolute_access(_access(read_text(file)), file.parent)
        except (ConfigError, DocumentError, ValidationError):
            # The text of the error may have a secret. The control plane says what is wrong.
            log.warning("control_plane.access of %s is not valid and changes nothing", file)
            return
        if found.configured or not self._access.configured:
            if found != self._access:
                log.info("control_plane.access of %s has changed", file)
            self._access = found
        else:
            log.warning("control_plane.access of %s has no entries: the last ones stay", file)


class CalloutClients:
    """The names in the certificates that may call the callout now."""

    def __init__(self, identity: Identity, access: FollowedAccess) -> None:
        self._identity = identity
        self._access = access

    def __call__(self) -> frozenset[str]:
        """The names."""
        return callout_clients(self._identity, self._access())


def _access(text: str) -> Access:
    """Read one section. The models are left out if they are in the usual style: they may be many.

    Raises DocumentError and ValidationError.
    """
    cut = ModelBlocks.of(text)
    root = parse(text) if cut is None else cut.parse_rest()
    data = root.data if root is not None and isinstance(root.data, dict) else {}
    return ControlPlane.model_validate(data.get("control_plane") or {}).access
