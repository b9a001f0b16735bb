"""What is told upstream: in headers that hold any subject, and each of them once."""

from hypothesis import example, given
from hypothesis import strategies as st

from extproc.decision import Admission, Reason
from extproc.services.outcome import header_safe, upstream_headers
from tests.extproc.decision.requests import policy

POLICY = policy({"m": {}, "n": {}})

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(_TEXT)
@example("a\r\nx-admin: 1")
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
    target = POLICY.routes[model].stable
    sent = upstream_headers(Admission(target, Reason.CANARY_HEADER, True, subject, 1))
    names = [name for name, _ in sent]
    assert len(set(names)) == len(names)
    assert dict(sent)["x-model-service"] == target.cluster
