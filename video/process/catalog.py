"""All metric families of the video service.

To add a metric, add its family here and to docs/reference/metrics.md, and its values in
`metrics.py`. The label `stream` is empty for the uploads of a model.
"""

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Family:
    """A metric family, with its name as it is scraped."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()


_STREAM: Final = ("stream", "model")
_SINK: Final = ("stream", "sink")
_WORKER: Final = ("worker",)

BUILD_INFO: Final = Family(
    "sluice_build_info",
    "gauge",
    "The version of the program, as a label; always 1.",
    ("version",),
)
STREAMS: Final = Family(
    "sluice_video_streams", "gauge", "Streams of cameras, by their state.", ("state",)
)
STREAM_UP: Final = Family(
    "sluice_video_stream_up",
    "gauge",
    "1 while the stream of the camera delivers frames, else 0.",
    _STREAM,
)
RECEIVED_FRAMES: Final = Family(
    "sluice_video_received_frames_total", "counter", "Frames that the source delivered.", _STREAM
)
FRAMES: Final = Family(
    "sluice_video_frames_total",
    "counter",
    "Frames by outcome: skipped, undecodable, result, drop or error. reason: that of a drop or an "
    "error.",
    (*_STREAM, "outcome", "reason"),
)
IN_FLIGHT: Final = Family(
    "sluice_video_frames_in_flight", "gauge", "Sampled frames without an outcome yet.", _STREAM
)
FRAME_SECONDS: Final = Family(
    "sluice_video_frame_seconds",
    "histogram",
    "Time from the arrival of a frame to its result.",
    _STREAM,
)
BYTES: Final = Family(
    "sluice_video_bytes_total", "counter", "Encoded bytes that the source delivered.", _STREAM
)
RECONNECTS: Final = Family(
    "sluice_video_reconnects_total",
    "counter",
    "Connections to the camera after the first one.",
    _STREAM,
)
SINK_EVENTS: Final = Family(
    "sluice_video_sink_events_total", "counter", "Events that the sink has confirmed.", _SINK
)
SINK_WAITING: Final = Family(
    "sluice_video_sink_waiting", "gauge", "Events that wait for the sink.", _SINK
)
SINK_UP: Final = Family(
    "sluice_video_sink_up", "gauge", "0 while the last delivery has failed, else 1.", _SINK
)
OPEN_UPLOADS: Final = Family(
    "sluice_video_open_uploads", "gauge", "Uploads that are open.", ("model",)
)
UPLOADS: Final = Family(
    "sluice_video_uploads_total", "counter", "Uploads that were accepted.", ("model",)
)
WATCHERS: Final = Family("sluice_video_watchers", "gauge", "Calls of clients that watch a stream.")
REFUSED: Final = Family(
    "sluice_video_refused_total", "counter", "Calls of clients that were refused.", ("reason",)
)
CONFIG_REJECTIONS: Final = Family(
    "sluice_video_config_rejections_total", "counter", "Configs that workers have rejected (NACK)."
)
WORKER_UP: Final = Family(
    "sluice_video_worker_up", "gauge", "1 while a process of the worker runs, else 0.", _WORKER
)
WORKER_STARTS: Final = Family(
    "sluice_video_worker_starts_total", "counter", "Starts of a process of the worker.", _WORKER
)
WORKER_HANGS: Final = Family(
    "sluice_video_worker_hangs_total",
    "counter",
    "Processes of the worker that were killed because they hung.",
    _WORKER,
)
WORKER_SILENCE: Final = Family(
    "sluice_video_worker_silence_seconds",
    "gauge",
    "Time since the last heartbeat of the worker.",
    _WORKER,
)
WORKER_CONNECTED: Final = Family(
    "sluice_video_worker_connected",
    "gauge",
    "1 while the worker gets its config from a control plane, else 0.",
    _WORKER,
)
WORKER_CPU: Final = Family(
    "sluice_video_worker_cpu_seconds_total",
    "counter",
    "Time of processors that the process of the worker has used.",
    _WORKER,
)
WORKER_RESIDENT: Final = Family(
    "sluice_video_worker_resident_bytes", "gauge", "Resident memory of the worker.", _WORKER
)

FAMILIES: Final = (
    BUILD_INFO, STREAMS, STREAM_UP, RECEIVED_FRAMES, FRAMES, IN_FLIGHT, FRAME_SECONDS, BYTES,
    RECONNECTS, SINK_EVENTS, SINK_WAITING, SINK_UP, OPEN_UPLOADS, UPLOADS, WATCHERS, REFUSED,
    CONFIG_REJECTIONS, WORKER_UP, WORKER_STARTS, WORKER_HANGS, WORKER_SILENCE, WORKER_CONNECTED,
    WORKER_CPU, WORKER_RESIDENT,
)  # fmt: skip
