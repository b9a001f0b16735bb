from google.protobuf import wrappers_pb2 as _wrappers_pb2
from protos import base_pb2 as _base_pb2
from protos import core_pb2 as _core_pb2
from protos import matcher_pb2 as _matcher_pb2
from protos import route_pb2 as _route_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExecuteFilterAction(_message.Message):
    __slots__ = ("typed_config", "sample_percent")
    TYPED_CONFIG_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    typed_config: _core_pb2.TypedExtensionConfig
    sample_percent: _core_pb2.RuntimeFractionalPercent
    def __init__(self, typed_config: _Optional[_Union[_core_pb2.TypedExtensionConfig, _Mapping]] = ..., sample_percent: _Optional[_Union[_core_pb2.RuntimeFractionalPercent, _Mapping]] = ...) -> None: ...

class SkipFilter(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExtensionWithMatcherPerRoute(_message.Message):
    __slots__ = ("xds_matcher",)
    XDS_MATCHER_FIELD_NUMBER: _ClassVar[int]
    xds_matcher: _matcher_pb2.Matcher
    def __init__(self, xds_matcher: _Optional[_Union[_matcher_pb2.Matcher, _Mapping]] = ...) -> None: ...

class HeaderMutationPerRoute(_message.Message):
    __slots__ = ("mutations",)
    class Mutation(_message.Message):
        __slots__ = ("remove", "append", "remove_on_match")
        class RemoveOnMatch(_message.Message):
            __slots__ = ("key_matcher",)
            KEY_MATCHER_FIELD_NUMBER: _ClassVar[int]
            key_matcher: _matcher_pb2.StringMatcher
            def __init__(self, key_matcher: _Optional[_Union[_matcher_pb2.StringMatcher, _Mapping]] = ...) -> None: ...
        REMOVE_FIELD_NUMBER: _ClassVar[int]
        APPEND_FIELD_NUMBER: _ClassVar[int]
        REMOVE_ON_MATCH_FIELD_NUMBER: _ClassVar[int]
        remove: str
        append: _base_pb2.HeaderValueOption
        remove_on_match: HeaderMutationPerRoute.Mutation.RemoveOnMatch
        def __init__(self, remove: _Optional[str] = ..., append: _Optional[_Union[_base_pb2.HeaderValueOption, _Mapping]] = ..., remove_on_match: _Optional[_Union[HeaderMutationPerRoute.Mutation.RemoveOnMatch, _Mapping]] = ...) -> None: ...
    class Mutations(_message.Message):
        __slots__ = ("request_mutations", "response_mutations")
        REQUEST_MUTATIONS_FIELD_NUMBER: _ClassVar[int]
        RESPONSE_MUTATIONS_FIELD_NUMBER: _ClassVar[int]
        request_mutations: _containers.RepeatedCompositeFieldContainer[HeaderMutationPerRoute.Mutation]
        response_mutations: _containers.RepeatedCompositeFieldContainer[HeaderMutationPerRoute.Mutation]
        def __init__(self, request_mutations: _Optional[_Iterable[_Union[HeaderMutationPerRoute.Mutation, _Mapping]]] = ..., response_mutations: _Optional[_Iterable[_Union[HeaderMutationPerRoute.Mutation, _Mapping]]] = ...) -> None: ...
    MUTATIONS_FIELD_NUMBER: _ClassVar[int]
    mutations: HeaderMutationPerRoute.Mutations
    def __init__(self, mutations: _Optional[_Union[HeaderMutationPerRoute.Mutations, _Mapping]] = ...) -> None: ...

class CorsPolicy(_message.Message):
    __slots__ = ("allow_origin_string_match", "allow_methods", "allow_headers", "expose_headers", "max_age", "allow_credentials")
    ALLOW_ORIGIN_STRING_MATCH_FIELD_NUMBER: _ClassVar[int]
    ALLOW_METHODS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_HEADERS_FIELD_NUMBER: _ClassVar[int]
    EXPOSE_HEADERS_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    ALLOW_CREDENTIALS_FIELD_NUMBER: _ClassVar[int]
    allow_origin_string_match: _containers.RepeatedCompositeFieldContainer[_matcher_pb2.StringMatcher]
    allow_methods: str
    allow_headers: str
    expose_headers: str
    max_age: str
    allow_credentials: _wrappers_pb2.BoolValue
    def __init__(self, allow_origin_string_match: _Optional[_Iterable[_Union[_matcher_pb2.StringMatcher, _Mapping]]] = ..., allow_methods: _Optional[str] = ..., allow_headers: _Optional[str] = ..., expose_headers: _Optional[str] = ..., max_age: _Optional[str] = ..., allow_credentials: _Optional[_Union[_wrappers_pb2.BoolValue, _Mapping]] = ...) -> None: ...

class RBACPerRoute(_message.Message):
    __slots__ = ("rbac",)
    RBAC_FIELD_NUMBER: _ClassVar[int]
    rbac: RBAC
    def __init__(self, rbac: _Optional[_Union[RBAC, _Mapping]] = ...) -> None: ...

class RBAC(_message.Message):
    __slots__ = ("rules",)
    RULES_FIELD_NUMBER: _ClassVar[int]
    rules: RBACRules
    def __init__(self, rules: _Optional[_Union[RBACRules, _Mapping]] = ...) -> None: ...

class RBACRules(_message.Message):
    __slots__ = ("action", "policies")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ALLOW: _ClassVar[RBACRules.Action]
        DENY: _ClassVar[RBACRules.Action]
        LOG: _ClassVar[RBACRules.Action]
    ALLOW: RBACRules.Action
    DENY: RBACRules.Action
    LOG: RBACRules.Action
    class PoliciesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: RBACPolicy
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[RBACPolicy, _Mapping]] = ...) -> None: ...
    ACTION_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    action: RBACRules.Action
    policies: _containers.MessageMap[str, RBACPolicy]
    def __init__(self, action: _Optional[_Union[RBACRules.Action, str]] = ..., policies: _Optional[_Mapping[str, RBACPolicy]] = ...) -> None: ...

