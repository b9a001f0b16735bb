"""Runs the video service: the supervisor and its workers.

The supervisor has the HTTP endpoint for metrics and the status of the streams.
"""

import logging
import multiprocessing
import sys
from collections.abc import Sequence

from sluice.http.server import serve_in_thread
from sluice.supervision.stack_dump import stack_file
from sluice.supervision.stop_signals import stop_signals
from sluice.supervision.supervisor import Supervisor
from sluice.supervision.worker_slot import SlotSettings, WorkerSlot
from video.process import worker
from video.process.endpoint import MAX_REQUESTS, EndpointSettings, application
from video.process.files import WorkerFiles, worker_files
from video.process.metrics import VideoCollector
from video.process.past_uploads import PastUploads
from video.process.snapshots import SnapshotReader
from video.process.worker import WorkerSettings
from video.process.worker_record import WorkerRecord


def run(workers: Sequence[WorkerSettings], endpoint: EndpointSettings, hang_timeout: float) -> int:
    """Run the workers until SIGTERM or SIGINT; return the exit status.

    A worker that is silent for `hang_timeout` seconds is replaced.
    Raises OSError if the endpoint's address is in use.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s video supervisor: %(message)s",
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with worker_files() as files:
        readers = [SnapshotReader(files.snapshot(each.index)) for each in workers]
        uploads = PastUploads(readers)
        records = [WorkerRecord(each.index, readers[each.index], uploads) for each in workers]
        slots = _create_slots(workers, files, records, hang_timeout)
        app = application(
            endpoint,
            VideoCollector(uploads, records),
            lambda: [reader.read() for reader in readers],
            lambda: [slot.status for slot in slots],
        )
        with (
            serve_in_thread(app, endpoint.address, max_requests=MAX_REQUESTS, tls=endpoint.tls),
            stop_signals() as stop,
        ):
            Supervisor(slots).run(stop)
    return 0


def _create_slots(
    workers: Sequence[WorkerSettings],
    files: WorkerFiles,
    records: Sequence[WorkerRecord],
    hang_timeout: float,
) -> list[WorkerSlot]:
    # The fork server imports everything once, so starting a worker takes only a fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([worker.__name__])
    return [
        WorkerSlot(
            SlotSettings(
                each.index,
                "video",
                worker.main,
                (each, files),
                stack_file(files.folder, each.index),
                each.drain_timeout,
                hang_timeout,
            ),
            context,
            records[each.index],
        )
        for each in workers
    ]
