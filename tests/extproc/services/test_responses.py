"""Request headers that carry an admission to the model server."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from extproc.decision import Admission, Reason
from extproc.services.responses import header_safe, upstream_headers
from tests.extproc.decision.requests import make_policy

POLICY = make_policy({"m": {}, "n": {}})

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("subject", "value"),
    [
        ("alice@example.com", "alice@example.com"),
        ("a\r\nx-admin: 1", "a%0D%0Ax-admin:%201"),
        ("jürgen", "j%C3%BCrgen"),
        ("a%0Ab", "a%250Ab"),
        (" a", "%20a"),
        ("\x00\x7f", "%00%7F"),
    ],
)
def test_a_subject_cannot_start_another_header(subject: str, value: str) -> None:
    assert header_safe(subject) == value


@given(_TEXT)
def test_every_subject_has_a_valid_header_value(text: str) -> None:
    value = header_safe(text)
    assert all(0x20 <= ord(character) <= 0x7E for character in value)
    assert value == value.strip()


@given(_TEXT, _TEXT)
@example("%20", " ")
@example(" a", "%20a")
@example("ä", "%C3%A4")
def test_different_subjects_have_different_header_values(one_: str, other: str) -> None:
    assert (header_safe(one_) == header_safe(other)) == (one_ == other)


@given(_TEXT.filter(bool), st.sampled_from([b"m", b"n"]))
def test_each_upstream_header_is_set_once(subject: str, model: bytes) -> None:
    target = POLICY.models[model].stable
    sent = upstream_headers(Admission(target, Reason.CANARY_HEADER, True, subject, 1))
    names = [name for name, _ in sent]
    assert len(set(names)) == len(names)
    assert dict(sent)["x-model-service"] == target.cluster
