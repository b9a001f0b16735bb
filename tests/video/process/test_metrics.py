"""Metrics and status come from the snapshots of the workers."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from protos.video_pb2 import (
    Counts,
    SinkStatus,
    StreamStatus,
    StreamTotals,
    UploadTotals,
    WorkerSnapshot,
)
from sluice.config.access import Access
from sluice.supervision.worker_status import WorkerStatus
from video.process import catalog
from video.process.endpoint import EndpointSettings, application
from video.process.metrics import VideoCollector
from video.process.past_uploads import PastUploads
from video.process.snapshots import SnapshotReader, SnapshotWriter
from video.process.worker_record import WorkerRecord
from video.service.latency import BUCKETS

COUNTS = Counts(
    received=100, skipped=40, undecodable=5, frames=55, results=50, drops={"overload": 2},
    errors={"deadline": 1}, bytes=1000, reconnects=3,
)  # fmt: skip


def snapshot(pid: int = 7, results: int = 10) -> WorkerSnapshot:
    latencies = [0] * (len(BUCKETS) + 1)
    latencies[2] = results
    return WorkerSnapshot(
        pid=pid,
        serving=True,
        streams=[
            StreamStatus(
                name="door", model="digits", state="running", counts=COUNTS, p99=12.5,
                sinks=[SinkStatus(name="0-file", delivered=9, waiting=4, error="disk full")],
            )
        ],
        totals=[
            StreamTotals(stream="door", model="digits", counts=COUNTS, latencies=latencies),
            StreamTotals(
                model="digits", counts=Counts(received=results, frames=results, results=results),
                latencies=latencies, seconds=0.2,
            ),
        ],
        uploads=[UploadTotals(model="digits", started=3, open=1)],
        watchers=2,
        refused={"too_many_uploads": 4},
        connected=True,
    )  # fmt: skip


class Service:
    """Two workers, of which the test writes the snapshots."""

    def __init__(self, folder: Path) -> None:
        self.readers = [SnapshotReader(folder / f"snapshot-{n}") for n in range(2)]
        self.uploads = PastUploads(self.readers)
        self.records = [WorkerRecord(n, self.readers[n], self.uploads) for n in range(2)]
        self._folder = folder

    def write(self, worker: int, content: WorkerSnapshot) -> None:
        SnapshotWriter(self._folder / f"snapshot-{worker}", lambda: content).write()

    def values(self) -> dict[str, dict[tuple[str, ...], float]]:
        """The values of all series by name, and by the values of the sorted labels."""
        registry = CollectorRegistry()
        registry.register(VideoCollector(self.uploads, self.records))
        found: dict[str, dict[tuple[str, ...], float]] = {}
        for family in text_string_to_metric_families(generate_latest(registry).decode()):
            for sample in family.samples:
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                found.setdefault(sample.name, {})[labels] = sample.value
        return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    return Service(tmp_path)


def test_every_family_of_the_catalog_is_served_with_its_labels(service: Service) -> None:
    service.write(0, snapshot())
    service.records[0].silent(0.1)
    registry = CollectorRegistry()
    registry.register(VideoCollector(service.uploads, service.records))
    served = {}
    for family in registry.collect():
        total = "_total" if family.type == "counter" else ""
        samples = [each for each in family.samples if "le" not in each.labels]
        served[family.name + total] = {frozenset(each.labels) for each in samples}
    assert served.keys() == {family.name for family in catalog.FAMILIES}
    for family in catalog.FAMILIES:
        expected = set() if family is catalog.WORKER_HANGS else {frozenset(family.labels)}
        assert served[family.name] <= expected or served[family.name] == {frozenset(family.labels)}


def test_outcomes_add_up_to_the_received_frames(service: Service) -> None:
    service.write(0, snapshot())
    values = service.values()
    outcomes = values["sluice_video_frames_total"]
    door = [value for labels, value in outcomes.items() if "door" in labels]
    in_flight = values["sluice_video_frames_in_flight"][("digits", "door")]
    received = values["sluice_video_received_frames_total"][("digits", "door")]
    assert sum(door) + in_flight == received == 100


def test_counts_of_uploads_are_those_of_all_workers_also_of_processes_that_have_ended(
    service: Service,
) -> None:
    service.write(0, snapshot(results=10))
    service.write(1, snapshot(results=20))

    def results() -> float:
        return service.values()["sluice_video_frames_total"][("digits", "result", "", "")]

    assert results() == 30
    service.records[0].ended()
    assert results() == 30
    service.write(0, snapshot(pid=8, results=1))
    assert results() == 31
    values = service.values()
    assert values["sluice_video_uploads_total"][("digits",)] == 9
    assert values["sluice_video_open_uploads"][("digits",)] == 2
    assert values["sluice_video_frame_seconds_count"][("digits", "")] == 31
    assert values["sluice_video_refused_total"][("too_many_uploads",)] == 12


def test_a_worker_serves_only_if_its_present_process_says_so(service: Service) -> None:
    service.write(0, snapshot(pid=7))
    assert service.records[0].is_serving(7)
    assert not service.records[0].is_serving(8)
    assert not service.records[1].is_serving(7)


def test_a_snapshot_that_cannot_be_read_is_empty(service: Service, tmp_path: Path) -> None:
    (tmp_path / "snapshot-0").write_bytes(b"\xff\xff\xff")
    assert service.readers[0].read() == WorkerSnapshot()


async def get(
    service: Service, path: str, access: Access | None = None, **headers: str
) -> httpx.Response:
    app = application(
        EndpointSettings("127.0.0.1:9903", access=lambda: access or Access()),
        VideoCollector(service.uploads, service.records),
        lambda: [reader.read() for reader in service.readers],
        lambda: [WorkerStatus(0, "running", 7, 0.1, serving=True)],
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, headers=headers)


@pytest.mark.anyio
async def test_the_status_has_every_stream_with_its_worker(service: Service) -> None:
    service.write(1, snapshot())
    status = (await get(service, "/v1/videos")).json()
    (stream,) = status["streams"]
    assert stream["name"] == "door"
    assert stream["worker"] == 1
    assert stream["counts"]["received"] == 100
    assert stream["counts"]["drops"] == {"overload": 2}
    assert stream["sinks"] == [
        {"name": "0-file", "delivered": 9, "waiting": 4, "error": "disk full"}
    ]
    assert status["workers"][0]["serving"]


@pytest.mark.anyio
async def test_the_status_is_for_known_hosts_and_readers_only(service: Service) -> None:
    token = {"name": "ops", "role": "reader", "sha256": "0" * 64}
    access = Access.model_validate({"tokens": [token]})
    for path, status in (("/v1/videos", 401), ("/metrics", 401), ("/readyz", 200)):
        assert (await get(service, path, access)).status_code == status
    assert (await get(service, "/v1/videos", host="example.com")).status_code == 421
