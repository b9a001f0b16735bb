"""What an admission tells upstream, and the answers that are kept for those that recur."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from extproc.decision import Admission, Reason, Request, decide
from extproc.policy.compiled import Policy
from extproc.policy.current import CurrentPolicy
from extproc.services import response_cache
from extproc.services.decider import Decider
from extproc.services.ext_proc import messages
from extproc.services.ext_proc.stream import ExternalProcessor
from extproc.services.responses import header_safe, removed_headers, upstream_headers
from protos.ext_proc_pb2 import ProcessingMode
from tests.extproc.decision.requests import bearer, document, policy, request

MODES = (None, messages.COUNT_BODY, messages.CONVERT_BODY)
DOCUMENT = document(
    {
        "m": {"canaries": [{"version": "v2", "percent": 50}]},
        "m.v1": {"claim_rules": [{"claim": "group", "value": "vip", "version": "v2"}]},
    }
)
CALLERS = tuple(
    bearer(sub=subject, group=group)
    for subject in ("alice", "bob", "alice ", "%20", "ä")
    for group in (None, "vip")
)

POLICY = policy({"m": {}, "n": {}})

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("subject", "written_as"),
    [
        ("alice@example.com", "alice@example.com"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin:%201"),
        ("jürgen", "j%C3%BCrgen"),
        ("a%0Ab", "a%250Ab"),
        (" a", "%20a"),
        ("\x00\x7f", "%00%7F"),
    ],
)
def test_a_subject_is_written_so_that_it_can_be_no_other_header(
    subject: str, written_as: str
) -> None:
    assert header_safe(subject) == written_as


@given(_TEXT)
def test_any_subject_becomes_a_value_that_a_header_can_hold(text: str) -> None:
    value = header_safe(text)
    assert all(0x20 <= ord(character) <= 0x7E for character in value)
    assert value == value.strip()


@given(_TEXT, _TEXT)
@example("%20", " ")
@example(" a", "%20a")
@example("ä", "%C3%A4")
def test_two_subjects_never_read_alike(one_: str, other: str) -> None:
    assert (header_safe(one_) == header_safe(other)) == (one_ == other)


@given(_TEXT.filter(bool), st.sampled_from([b"m", b"n"]))
def test_what_is_sent_upstream_names_each_header_once(subject: str, model: bytes) -> None:
    target = POLICY.models[model].stable
    sent = upstream_headers(Admission(target, Reason.CANARY_HEADER, True, subject, 1))
    names = [name for name, _ in sent]
    assert len(set(names)) == len(names)
    assert dict(sent)["x-model-service"] == target.cluster


def served() -> tuple[ExternalProcessor, Policy]:
    current_policy = CurrentPolicy()
    current_policy.apply(DOCUMENT)
    assert current_policy.current is not None
    return ExternalProcessor(Decider(current_policy)), current_policy.current


def made_anew(
    policy: Policy, admission: Admission, headers: dict[str, bytes], mode: ProcessingMode | None
) -> bytes:
    return messages.request_headers(
        upstream_headers(admission), removed_headers(policy, headers), mode
    )


_REQUESTS = st.builds(
    lambda model, caller, named, mode: (
        request(
            f"/v2/models/{model}/infer",
            **({} if caller is None else {"authorization": caller}),
            **named,
        ),
        mode,
    ),
    st.sampled_from(["m", "m.v1"]),
    st.none() | st.sampled_from(CALLERS),
    st.dictionaries(
        st.sampled_from(["x-model-version", "x-canary", "x-sluice-a", "x-sluice-b"]),
        st.sampled_from(["v1", "v2", "true"]),
    ),
    st.sampled_from(MODES),
)


@settings(deadline=None)
@given(st.lists(_REQUESTS, min_size=2, max_size=40))
def test_whoever_asked_before_a_caller_gets_the_answer_made_for_that_caller(
    asked: Sequence[tuple[Request, ProcessingMode | None]],
) -> None:
    service, policy = served()
    for one, mode in [*asked, *asked]:
        admission, headers = decide(policy, one), dict(one.headers)
        if isinstance(admission, Admission):
            expected = made_anew(policy, admission, headers, mode)
            assert service.admitted(admission, headers, mode) == expected


def test_answers_of_one_policy_are_not_those_of_the_next() -> None:
    service, policy = served()
    asked = request(authorization=CALLERS[0])
    admission = decide(policy, asked)
    assert isinstance(admission, Admission)
    assert b"authorization" in service.admitted(admission, dict(asked.headers), None)
    forwarding = DOCUMENT.auth.model_copy(update={"forward_credentials": True})
    service.current_policy.apply(DOCUMENT.model_copy(update={"auth": forwarding}))
    assert b"authorization" not in service.admitted(admission, dict(asked.headers), None)


def test_however_many_callers_there_are_a_bounded_number_of_answers_is_kept() -> None:
    service, policy = served()
    admission = decide(policy, request())
    assert isinstance(admission, Admission)
    for number in range(response_cache.ENTRIES + 10):
        service.admitted(admission, {f"x-sluice-{number}": b""}, None)
    assert len(service._answers.kept) == response_cache.ENTRIES


def test_an_answer_that_a_client_made_long_is_given_but_not_kept() -> None:
    service, policy = served()
    admission = decide(policy, request())
    assert isinstance(admission, Admission)
    forged = {f"x-sluice-{'x' * 2000}": b"1"}
    assert service.admitted(admission, forged, None) == made_anew(policy, admission, forged, None)
    assert not service._answers.kept
