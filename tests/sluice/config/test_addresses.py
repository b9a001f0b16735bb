"""An address has a host that every resolver reads in the same way; an error quotes the address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sluice.config.addresses import is_ip, is_localhost, split_url
from sluice.config.values import Address, HostPort

HOST_PORT = TypeAdapter[str](HostPort)
VALID = [
    "127.0.0.1:1", "[::1]:65535", "[fe80::1%eth0]:1", "model.svc:80", "localhost:80", "a.b1:1",
    "1a:1", "1.2.3.4.example:1", "0x7f.example:1", "host.:1", "_dns.example:1",
]  # fmt: skip
NUMBERS = [
    "300.1.1.1", "1.2.3", "127.1", "1.2.3.4.5", "0x7f.1", "127.0.0.0x1", "a.0x", "1", "0177.0.0.1",
    "1.2.3.4.", "example.7", "example.7.",
]  # fmt: skip


def error(value: str) -> str:
    with pytest.raises(ValidationError) as caught:
        HOST_PORT.validate_python(value)
    message: str = caught.value.errors()[0]["msg"]
    return message


@pytest.mark.parametrize("value", VALID)
def test_a_host_is_a_name_or_an_ip_address(value: str) -> None:
    assert HOST_PORT.validate_python(value) == value


@pytest.mark.parametrize("host", NUMBERS)
def test_a_host_that_ends_in_a_number_is_an_ipv4_address_or_an_error(host: str) -> None:
    message = error(f"{host}:80")
    assert f"'{host}:80' has no valid IPv4 address" in message
    assert split_url(f"https://{host}/keys") is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("::1:8080", "has an IPv6 address without brackets"),
        ("::1", "has an IPv6 address without brackets"),
        ("[::1", "is no such address"),
        ("[127.0.0.1]:80", "is no such address"),
        ("[localhost]:80", "is no such address"),
        ("8080", "is no such address"),
        ("host:65536", "is no such address"),
    ],
)
def test_an_error_quotes_the_address_and_gives_an_example(value: str, reason: str) -> None:
    message = error(value)
    assert f"'{value}' {reason}: write an address as host:port, such as 127.0.0.1:80" in message


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("http://host:80", "host:80"),
        ("https://host/v2/models", "host:443"),
        ("grpc://[::1]:9000?x", "[::1]:9000"),
        ("http://", "127.0.0.1:8080"),
    ],
)
def test_an_error_says_which_part_of_a_url_is_the_address(value: str, address: str) -> None:
    assert error(value) == (
        f"Value error, '{value}' is a URL: write an address as host:port, such as {address}, "
        "without the scheme"
    )


def test_an_error_shows_no_password_and_no_long_or_forged_text() -> None:
    assert "secret" not in error("user:secret@host:80")
    assert len(error("x" * 100_000)) < 300
    assert "\n" not in error("host\n:80")


@pytest.mark.parametrize("value", ["300.1.1.1:1", "[::1", "http://h:1"])
def test_every_kind_of_address_has_the_same_check(value: str) -> None:
    with pytest.raises(ValidationError, match="write an address as host:port"):
        TypeAdapter[str](Address).validate_python(value)


@given(st.lists(st.integers(0, 999), min_size=1, max_size=6))
def test_a_host_of_numbers_is_valid_only_as_an_ipv4_address(numbers: list[int]) -> None:
    host = ".".join(map(str, numbers))
    if is_ip(host):
        assert HOST_PORT.validate_python(f"{host}:1")
    else:
        assert host in error(f"{host}:1")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "a.localhost"])
def test_names_of_the_loopback_addresses(host: str) -> None:
    assert is_localhost(host)


@pytest.mark.parametrize("host", ["localhost.example", "notlocalhost", "127.0.0.1", "localhost.."])
def test_other_names(host: str) -> None:
    assert not is_localhost(host)
