"""A cached response is the one that would be built anew."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.decision import Admission, Request, decide
from extproc.policy.compiled import Policy
from extproc.policy.current import CurrentPolicy
from extproc.services.decider import Decider
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.service import ExternalProcessor
from extproc.services.response_cache import MAX_ENTRIES, MAX_RESPONSE, ResponseCache
from extproc.services.responses import removed_headers, upstream_headers
from protos.ext_proc_pb2 import ProcessingMode
from tests.extproc.decision.requests import bearer, document, make_request

MODES = (None, messages.COUNT_BODY, messages.CONVERT_BODY)
DOCUMENT = document(
    {
        "m": {"canaries": [{"version": "v2", "percent": 50}]},
        "films": {
            "versions": {"v1": {"endpoints": [{"address": "127.0.0.1:9"}], "protocol": "grpc"}},
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}],
            "video": {},
        },
        "m.v1": {"claim_rules": [{"claim": "group", "value": "vip", "version": "v2"}]},
    }
)
TOKENS = tuple(
    bearer(sub=subject, group=group)
    for subject in ("alice", "bob", "alice ", "%20", "ä")
    for group in (None, "vip")
)

_REQUESTS = st.builds(
    lambda model, token, named, mode: (
        make_request(
            f"/v2/models/{model}/infer",
            **({} if token is None else {"authorization": token}),
            **named,
        ),
        mode,
    ),
    st.sampled_from(["m", "m.v1"]),
    st.none() | st.sampled_from(TOKENS),
    st.dictionaries(
        st.sampled_from(["x-model-version", "x-canary", "x-sluice-a", "x-sluice-b"]),
        st.sampled_from(["v1", "v2", "true"]),
    ),
    st.sampled_from(MODES),
)


def served() -> tuple[ExternalProcessor, Policy]:
    current_policy = CurrentPolicy()
    current_policy.apply(DOCUMENT)
    assert current_policy.current is not None
    return ExternalProcessor(Decider(current_policy)), current_policy.current


def built(
    policy: Policy, admission: Admission, headers: dict[str, bytes], mode: ProcessingMode | None
) -> bytes:
    return messages.request_headers(
        upstream_headers(admission), removed_headers(policy, headers), mode
    )


def admitted(policy: Policy, request: Request) -> Admission:
    decision = decide(policy, request)
    assert isinstance(decision, Admission)
    return decision


@settings(deadline=None)
@given(st.lists(_REQUESTS, min_size=2, max_size=40))
def test_earlier_requests_of_other_callers_do_not_change_a_response(
    requests: Sequence[tuple[Request, ProcessingMode | None]],
) -> None:
    service, policy = served()
    for one, mode in [*requests, *requests]:
        admission, headers = decide(policy, one), dict(one.headers)
        if isinstance(admission, Admission):
            expected = built(policy, admission, headers, mode)
            assert service.admission_response(admission, headers, mode) == expected


def test_a_new_policy_empties_the_cache() -> None:
    service, policy = served()
    request = make_request(authorization=TOKENS[0])
    admission = admitted(policy, request)
    assert b"authorization" in service.admission_response(admission, dict(request.headers), None)
    forwarding = DOCUMENT.auth.model_copy(update={"forward_credentials": True})
    service.current_policy.apply(DOCUMENT.model_copy(update={"auth": forwarding}))
    assert b"authorization" not in service.admission_response(
        admission, dict(request.headers), None
    )


def test_the_number_of_cached_responses_is_bounded() -> None:
    _, policy = served()
    cache, admission = ResponseCache(), admitted(policy, make_request())
    for number in range(MAX_ENTRIES + 10):
        cache.get(policy, admission, number, lambda: b"response")
    assert len(cache) == MAX_ENTRIES


def test_a_long_response_is_not_cached() -> None:
    _, policy = served()
    cache, admission = ResponseCache(), admitted(policy, make_request())
    assert cache.get(policy, admission, 1, lambda: bytes(MAX_RESPONSE + 1)) == bytes(
        MAX_RESPONSE + 1
    )
    assert len(cache) == 0
    cache.get(policy, admission, 1, lambda: bytes(MAX_RESPONSE))
    assert len(cache) == 1


def test_the_credentials_of_a_caller_reach_the_video_service_only_with_its_own_request() -> None:
    service, policy = served()
    for token in (TOKENS[0], bearer(sub="alice", jti="another token of this subject")):
        request = make_request(
            "/v2/models/films/video", content_type="video/mp4", authorization=token
        )
        admission = admitted(policy, request)
        response = service.admission_response(admission, dict(request.headers), None)
        assert token.encode() in response
