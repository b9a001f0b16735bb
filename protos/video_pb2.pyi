from protos import base_pb2 as _base_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnalyzeRequest(_message.Message):
    __slots__ = ("content_type", "options", "data")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    options: _containers.ScalarMap[str, str]
    data: bytes
    def __init__(self, content_type: _Optional[str] = ..., options: _Optional[_Mapping[str, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("stream",)
    STREAM_FIELD_NUMBER: _ClassVar[int]
    stream: str
    def __init__(self, stream: _Optional[str] = ...) -> None: ...

class AnalysisResult(_message.Message):
    __slots__ = ("id", "stream", "model", "frame", "time", "captured_us", "width", "height", "timings", "inference", "failure", "end")
    ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_US_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    id: str
    stream: str
    model: str
    frame: int
    time: float
    captured_us: int
    width: int
    height: int
    timings: Timings
    inference: Inference
    failure: Failure
    end: Summary
    def __init__(self, id: _Optional[str] = ..., stream: _Optional[str] = ..., model: _Optional[str] = ..., frame: _Optional[int] = ..., time: _Optional[float] = ..., captured_us: _Optional[int] = ..., width: _Optional[int] = ..., height: _Optional[int] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., inference: _Optional[_Union[Inference, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., end: _Optional[_Union[Summary, _Mapping]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("decode", "convert", "wait", "inference", "total")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    CONVERT_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    decode: float
    convert: float
    wait: float
    inference: float
    total: float
    def __init__(self, decode: _Optional[float] = ..., convert: _Optional[float] = ..., wait: _Optional[float] = ..., inference: _Optional[float] = ..., total: _Optional[float] = ...) -> None: ...

class Inference(_message.Message):
    __slots__ = ("model_version", "outputs")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    model_version: str
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    def __init__(self, model_version: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("name", "datatype", "shape", "numbers", "integers", "texts", "unsigned_integers", "labels")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    UNSIGNED_INTEGERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    integers: _containers.RepeatedScalarFieldContainer[int]
    texts: _containers.RepeatedScalarFieldContainer[bytes]
    unsigned_integers: _containers.RepeatedScalarFieldContainer[int]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., numbers: _Optional[_Iterable[float]] = ..., integers: _Optional[_Iterable[int]] = ..., texts: _Optional[_Iterable[bytes]] = ..., unsigned_integers: _Optional[_Iterable[int]] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("label", "score", "index")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    index: int
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ..., index: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Summary(_message.Message):
    __slots__ = ("reason", "detail", "counts")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    detail: str
    counts: Counts
    def __init__(self, reason: _Optional[str] = ..., detail: _Optional[str] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ...) -> None: ...

class Counts(_message.Message):
    __slots__ = ("received", "skipped", "undecodable", "frames", "results", "drops", "errors", "bytes", "reconnects")
    class DropsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ErrorsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    UNDECODABLE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    DROPS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    RECONNECTS_FIELD_NUMBER: _ClassVar[int]
    received: int
    skipped: int
    undecodable: int
    frames: int
    results: int
    drops: _containers.ScalarMap[str, int]
    errors: _containers.ScalarMap[str, int]
    bytes: int
    reconnects: int
    def __init__(self, received: _Optional[int] = ..., skipped: _Optional[int] = ..., undecodable: _Optional[int] = ..., frames: _Optional[int] = ..., results: _Optional[int] = ..., drops: _Optional[_Mapping[str, int]] = ..., errors: _Optional[_Mapping[str, int]] = ..., bytes: _Optional[int] = ..., reconnects: _Optional[int] = ...) -> None: ...

class VideoConfig(_message.Message):
    __slots__ = ("config", "secrets")
    class SecretsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SECRETS_FIELD_NUMBER: _ClassVar[int]
    config: bytes
    secrets: _containers.ScalarMap[str, bytes]
    def __init__(self, config: _Optional[bytes] = ..., secrets: _Optional[_Mapping[str, bytes]] = ...) -> None: ...

class VideoReport(_message.Message):
    __slots__ = ("node", "process", "number", "streams")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    node: _base_pb2.Node
    process: int
    number: int
    streams: _containers.RepeatedCompositeFieldContainer[StreamStatus]
    def __init__(self, node: _Optional[_Union[_base_pb2.Node, _Mapping]] = ..., process: _Optional[int] = ..., number: _Optional[int] = ..., streams: _Optional[_Iterable[_Union[StreamStatus, _Mapping]]] = ...) -> None: ...

class StreamStatus(_message.Message):
    __slots__ = ("name", "model", "state", "seconds", "counts", "frames_per_second", "results_per_second", "p50", "p99", "error", "upload", "sinks")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    RESULTS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    P50_FIELD_NUMBER: _ClassVar[int]
    P99_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    SINKS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    state: str
    seconds: float
    counts: Counts
    frames_per_second: float
    results_per_second: float
    p50: float
    p99: float
    error: str
    upload: bool
    sinks: _containers.RepeatedCompositeFieldContainer[SinkStatus]
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., state: _Optional[str] = ..., seconds: _Optional[float] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ..., frames_per_second: _Optional[float] = ..., results_per_second: _Optional[float] = ..., p50: _Optional[float] = ..., p99: _Optional[float] = ..., error: _Optional[str] = ..., upload: _Optional[bool] = ..., sinks: _Optional[_Iterable[_Union[SinkStatus, _Mapping]]] = ...) -> None: ...

class SinkStatus(_message.Message):
    __slots__ = ("name", "delivered", "waiting", "error")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DELIVERED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    name: str
    delivered: int
    waiting: int
    error: str
    def __init__(self, name: _Optional[str] = ..., delivered: _Optional[int] = ..., waiting: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class ReportReceived(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class WorkerSnapshot(_message.Message):
    __slots__ = ("pid", "serving", "streams", "totals", "uploads", "watchers", "refused", "rejected_configs", "connected", "cpu_seconds", "resident_bytes")
    class RefusedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PID_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    UPLOADS_FIELD_NUMBER: _ClassVar[int]
    WATCHERS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    CPU_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    pid: int
    serving: bool
    streams: _containers.RepeatedCompositeFieldContainer[StreamStatus]
    totals: _containers.RepeatedCompositeFieldContainer[StreamTotals]
    uploads: _containers.RepeatedCompositeFieldContainer[UploadTotals]
    watchers: int
    refused: _containers.ScalarMap[str, int]
    rejected_configs: int
    connected: bool
    cpu_seconds: float
    resident_bytes: int
    def __init__(self, pid: _Optional[int] = ..., serving: _Optional[bool] = ..., streams: _Optional[_Iterable[_Union[StreamStatus, _Mapping]]] = ..., totals: _Optional[_Iterable[_Union[StreamTotals, _Mapping]]] = ..., uploads: _Optional[_Iterable[_Union[UploadTotals, _Mapping]]] = ..., watchers: _Optional[int] = ..., refused: _Optional[_Mapping[str, int]] = ..., rejected_configs: _Optional[int] = ..., connected: _Optional[bool] = ..., cpu_seconds: _Optional[float] = ..., resident_bytes: _Optional[int] = ...) -> None: ...

class StreamTotals(_message.Message):
    __slots__ = ("stream", "model", "counts", "latencies", "seconds")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    LATENCIES_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    model: str
    counts: Counts
    latencies: _containers.RepeatedScalarFieldContainer[int]
    seconds: float
    def __init__(self, stream: _Optional[str] = ..., model: _Optional[str] = ..., counts: _Optional[_Union[Counts, _Mapping]] = ..., latencies: _Optional[_Iterable[int]] = ..., seconds: _Optional[float] = ...) -> None: ...

class UploadTotals(_message.Message):
    __slots__ = ("model", "started", "open")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    started: int
    open: int
    def __init__(self, model: _Optional[str] = ..., started: _Optional[int] = ..., open: _Optional[int] = ...) -> None: ...

class WorkerWatch(_message.Message):
    __slots__ = ("stream", "frames")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    stream: str
    frames: bool
    def __init__(self, stream: _Optional[str] = ..., frames: _Optional[bool] = ...) -> None: ...

class Watched(_message.Message):
    __slots__ = ("events", "images")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[AnalysisResult]
    images: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, events: _Optional[_Iterable[_Union[AnalysisResult, _Mapping]]] = ..., images: _Optional[_Iterable[bytes]] = ...) -> None: ...
