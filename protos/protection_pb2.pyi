from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InspectRequest(_message.Message):
    __slots__ = ("cluster", "subject", "groups", "claims", "model", "version", "model_type", "headers", "client_address", "body_size")
    class Claim(_message.Message):
        __slots__ = ("name", "values")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUES_FIELD_NUMBER: _ClassVar[int]
        name: str
        values: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, name: _Optional[str] = ..., values: _Optional[_Iterable[str]] = ...) -> None: ...
    class HeadersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    BODY_SIZE_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    subject: str
    groups: _containers.RepeatedScalarFieldContainer[str]
    claims: _containers.RepeatedCompositeFieldContainer[InspectRequest.Claim]
    model: str
    version: str
    model_type: str
    headers: _containers.ScalarMap[str, str]
    client_address: str
    body_size: int
    def __init__(self, cluster: _Optional[str] = ..., subject: _Optional[str] = ..., groups: _Optional[_Iterable[str]] = ..., claims: _Optional[_Iterable[_Union[InspectRequest.Claim, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., model_type: _Optional[str] = ..., headers: _Optional[_Mapping[str, str]] = ..., client_address: _Optional[str] = ..., body_size: _Optional[int] = ...) -> None: ...

class InspectResponse(_message.Message):
    __slots__ = ("policy", "breaker", "rules")
    class Breaker(_message.Message):
        __slots__ = ("state", "error_rate", "requests")
        STATE_FIELD_NUMBER: _ClassVar[int]
        ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
        REQUESTS_FIELD_NUMBER: _ClassVar[int]
        state: str
        error_rate: float
        requests: int
        def __init__(self, state: _Optional[str] = ..., error_rate: _Optional[float] = ..., requests: _Optional[int] = ...) -> None: ...
    class Rule(_message.Message):
        __slots__ = ("name", "shadow", "admits", "unavailable", "limit", "remaining", "cost", "retry_after")
        NAME_FIELD_NUMBER: _ClassVar[int]
        SHADOW_FIELD_NUMBER: _ClassVar[int]
        ADMITS_FIELD_NUMBER: _ClassVar[int]
        UNAVAILABLE_FIELD_NUMBER: _ClassVar[int]
        LIMIT_FIELD_NUMBER: _ClassVar[int]
        REMAINING_FIELD_NUMBER: _ClassVar[int]
        COST_FIELD_NUMBER: _ClassVar[int]
        RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
        name: str
        shadow: bool
        admits: bool
        unavailable: bool
        limit: int
        remaining: int
        cost: int
        retry_after: int
        def __init__(self, name: _Optional[str] = ..., shadow: _Optional[bool] = ..., admits: _Optional[bool] = ..., unavailable: _Optional[bool] = ..., limit: _Optional[int] = ..., remaining: _Optional[int] = ..., cost: _Optional[int] = ..., retry_after: _Optional[int] = ...) -> None: ...
    POLICY_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    policy: str
    breaker: InspectResponse.Breaker
    rules: _containers.RepeatedCompositeFieldContainer[InspectResponse.Rule]
    def __init__(self, policy: _Optional[str] = ..., breaker: _Optional[_Union[InspectResponse.Breaker, _Mapping]] = ..., rules: _Optional[_Iterable[_Union[InspectResponse.Rule, _Mapping]]] = ...) -> None: ...
