"""envoy.service.ext_proc.v3.ExternalProcessor: one stream for each request.

If the body need not be counted, converted or checked, a request takes one message in each
direction. Otherwise the response to the headers asks Envoy to send the body too (`mode_override`).
"""

from collections.abc import Mapping

from extproc.convert import ConversionPool
from extproc.decision import Admission
from extproc.memory_budget import DEFAULT_LIMIT, MemoryBudget
from extproc.mirror import Copies
from extproc.policy.policies import Policies
from extproc.rpc import Call, Handler
from extproc.services.decider import Decider
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.admission_cache import AdmissionCache, MessageKey
from extproc.services.ext_proc.grpc_body_check import BodyChecks
from extproc.services.ext_proc.model_query import ConvertQuery
from extproc.services.ext_proc.observation import Observation
from extproc.services.ext_proc.stream import RequestStream
from extproc.services.response_cache import ResponseCache
from extproc.services.responses import removed_headers, upstream_headers, video_credentials
from protos.ext_proc_pb2 import ProcessingMode


class ExternalProcessor:
    """The gRPC service: creates a handler for each stream."""

    def __init__(
        self,
        decider: Decider,
        pool: ConversionPool | None = None,
        memory: MemoryBudget | None = None,
        copies: Copies | None = None,
    ) -> None:
        memory = memory or MemoryBudget(DEFAULT_LIMIT)
        self.decider = decider
        self.current_policy = decider.current_policy
        self.checks = BodyChecks(pool or ConversionPool(), memory)
        self._copies = copies or Copies(memory)
        self.admissions = AdmissionCache()
        self._responses = ResponseCache()

    def open(self, call: Call) -> Handler:
        """The handler of a stream."""
        return RequestStream(self, call)

    def clear(self) -> None:
        """Empty the caches."""
        self.admissions.clear()
        self._responses.clear()

    def admission_response(
        self, admission: Admission, headers: Mapping[str, bytes], mode: ProcessingMode | None
    ) -> bytes:
        """The serialized response to the headers of an admitted request."""
        policy = self.current_policy.current
        assert policy is not None
        removed = tuple(removed_headers(policy, headers))

        def make() -> bytes:
            added = upstream_headers(admission) + video_credentials(policy, admission, headers)
            return messages.request_headers(added, removed, mode)

        return self._responses.get(policy, admission, (removed, id(mode)), make)

    def call_response(
        self, admission: Admission, headers: Mapping[str, bytes], query: ConvertQuery
    ) -> bytes:
        """The serialized response to the headers of a request that becomes a gRPC call."""
        policy = self.current_policy.current
        assert policy is not None
        body, added, removed = query.call()
        return messages.request_headers(
            list({**dict(upstream_headers(admission)), **dict(added)}.items()),
            [*removed_headers(policy, headers), *removed],
            query.mode,
            body,
        )

    def observe(self, call: Call) -> Observation:
        """Begin to collect a request for mirroring."""
        return Observation(call, self._copies, self.current_policy)

    def key(self, message: bytes) -> MessageKey | None:
        """The key of the first message of a stream; None if the admission cache cannot be used."""
        policy = self.current_policy.current
        if policy is None or not self.decider.can_readmit:
            return None
        return self.admissions.key(policy, message)


class MarkedProcessor:
    """The gRPC service during staged rollouts: its policy is that of the call's mark.

    `in_force` and `staged` have the policies of `policies`. A mark of any other policy counts as
    none, because workers and Envoys do not change at the same time.
    """

    def __init__(
        self, policies: Policies, in_force: ExternalProcessor, staged: ExternalProcessor
    ) -> None:
        self._policies = policies
        self._in_force = in_force
        self._staged = staged
        policies.on_stage_end(staged.clear)

    def open(self, call: Call) -> Handler:
        """The handler of a stream."""
        mark = self._policies.mark
        if mark is not None and mark in call.metadata:
            return RequestStream(self._staged, call)
        return RequestStream(self._in_force, call)
