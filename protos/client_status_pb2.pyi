import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from protos import base_pb2 as _base_pb2
from protos import matcher_pb2 as _matcher_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClientStatusRequest(_message.Message):
    __slots__ = ("node_matchers",)
    NODE_MATCHERS_FIELD_NUMBER: _ClassVar[int]
    node_matchers: _containers.RepeatedCompositeFieldContainer[NodeMatcher]
    def __init__(self, node_matchers: _Optional[_Iterable[_Union[NodeMatcher, _Mapping]]] = ...) -> None: ...

class ClientStatusResponse(_message.Message):
    __slots__ = ("config",)
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    config: _containers.RepeatedCompositeFieldContainer[ClientConfig]
    def __init__(self, config: _Optional[_Iterable[_Union[ClientConfig, _Mapping]]] = ...) -> None: ...

class ClientConfig(_message.Message):
    __slots__ = ("node", "generic_xds_configs")
    class ConfigStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CONFIG_UNKNOWN: _ClassVar[ClientConfig.ConfigStatus]
        SYNCED: _ClassVar[ClientConfig.ConfigStatus]
        NOT_SENT: _ClassVar[ClientConfig.ConfigStatus]
        STALE: _ClassVar[ClientConfig.ConfigStatus]
        ERROR: _ClassVar[ClientConfig.ConfigStatus]
    CONFIG_UNKNOWN: ClientConfig.ConfigStatus
    SYNCED: ClientConfig.ConfigStatus
    NOT_SENT: ClientConfig.ConfigStatus
    STALE: ClientConfig.ConfigStatus
    ERROR: ClientConfig.ConfigStatus
    class ClientResourceStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CLIENT_UNKNOWN: _ClassVar[ClientConfig.ClientResourceStatus]
        REQUESTED: _ClassVar[ClientConfig.ClientResourceStatus]
        DOES_NOT_EXIST: _ClassVar[ClientConfig.ClientResourceStatus]
        ACKED: _ClassVar[ClientConfig.ClientResourceStatus]
        NACKED: _ClassVar[ClientConfig.ClientResourceStatus]
    CLIENT_UNKNOWN: ClientConfig.ClientResourceStatus
    REQUESTED: ClientConfig.ClientResourceStatus
    DOES_NOT_EXIST: ClientConfig.ClientResourceStatus
    ACKED: ClientConfig.ClientResourceStatus
    NACKED: ClientConfig.ClientResourceStatus
    class GenericXdsConfig(_message.Message):
        __slots__ = ("type_url", "name", "version_info", "last_updated", "config_status", "client_status", "error_state")
        TYPE_URL_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        VERSION_INFO_FIELD_NUMBER: _ClassVar[int]
        LAST_UPDATED_FIELD_NUMBER: _ClassVar[int]
        CONFIG_STATUS_FIELD_NUMBER: _ClassVar[int]
        CLIENT_STATUS_FIELD_NUMBER: _ClassVar[int]
        ERROR_STATE_FIELD_NUMBER: _ClassVar[int]
        type_url: str
        name: str
        version_info: str
        last_updated: _timestamp_pb2.Timestamp
        config_status: ClientConfig.ConfigStatus
        client_status: ClientConfig.ClientResourceStatus
        error_state: UpdateFailureState
        def __init__(self, type_url: _Optional[str] = ..., name: _Optional[str] = ..., version_info: _Optional[str] = ..., last_updated: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., config_status: _Optional[_Union[ClientConfig.ConfigStatus, str]] = ..., client_status: _Optional[_Union[ClientConfig.ClientResourceStatus, str]] = ..., error_state: _Optional[_Union[UpdateFailureState, _Mapping]] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    GENERIC_XDS_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    node: _base_pb2.Node
    generic_xds_configs: _containers.RepeatedCompositeFieldContainer[ClientConfig.GenericXdsConfig]
    def __init__(self, node: _Optional[_Union[_base_pb2.Node, _Mapping]] = ..., generic_xds_configs: _Optional[_Iterable[_Union[ClientConfig.GenericXdsConfig, _Mapping]]] = ...) -> None: ...

class UpdateFailureState(_message.Message):
    __slots__ = ("last_update_attempt", "details", "version_info")
    LAST_UPDATE_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    VERSION_INFO_FIELD_NUMBER: _ClassVar[int]
    last_update_attempt: _timestamp_pb2.Timestamp
    details: str
    version_info: str
    def __init__(self, last_update_attempt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., details: _Optional[str] = ..., version_info: _Optional[str] = ...) -> None: ...

class NodeMatcher(_message.Message):
    __slots__ = ("node_id", "node_metadatas")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_METADATAS_FIELD_NUMBER: _ClassVar[int]
    node_id: _matcher_pb2.StringMatcher
    node_metadatas: _containers.RepeatedCompositeFieldContainer[StructMatcher]
    def __init__(self, node_id: _Optional[_Union[_matcher_pb2.StringMatcher, _Mapping]] = ..., node_metadatas: _Optional[_Iterable[_Union[StructMatcher, _Mapping]]] = ...) -> None: ...

class StructMatcher(_message.Message):
    __slots__ = ("path", "value")
    class PathSegment(_message.Message):
        __slots__ = ("key",)
        KEY_FIELD_NUMBER: _ClassVar[int]
        key: str
        def __init__(self, key: _Optional[str] = ...) -> None: ...
    PATH_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    path: _containers.RepeatedCompositeFieldContainer[StructMatcher.PathSegment]
    value: _matcher_pb2.ValueMatcher
    def __init__(self, path: _Optional[_Iterable[_Union[StructMatcher.PathSegment, _Mapping]]] = ..., value: _Optional[_Union[_matcher_pb2.ValueMatcher, _Mapping]] = ...) -> None: ...
