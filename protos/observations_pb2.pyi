from protos import base_pb2 as _base_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Report(_message.Message):
    __slots__ = ("node", "process", "number", "seconds", "versions", "breakers", "unprotected", "comparisons", "staged")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    BREAKERS_FIELD_NUMBER: _ClassVar[int]
    UNPROTECTED_FIELD_NUMBER: _ClassVar[int]
    COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    STAGED_FIELD_NUMBER: _ClassVar[int]
    node: _base_pb2.Node
    process: int
    number: int
    seconds: float
    versions: _containers.RepeatedCompositeFieldContainer[VersionCounts]
    breakers: _containers.RepeatedCompositeFieldContainer[BreakerState]
    unprotected: int
    comparisons: _containers.RepeatedCompositeFieldContainer[ComparisonCounts]
    staged: _containers.RepeatedCompositeFieldContainer[VersionCounts]
    def __init__(self, node: _Optional[_Union[_base_pb2.Node, _Mapping]] = ..., process: _Optional[int] = ..., number: _Optional[int] = ..., seconds: _Optional[float] = ..., versions: _Optional[_Iterable[_Union[VersionCounts, _Mapping]]] = ..., breakers: _Optional[_Iterable[_Union[BreakerState, _Mapping]]] = ..., unprotected: _Optional[int] = ..., comparisons: _Optional[_Iterable[_Union[ComparisonCounts, _Mapping]]] = ..., staged: _Optional[_Iterable[_Union[VersionCounts, _Mapping]]] = ...) -> None: ...

class VersionCounts(_message.Message):
    __slots__ = ("cluster", "requests", "errors", "bins", "counts")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    BINS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    requests: int
    errors: int
    bins: _containers.RepeatedScalarFieldContainer[int]
    counts: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, cluster: _Optional[str] = ..., requests: _Optional[int] = ..., errors: _Optional[int] = ..., bins: _Optional[_Iterable[int]] = ..., counts: _Optional[_Iterable[int]] = ...) -> None: ...

class ComparisonCounts(_message.Message):
    __slots__ = ("cluster", "compared", "agreed", "failed", "dropped", "max_difference", "max_relative_difference")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    MAX_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    MAX_RELATIVE_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    compared: int
    agreed: int
    failed: int
    dropped: int
    max_difference: float
    max_relative_difference: float
    def __init__(self, cluster: _Optional[str] = ..., compared: _Optional[int] = ..., agreed: _Optional[int] = ..., failed: _Optional[int] = ..., dropped: _Optional[int] = ..., max_difference: _Optional[float] = ..., max_relative_difference: _Optional[float] = ...) -> None: ...

class BreakerState(_message.Message):
    __slots__ = ("cluster", "state", "error_rate", "requests")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CLOSED: _ClassVar[BreakerState.State]
        REDUCED: _ClassVar[BreakerState.State]
        OPEN: _ClassVar[BreakerState.State]
    CLOSED: BreakerState.State
    REDUCED: BreakerState.State
    OPEN: BreakerState.State
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    state: BreakerState.State
    error_rate: float
    requests: int
    def __init__(self, cluster: _Optional[str] = ..., state: _Optional[_Union[BreakerState.State, str]] = ..., error_rate: _Optional[float] = ..., requests: _Optional[int] = ...) -> None: ...

class Received(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...