class RBACPolicy(_message.Message):
    __slots__ = ("permissions", "principals")
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPALS_FIELD_NUMBER: _ClassVar[int]
    permissions: _containers.RepeatedCompositeFieldContainer[Permission]
    principals: _containers.RepeatedCompositeFieldContainer[Principal]
    def __init__(self, permissions: _Optional[_Iterable[_Union[Permission, _Mapping]]] = ..., principals: _Optional[_Iterable[_Union[Principal, _Mapping]]] = ...) -> None: ...

class Permission(_message.Message):
    __slots__ = ("and_rules", "header", "not_rule")
    class Set(_message.Message):
        __slots__ = ("rules",)
        RULES_FIELD_NUMBER: _ClassVar[int]
        rules: _containers.RepeatedCompositeFieldContainer[Permission]
        def __init__(self, rules: _Optional[_Iterable[_Union[Permission, _Mapping]]] = ...) -> None: ...
    AND_RULES_FIELD_NUMBER: _ClassVar[int]
    HEADER_FIELD_NUMBER: _ClassVar[int]
    NOT_RULE_FIELD_NUMBER: _ClassVar[int]
    and_rules: Permission.Set
    header: _route_pb2.HeaderMatcher
    not_rule: Permission
    def __init__(self, and_rules: _Optional[_Union[Permission.Set, _Mapping]] = ..., header: _Optional[_Union[_route_pb2.HeaderMatcher, _Mapping]] = ..., not_rule: _Optional[_Union[Permission, _Mapping]] = ...) -> None: ...

class Principal(_message.Message):
    __slots__ = ("any",)
    ANY_FIELD_NUMBER: _ClassVar[int]
    any: bool
    def __init__(self, any: _Optional[bool] = ...) -> None: ...

