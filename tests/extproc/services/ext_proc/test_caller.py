"""A caller is an authenticated subject, or the address that Envoy saw."""

import pytest

from extproc.decision import Admission, Reason
from extproc.policy.compiled import Target
from extproc.services.ext_proc.caller import caller_of
from sluice.contract.headers import CLIENT_ADDRESS


def caller(address: bytes, subject: str = "", **headers: bytes) -> str:
    admission = Admission(Target("m", "v1", "m/v1", "grpc"), Reason.STABLE, False, subject, 1000)
    return caller_of(admission, {CLIENT_ADDRESS: address, **headers})


def test_a_subject_is_one_caller_at_every_address() -> None:
    assert caller(b"192.0.2.1", "alice") == caller(b"192.0.2.2", "alice")
    assert caller(b"192.0.2.1", "alice") != caller(b"192.0.2.1", "bob")


def test_a_subject_cannot_take_the_name_of_an_address() -> None:
    assert caller(b"192.0.2.1", "192.0.2.1") != caller(b"192.0.2.1")
    assert caller(b"192.0.2.1", caller(b"192.0.2.1")) != caller(b"192.0.2.1")


def test_anonymous_clients_are_told_apart_by_address() -> None:
    assert caller(b"192.0.2.1") != caller(b"192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"2001:db8::1", b"2001:db8::ffff:1", True),
        (b"2001:db8::1", b"2001:db8:0:1::1", False),
        (b"::ffff:192.0.2.1", b"192.0.2.1", True),
        (b"::ffff:192.0.2.1", b"::ffff:192.0.2.2", False),
        (b"unknown", b"unknown", True),
    ],
)
def test_an_ipv6_network_is_one_caller(one: bytes, other: bytes, same: bool) -> None:
    assert (caller(one) == caller(other)) is same


def test_a_client_cannot_choose_its_name_by_other_headers() -> None:
    spoofed = {"x-forwarded-for": b"203.0.113.9", "x-real-ip": b"203.0.113.9"}
    assert caller(b"192.0.2.1", **spoofed) == caller(b"192.0.2.1")
