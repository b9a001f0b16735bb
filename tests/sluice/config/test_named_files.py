"""The files and variables that a config names are checked as the gateway will read them."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
)

from sluice.config import ConfigError
from sluice.config.files import READABLE
from sluice.config.load import ConfigText, loads
from sluice.config.named_files import (
    MAY_RUN_ELSEWHERE,
    RUNS_HERE,
    RUNS_ON_THIS_MACHINE,
    Strictness,
    check_named_files,
)
from sluice.config.tls_files import MAX_PEM
from tests.certificates import PrivateKey, certificate, private_key

NOW = datetime(2030, 1, 15, tzinfo=UTC)
TLS = "listener:\n  tls:\n    certificate: cert.pem\n    private_key: key.pem\n"
CLIENTS = TLS + "    client_ca: ca.pem\n"
PROFILE = "telemetry:\n  profile:\n    secret_file: secret\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cert.pem").write_bytes(certificate())
    (tmp_path / "key.pem").write_bytes(private_key())
    (tmp_path / "ca.pem").write_bytes(certificate() + certificate())
    (tmp_path / "secret").write_text("s" * 16 + "\n")
    return tmp_path


def check(
    folder: Path, text: str, strictness: Strictness = RUNS_ON_THIS_MACHINE
) -> tuple[list[str], list[str]]:
    """The errors and the warnings."""
    source = ConfigText(text, "gateway.yaml")
    try:
        found = check_named_files(loads(text), folder, strictness, source.problem, NOW)
    except ConfigError as error:
        return str(error).splitlines(), []
    return [], [str(problem) for problem in found]


def test_files_that_the_gateway_can_use_are_no_finding(folder: Path) -> None:
    assert check(folder, CLIENTS + PROFILE, RUNS_HERE) == ([], [])


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_every_type_of_key_that_envoy_accepts_is_accepted(folder: Path, key: PrivateKey) -> None:
    (folder / "cert.pem").write_bytes(certificate(key))
    (folder / "key.pem").write_bytes(private_key(key))
    assert check(folder, TLS) == ([], [])


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def instead(name: str, create: Callable[[Path], object]) -> Callable[[Path], object]:
    """Replace a file by something that `create` makes."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        create(folder / name)

    return change


