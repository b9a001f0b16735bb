"""What the processes of workers have counted before they ended.

The counts of uploads are those of all workers together, so they must not fall when a worker ends.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from threading import Lock

from protos.video_pb2 import StreamTotals, WorkerSnapshot
from video.process.snapshots import SnapshotReader
from video.service.totals import add_totals


class PastUploads:
    """Adds the counts of the processes that have ended. Safe for several threads."""

    def __init__(self, readers: Sequence[SnapshotReader]) -> None:
        self._readers = readers
        self._lock = Lock()
        self._past: list[WorkerSnapshot] = []

    def retire(self, worker: int) -> None:
        """Take the counts of a worker's process, which has ended."""
        with self._lock:
            snapshot = self._readers[worker].read()
            self._readers[worker].remove()
            self._past = [_merged([*self._past, snapshot])]

    def read(self) -> tuple[list[WorkerSnapshot], WorkerSnapshot]:
        """The snapshots of the workers, and all counts of uploads: also of past processes."""
        with self._lock:
            current = [reader.read() for reader in self._readers]
            return current, _merged([*self._past, *current])


def _merged(snapshots: Iterable[WorkerSnapshot]) -> WorkerSnapshot:
    """The counts that belong to no stream of a camera."""
    found = WorkerSnapshot()
    totals: dict[str, StreamTotals] = {}
    started: Counter[str] = Counter()
    for snapshot in snapshots:
        for each in snapshot.totals:
            if not each.stream:
                add_totals(totals.setdefault(each.model, StreamTotals(model=each.model)), each)
        started.update({each.model: each.started for each in snapshot.uploads})
        for reason, count in snapshot.refused.items():
            found.refused[reason] += count
        found.rejected_configs += snapshot.rejected_configs
    found.totals.extend(totals.values())
    for model, count in started.items():
        found.uploads.add(model=model, started=count)
    return found
