"""The mark of a call chooses the policy that decides on its request."""

from collections.abc import Sequence

import pytest

from extproc.policy.policies import Policies
from extproc.rpc import StatusCode
from extproc.services.decider import Decider
from extproc.services.ext_proc.service import ExternalProcessor, MarkedProcessor
from protos.ext_proc_pb2 import ProcessingRequest, ProcessingResponse
from sluice.config import PolicyDocument
from sluice.contract.headers import STAGE_METADATA
from tests.extproc.auth.tokens import NOW
from tests.extproc.decision.requests import bearer, document
from tests.extproc.policy.received import received
from tests.extproc.services.callout import body, headers, written
from tests.extproc.services.ext_proc.recorded_call import RecordedCall

BEFORE = document({"m": {}})
AFTER = document({"m": {"stable": "v2", "max_body": 3, "mirror": {"version": "v3"}}})
POST = ((":method", "POST"), (":path", "/v2/models/m/infer"), ("content-type", "application/json"))


class MarkedCall(RecordedCall):
    """A call with a mark; without one if it is empty. Counts how often its metadata is read."""

    def __init__(self, mark: str = "") -> None:
        super().__init__()
        self.mark = mark
        self.reads = 0
        self.has_ended = False

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        self.reads += 1
        internal = ("x-envoy-internal", "true")
        return ((STAGE_METADATA, self.mark), internal) if self.mark else (internal,)

    def finish(self, code: StatusCode = StatusCode.OK, details: str = "") -> None:
        self.has_ended = True


class Service:
    """ext_proc with the policies of a worker."""

    def __init__(self) -> None:
        self.policies = Policies()
        self.in_force, self.staged = (
            ExternalProcessor(Decider(each, lambda: NOW))
            for each in (self.policies.in_force, self.policies.staged)
        )
        self.open = MarkedProcessor(self.policies, self.in_force, self.staged).open

    def apply(self, policy: PolicyDocument, staged: PolicyDocument | None = None) -> None:
        self.policies.commit(self.policies.compile(received(policy, staged, ["envoy-1"])))

    def process(self, call: RecordedCall, *messages: ProcessingRequest) -> list[ProcessingResponse]:
        stream = self.open(call)
        for message in messages:
            stream.on_message(message.SerializeToString())
        return call.responses

    def version(self, mark: str = "") -> str:
        """The version to which a request with a token is admitted."""
        message = headers((*POST, ("authorization", bearer())), end_of_stream=True)
        (response,) = self.process(MarkedCall(mark), message)
        return written(response.request_headers.response.header_mutation.set_headers)[
            "x-model-version"
        ]


@pytest.fixture
def service() -> Service:
    service = Service()
    service.apply(BEFORE)
    return service


def test_equal_requests_of_two_envoys_have_two_policies(service: Service) -> None:
    service.apply(BEFORE, AFTER)
    # From the third request on, the admissions come from the caches.
    for _ in range(4):
        assert [service.version(), service.version(AFTER.version)] == ["v1", "v2"]
    assert [each.admissions.hits for each in (service.in_force, service.staged)] == [2, 2]


def test_without_a_stage_no_metadata_is_read(service: Service) -> None:
    call = MarkedCall(AFTER.version)
    service.process(call, headers(POST, end_of_stream=True))
    assert call.reads == 0
    service.apply(BEFORE, AFTER)
    call = MarkedCall()
    service.process(call, headers(POST, end_of_stream=True))
    assert call.reads == 1


def test_a_call_keeps_its_policy_after_the_end_of_the_stage(service: Service) -> None:
    service.apply(BEFORE, AFTER)
    call = MarkedCall(AFTER.version)
    stream = service.open(call)
    stream.on_message(headers(POST).SerializeToString())
    service.apply(BEFORE)
    stream.on_message(body(b"four").SerializeToString())
    assert call.responses[1].immediate_response.status.code == 413


def test_the_caches_of_a_stage_end_with_it(service: Service) -> None:
    service.apply(BEFORE, AFTER)
    found = [service.version(AFTER.version) for _ in range(3)]
    assert (found, service.staged.admissions.hits) == (["v2"] * 3, 1)
    service.apply(BEFORE)
    service.apply(BEFORE, AFTER)
    found = [service.version(AFTER.version) for _ in range(2)]
    assert (found, service.staged.admissions.hits) == (["v2"] * 2, 1)


@pytest.mark.parametrize(("mark", "observed"), [("", False), (AFTER.version, True)])
def test_the_mirror_of_a_request_is_that_of_its_policy(
    service: Service, mark: str, observed: bool
) -> None:
    service.apply(BEFORE, AFTER)
    message = headers(POST)
    message.observability_mode = True
    shown = {"xds.route_name": "m", "xds.cluster_name": "m/v2"}
    message.attributes["envoy.filters.http.ext_proc"].update(shown)
    call = MarkedCall(mark)
    service.process(call, message)
    # A stream ends at once if the request will not be copied.
    assert call.has_ended is not observed


@pytest.mark.parametrize("mark", ["", "0", AFTER.version.upper(), AFTER.version[:-1], "é"])
def test_any_other_mark_counts_as_none(service: Service, mark: str) -> None:
    service.apply(BEFORE, AFTER)
    assert service.version(mark) == "v1"
