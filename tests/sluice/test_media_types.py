"""Media types have one normal form, which all readers of Content-Type and Accept use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice.media_types import (
    GRPC,
    IMAGES,
    is_grpc,
    is_json,
    media_type_name,
    parse_accept,
    parse_media_type,
)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("application/json", "application/json"),
        (" Application/JSON ;charset=utf-8", "application/json"),
        ('text/json; profile="a;b"', "application/json"),
        ("image/jpg", "image/jpeg"),
        ("IMAGE/PJPEG", "image/jpeg"),
        ("image/x-png", "image/png"),
        ("application/grpc+proto", GRPC),
        ("application/grpc-web+proto", "application/grpc-web+proto"),
        ("", ""),
        (";", ""),
    ],
)
def test_a_media_type_has_a_normal_form(value: str, name: str) -> None:
    assert media_type_name(value) == parse_media_type(value).name == name


@given(st.text('aAgGrpPcCjJson/+-;, \t"', max_size=30) | st.sampled_from(IMAGES).map(str.upper))
def test_the_normal_form_is_stable(value: str) -> None:
    name = media_type_name(value)
    assert media_type_name(name) == name
    assert parse_media_type(value).name == name


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"application/grpc", True),
        (b"Application/gRPC; a=b", True),
        (b"application/grpc+json", True),
        (b"application/grpc ", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/grp", False),
        (b"", False),
    ],
)
def test_a_grpc_call_is_told_by_its_media_type(value: bytes, *, expected: bool) -> None:
    assert is_grpc(value) is expected
    assert (media_type_name(value.decode()) == GRPC) is expected


def test_json_is_told_by_its_suffix() -> None:
    assert is_json("application/vnd.example+json")
    assert not is_json("application/jsonp")


def test_names_in_accept_have_the_normal_form() -> None:
    assert parse_accept("Text/JSON;q=0.5, image/jpg") == {"application/json": 0.5, "image/jpeg": 1}
