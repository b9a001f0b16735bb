from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExchangeRequest(_message.Message):
    __slots__ = ("leases", "max_keys")
    class Lease(_message.Message):
        __slots__ = ("key", "algorithm", "rate", "unit", "capacity", "holder", "sequence", "held", "returned", "want", "lifetime")
        KEY_FIELD_NUMBER: _ClassVar[int]
        ALGORITHM_FIELD_NUMBER: _ClassVar[int]
        RATE_FIELD_NUMBER: _ClassVar[int]
        UNIT_FIELD_NUMBER: _ClassVar[int]
        CAPACITY_FIELD_NUMBER: _ClassVar[int]
        HOLDER_FIELD_NUMBER: _ClassVar[int]
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        HELD_FIELD_NUMBER: _ClassVar[int]
        RETURNED_FIELD_NUMBER: _ClassVar[int]
        WANT_FIELD_NUMBER: _ClassVar[int]
        LIFETIME_FIELD_NUMBER: _ClassVar[int]
        key: str
        algorithm: str
        rate: int
        unit: int
        capacity: int
        holder: str
        sequence: int
        held: int
        returned: int
        want: int
        lifetime: int
        def __init__(self, key: _Optional[str] = ..., algorithm: _Optional[str] = ..., rate: _Optional[int] = ..., unit: _Optional[int] = ..., capacity: _Optional[int] = ..., holder: _Optional[str] = ..., sequence: _Optional[int] = ..., held: _Optional[int] = ..., returned: _Optional[int] = ..., want: _Optional[int] = ..., lifetime: _Optional[int] = ...) -> None: ...
    LEASES_FIELD_NUMBER: _ClassVar[int]
    MAX_KEYS_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedCompositeFieldContainer[ExchangeRequest.Lease]
    max_keys: int
    def __init__(self, leases: _Optional[_Iterable[_Union[ExchangeRequest.Lease, _Mapping]]] = ..., max_keys: _Optional[int] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("grants",)
    class Grant(_message.Message):
        __slots__ = ("tokens", "free", "wait", "reset", "lifetime")
        TOKENS_FIELD_NUMBER: _ClassVar[int]
        FREE_FIELD_NUMBER: _ClassVar[int]
        WAIT_FIELD_NUMBER: _ClassVar[int]
        RESET_FIELD_NUMBER: _ClassVar[int]
        LIFETIME_FIELD_NUMBER: _ClassVar[int]
        tokens: int
        free: int
        wait: int
        reset: int
        lifetime: int
        def __init__(self, tokens: _Optional[int] = ..., free: _Optional[int] = ..., wait: _Optional[int] = ..., reset: _Optional[int] = ..., lifetime: _Optional[int] = ...) -> None: ...
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[ExchangeResponse.Grant]
    def __init__(self, grants: _Optional[_Iterable[_Union[ExchangeResponse.Grant, _Mapping]]] = ...) -> None: ...
