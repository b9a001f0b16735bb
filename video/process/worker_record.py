"""What the supervisor knows of one worker: its heartbeats, and what happened to its processes."""

from video.process.past_uploads import PastUploads
from video.process.snapshots import SnapshotReader


class WorkerRecord:
    """Written by the thread of the supervisor. Any thread may read.

    `silence`: seconds since the last heartbeat; None while no process runs.
    """

    def __init__(self, index: int, reader: SnapshotReader, uploads: PastUploads) -> None:
        self.index = index
        self._reader = reader
        self._uploads = uploads
        self.starts = 0
        self.hangs = 0
        self.up = False
        self.silence: float | None = None

    def heartbeats(self) -> int:
        """A number that changes with each heartbeat."""
        return self._reader.heartbeats()

    def is_serving(self, pid: int) -> bool:
        """Whether this process says that it serves."""
        snapshot = self._reader.read()
        return snapshot.serving and snapshot.pid == pid

    def started(self) -> None:
        """A process runs."""
        self.starts += 1
        self.up = True

    def hung(self) -> None:
        """The process hangs, and is killed."""
        self.hangs += 1
        self.up = False

    def ended(self) -> None:
        """No process runs."""
        self.up, self.silence = False, None
        self._uploads.retire(self.index)

    def silent(self, seconds: float) -> None:
        """Silence of the process at the latest look."""
        self.silence = seconds