class LocalRateLimit(_message.Message):
    __slots__ = ("stat_prefix", "token_bucket", "filter_enabled", "filter_enforced", "response_headers_to_add", "descriptors", "rate_limited_as_resource_exhausted", "rate_limits", "max_dynamic_descriptors")
    STAT_PREFIX_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUCKET_FIELD_NUMBER: _ClassVar[int]
    FILTER_ENABLED_FIELD_NUMBER: _ClassVar[int]
    FILTER_ENFORCED_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_HEADERS_TO_ADD_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_AS_RESOURCE_EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITS_FIELD_NUMBER: _ClassVar[int]
    MAX_DYNAMIC_DESCRIPTORS_FIELD_NUMBER: _ClassVar[int]
    stat_prefix: str
    token_bucket: _core_pb2.TokenBucket
    filter_enabled: _core_pb2.RuntimeFractionalPercent
    filter_enforced: _core_pb2.RuntimeFractionalPercent
    response_headers_to_add: _containers.RepeatedCompositeFieldContainer[_base_pb2.HeaderValueOption]
    descriptors: _containers.RepeatedCompositeFieldContainer[LocalRateLimitDescriptor]
    rate_limited_as_resource_exhausted: bool
    rate_limits: _containers.RepeatedCompositeFieldContainer[RateLimit]
    max_dynamic_descriptors: _wrappers_pb2.UInt32Value
    def __init__(self, stat_prefix: _Optional[str] = ..., token_bucket: _Optional[_Union[_core_pb2.TokenBucket, _Mapping]] = ..., filter_enabled: _Optional[_Union[_core_pb2.RuntimeFractionalPercent, _Mapping]] = ..., filter_enforced: _Optional[_Union[_core_pb2.RuntimeFractionalPercent, _Mapping]] = ..., response_headers_to_add: _Optional[_Iterable[_Union[_base_pb2.HeaderValueOption, _Mapping]]] = ..., descriptors: _Optional[_Iterable[_Union[LocalRateLimitDescriptor, _Mapping]]] = ..., rate_limited_as_resource_exhausted: _Optional[bool] = ..., rate_limits: _Optional[_Iterable[_Union[RateLimit, _Mapping]]] = ..., max_dynamic_descriptors: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ...) -> None: ...

class LocalRateLimitDescriptor(_message.Message):
    __slots__ = ("entries", "token_bucket")
    class Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUCKET_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[LocalRateLimitDescriptor.Entry]
    token_bucket: _core_pb2.TokenBucket
    def __init__(self, entries: _Optional[_Iterable[_Union[LocalRateLimitDescriptor.Entry, _Mapping]]] = ..., token_bucket: _Optional[_Union[_core_pb2.TokenBucket, _Mapping]] = ...) -> None: ...

class RateLimit(_message.Message):
    __slots__ = ("actions",)
    class Action(_message.Message):
        __slots__ = ("metadata", "masked_remote_address")
        class MetaData(_message.Message):
            __slots__ = ("descriptor_key", "metadata_key", "source")
            class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
                __slots__ = ()
                DYNAMIC: _ClassVar[RateLimit.Action.MetaData.Source]
                ROUTE_ENTRY: _ClassVar[RateLimit.Action.MetaData.Source]
                CLUSTER_ENTRY: _ClassVar[RateLimit.Action.MetaData.Source]
                CLUSTER_LOCALITY_ENTRY: _ClassVar[RateLimit.Action.MetaData.Source]
            DYNAMIC: RateLimit.Action.MetaData.Source
            ROUTE_ENTRY: RateLimit.Action.MetaData.Source
            CLUSTER_ENTRY: RateLimit.Action.MetaData.Source
            CLUSTER_LOCALITY_ENTRY: RateLimit.Action.MetaData.Source
            DESCRIPTOR_KEY_FIELD_NUMBER: _ClassVar[int]
            METADATA_KEY_FIELD_NUMBER: _ClassVar[int]
            SOURCE_FIELD_NUMBER: _ClassVar[int]
            descriptor_key: str
            metadata_key: _matcher_pb2.MetadataKey
            source: RateLimit.Action.MetaData.Source
            def __init__(self, descriptor_key: _Optional[str] = ..., metadata_key: _Optional[_Union[_matcher_pb2.MetadataKey, _Mapping]] = ..., source: _Optional[_Union[RateLimit.Action.MetaData.Source, str]] = ...) -> None: ...
        class MaskedRemoteAddress(_message.Message):
            __slots__ = ("v6_prefix_mask_len",)
            V6_PREFIX_MASK_LEN_FIELD_NUMBER: _ClassVar[int]
            v6_prefix_mask_len: _wrappers_pb2.UInt32Value
            def __init__(self, v6_prefix_mask_len: _Optional[_Union[_wrappers_pb2.UInt32Value, _Mapping]] = ...) -> None: ...
        METADATA_FIELD_NUMBER: _ClassVar[int]
        MASKED_REMOTE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
        metadata: RateLimit.Action.MetaData
        masked_remote_address: RateLimit.Action.MaskedRemoteAddress
        def __init__(self, metadata: _Optional[_Union[RateLimit.Action.MetaData, _Mapping]] = ..., masked_remote_address: _Optional[_Union[RateLimit.Action.MaskedRemoteAddress, _Mapping]] = ...) -> None: ...
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[RateLimit.Action]
    def __init__(self, actions: _Optional[_Iterable[_Union[RateLimit.Action, _Mapping]]] = ...) -> None: ...