WRONG = {
    "no PEM": (write("cert.pem", b"x"), "3: listener.tls.certificate: ", "no valid certificate"),
    "swapped": (write("cert.pem", private_key()), "3: ", "in PEM; it has a private key"),
    "two in one": (write("key.pem", certificate()), "4: ", "in PEM; it has a certificate"),
    "no key": (write("key.pem", b""), "4: listener.tls.private_key: ", "no valid private key"),
    "a password": (
        write("key.pem", private_key(encryption=BestAvailableEncryption(b"x"))),
        "4: listener.tls.private_key: ",
        "the key has a password",
    ),
    "another key": (
        write("key.pem", private_key(ec.generate_private_key(ec.SECP256R1()))),
        "4: listener.tls.private_key: ",
        "does not belong to the first certificate",
    ),
    "short key": (
        write("cert.pem", certificate(rsa.generate_private_key(65537, 1024))),
        "3: listener.tls.certificate: ",
        "2048 bits or more",
    ),
    "unknown curve": (
        write("cert.pem", certificate(ec.generate_private_key(ec.SECP256K1()))),
        "3: listener.tls.certificate: ",
        "must be on P-256, P-384 or P-521",
    ),
    "no CA": (write("ca.pem", b"{}"), "5: listener.tls.client_ca: ", "no valid certificate"),
    "too large": (write("ca.pem", b" " * (MAX_PEM + 1)), "5: ", "larger than 1MiB"),
    "short secret": (write("secret", b"short"), "8: telemetry.profile.secret_file: ", "16 to 1024"),
    "binary secret": (write("secret", b"\xff" * 20), "8: ", "printable ASCII"),
    "two lines": (write("secret", b"s" * 20 + b"\ns"), "8: ", "one line"),
    "long secret": (write("secret", b"s" * 2000), "8: ", "larger than 1KiB"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "place", "message"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("strictness", [RUNS_ON_THIS_MACHINE, MAY_RUN_ELSEWHERE])
def test_a_file_with_wrong_content_is_an_error_on_every_machine(
    folder: Path,
    change: Callable[[Path], object],
    place: str,
    message: str,
    strictness: Strictness,
) -> None:
    change(folder)
    errors, _ = check(folder, CLIENTS + PROFILE, strictness)
    error = next(error for error in errors if message in error)
    assert error.startswith(f"gateway.yaml:{place}")


UNREADABLE = {
    "missing": lambda path: None,
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "cycle": lambda path: path.symlink_to(path),
}  # fmt: skip


@pytest.mark.parametrize("create", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("cert.pem", "3: listener.tls.certificate"),
        ("key.pem", "4: listener.tls.private_key"),
        ("ca.pem", "5: listener.tls.client_ca"),
        ("secret", "8: telemetry.profile.secret_file"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error_on_the_machine_of_the_gateway(
    folder: Path, create: Callable[[Path], object], name: str, key: str
) -> None:
    instead(name, create)(folder)
    (error,), _ = check(folder, CLIENTS + PROFILE)
    assert error.startswith(f"gateway.yaml:{key}: ")
    assert "the file cannot be read: " in error
    assert check(folder, CLIENTS + PROFILE, MAY_RUN_ELSEWHERE) == ([], [])


@pytest.mark.parametrize(
    ("start", "days", "message"),
    [
        (NOW - timedelta(9), 10, "expires on 2030-01-16 00:00 UTC"),
        (NOW + timedelta(1), 90, "is not valid before 2030-01-16 00:00 UTC"),
    ],
)
def test_a_certificate_that_is_not_valid_now_or_not_for_long_is_a_warning(
    folder: Path, start: datetime, days: float, message: str
) -> None:
    (folder / "cert.pem").write_bytes(certificate(start=start, end=start + timedelta(days)))
    for strictness in (RUNS_HERE, RUNS_ON_THIS_MACHINE, MAY_RUN_ELSEWHERE):
        errors, (warning,) = check(folder, TLS, strictness)
        assert errors == []
        assert warning.startswith(
            f"gateway.yaml:3: listener.tls.certificate: a certificate in the file {message}; "
        )


def test_an_expired_certificate_is_refused_but_stops_no_gateway(folder: Path) -> None:
    expired = certificate(end=NOW - timedelta(1))
    (folder / "cert.pem").write_bytes(expired)
    message = "a certificate in the file has expired on 2030-01-14 00:00 UTC; install a new"
    (error,), _ = check(folder, TLS)
    assert error.startswith(f"gateway.yaml:3: listener.tls.certificate: {message}")
    for strictness in (RUNS_HERE, MAY_RUN_ELSEWHERE):
        errors, (warning,) = check(folder, TLS, strictness)
        assert errors == []
        assert message in warning


def test_an_expired_authority_among_others_is_a_warning(folder: Path) -> None:
    expired = certificate(end=NOW - timedelta(1))
    for name, valid in (("ca.pem", certificate()), ("cert.pem", certificate())):
        (folder / name).write_bytes(valid + expired)
    errors, warnings = check(folder, CLIENTS)
    assert errors == []
    assert [each.split(": ")[1] for each in warnings] == [
        "listener.tls.certificate",
        "listener.tls.client_ca",
    ]
    (folder / "ca.pem").write_bytes(expired * 2)
    (error,), _ = check(folder, CLIENTS)
    assert "listener.tls.client_ca: a certificate in the file has expired" in error


def test_a_variable_that_is_not_set_is_an_error_only_for_the_processes_of_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "limits: {backend: {password_env: SLUICE_TEST_PASSWORD}}"
    expected = "gateway.yaml:1: limits.backend.password_env: the variable is not set in this"
    ((error,), _), (_, (warning,)) = (
        check(folder, text, each) for each in (RUNS_HERE, RUNS_ON_THIS_MACHINE)
    )
    assert error.startswith(expected)
    assert warning.startswith(expected)
    assert check(folder, text, MAY_RUN_ELSEWHERE) == ([], [])
    monkeypatch.setenv("SLUICE_TEST_PASSWORD", "x")
    assert check(folder, text, RUNS_HERE) == ([], [])


def test_the_folder_of_the_access_log_must_exist(folder: Path) -> None:
    def text(output: Path) -> str:
        return f"telemetry: {{access_log: {{output: {output}}}}}"

    assert check(folder, text(folder / "access.log"), RUNS_HERE) == ([], [])
    (error,), _ = check(folder, text(folder / "logs" / "access.log"), RUNS_HERE)
    assert "telemetry.access_log.output: the folder of the log file does not exist" in error
    (error,), _ = check(folder, text(folder), RUNS_HERE)
    assert "the path is that of a folder; create the folder" in error


def test_no_finding_shows_the_path_of_a_file_with_a_secret(folder: Path) -> None:
    text = CLIENTS.replace("key.pem", "hunter2") + PROFILE.replace(
        "secret_file: secret", "secret_file: hunter2"
    )
    errors, _ = check(folder, text)
    assert len(errors) == 2
    assert "hunter2" not in str(errors)


ACCESS = """control_plane:
  access:
    tokens:
      - {name: a, role: reader, secret_file: token}
"""


def test_a_token_file_must_have_a_token(folder: Path) -> None:
    where = "gateway.yaml:4: control_plane.access.tokens.0.secret_file: "
    for strictness in (RUNS_ON_THIS_MACHINE, MAY_RUN_ELSEWHERE):
        (errors, _) = check(folder, ACCESS, strictness)
        assert errors == [f"{where}the file cannot be read: No such file or directory; {READABLE}"]
    (folder / "token").write_text("short")
    remedy = "the token must be one line of 16 to 1024 bytes of printable ASCII"
    assert check(folder, ACCESS) == ([where + remedy], [])
    (folder / "token").write_text("0123456789abcdef\n")
    assert check(folder, ACCESS) == ([], [])


BACKEND = """limits:
  backend:
    kind: redis
    urls: ["rediss://127.0.0.1:6379/0"]
    password_file: {folder}/password
    tls: {{ca: {folder}/ca.pem}}
"""


def test_the_files_of_redis_may_be_on_the_machine_of_the_callout(folder: Path) -> None:
    text = BACKEND.format(folder=folder)
    message = "gateway.yaml:5: limits.backend.password_file: the file cannot be read: "
    (error,), _ = check(folder, text, RUNS_HERE)
    errors, (warning,) = check(folder, text)
    assert errors == []
    assert error.startswith(message)
    assert warning.startswith(message)
    assert warning.endswith("[no_backend_file]")
    assert check(folder, text, MAY_RUN_ELSEWHERE) == ([], [])
    (folder / "password").write_text("a password\n")
    assert check(folder, text, RUNS_HERE) == ([], [])


def test_wrong_content_of_a_file_of_redis_is_an_error_on_every_machine(folder: Path) -> None:
    (folder / "password").write_text("two\nlines")
    (folder / "ca.pem").write_text("no PEM")
    errors, _ = check(folder, BACKEND.format(folder=folder), MAY_RUN_ELSEWHERE)
    assert [each.split(": ")[1] for each in errors] == [
        "limits.backend.tls.ca",
        "limits.backend.password_file",
    ]


def test_a_private_key_is_examined_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examination of an RSA key takes long, and every change of a config checks all keys."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "cert.pem").write_bytes(certificate(key))
    (folder / "key.pem").write_bytes(private_key(key))
    examined = []

    def examine(content: bytes, password: None) -> object:
        examined.append(content)
        return load_pem_private_key(content, password)

    monkeypatch.setattr("sluice.config.tls_files.load_pem_private_key", examine)
    for _ in range(3):
        assert check(folder, TLS) == ([], [])
    assert len(examined) == 1
