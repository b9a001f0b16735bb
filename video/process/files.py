"""The files that the supervisor and its workers share, in a private folder."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluice.private_folder import private_folder

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (the files get a private folder in it)


@dataclass(frozen=True, slots=True)
class WorkerFiles:
    """The names of the files."""

    folder: Path

    def snapshot(self, worker: int) -> Path:
        """The latest snapshot of a worker. The time of its last change is the last heartbeat."""
        return self.folder / f"snapshot-{worker}"

    def socket(self, worker: int) -> Path:
        """The socket at which a worker answers the other workers."""
        return self.folder / f"worker-{worker}"


@contextmanager
def worker_files() -> Iterator[WorkerFiles]:
    """Create the folder, in memory if possible, and remove it at the end. Raises OSError."""
    folders = (SHARED_MEMORY, Path(tempfile.gettempdir()))
    parent = next((each for each in folders if os.access(each, os.W_OK)), None)
    with private_folder("sluice-video-", parent) as folder:
        yield WorkerFiles(folder)
