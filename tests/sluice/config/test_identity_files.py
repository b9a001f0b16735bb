"""The files of `identity` are checked before a part of the gateway starts with them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluice.certificates import make_certificates
from sluice.cli.certs import PARTS
from sluice.config import ConfigError
from sluice.config.files import READABLE
from sluice.config.identity_files import callout_findings, identity_files
from sluice.config.load import ConfigText, loads
from sluice.config.named_files import (
    MAY_RUN_ELSEWHERE,
    RUNS_HERE,
    RUNS_ON_THIS_MACHINE,
    Strictness,
    check_named_files,
    judge,
)

NOW = datetime.now(UTC)
IDENTITY = """identity:
  ca: ca.crt
  control_plane:
    certificate: control-plane.crt
    private_key: control-plane.key
  callout:
    certificate: callout.crt
    private_key: callout.key
  envoy:
    certificate: envoy.crt
    private_key: envoy.key
"""
TOKENS = """identity:
  callout: {token_file: callout.token}
  envoy: {token_file: envoy.token}
"""
LINES = {
    "ca.crt": "2: identity.ca",
    "control-plane.crt": "4: identity.control_plane.certificate",
    "control-plane.key": "5: identity.control_plane.private_key",
    "callout.crt": "7: identity.callout.certificate",
    "callout.key": "8: identity.callout.private_key",
    "envoy.crt": "10: identity.envoy.certificate",
    "envoy.key": "11: identity.envoy.private_key",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files of all parts, and those of another gateway in `other`."""
    for each in (tmp_path, tmp_path / "other"):
        list(make_certificates(each, PARTS, [], 90, NOW))
    for name in ("callout", "envoy"):
        (tmp_path / f"{name}.token").write_text(f"token-of-{name}-0123456789")
    return tmp_path


def check(
    folder: Path, text: str, strictness: Strictness, now: datetime = NOW
) -> tuple[list[str], list[str]]:
    """The errors and the warnings."""
    place = ConfigText(text, "gateway.yaml").problem
    try:
        found = check_named_files(loads(text), folder, strictness, place, now)
    except ConfigError as error:
        return str(error).splitlines(), []
    return [], [str(problem) for problem in found]


@pytest.mark.parametrize("text", [IDENTITY, TOKENS])
@pytest.mark.parametrize("strictness", [RUNS_HERE, RUNS_ON_THIS_MACHINE, MAY_RUN_ELSEWHERE])
def test_files_that_all_parts_can_use_are_no_finding(
    folder: Path, text: str, strictness: Strictness
) -> None:
    assert check(folder, text, strictness) == ([], [])


NEEDED = {"ca.crt", "control-plane.crt", "control-plane.key"}


@pytest.mark.parametrize("name", LINES)
def test_a_missing_file_is_an_error_for_the_process_that_needs_it(folder: Path, name: str) -> None:
    (folder / name).unlink()
    message = f"gateway.yaml:{LINES[name]}: the file cannot be read: No such file or directory"
    expected = f"{message}; {READABLE}"
    assert check(folder, IDENTITY, RUNS_HERE) == ([expected], [])
    errors, (warning,) = check(folder, IDENTITY, RUNS_ON_THIS_MACHINE)
    assert (errors, warning) == ([], f"{expected} [no_identity_file]")
    for_control_plane = [expected] if name in NEEDED else []
    assert check(folder, IDENTITY, MAY_RUN_ELSEWHERE) == (for_control_plane, [])


def test_the_callout_needs_only_its_own_files(folder: Path) -> None:
    config = loads(IDENTITY)
    needed = {"ca.crt", "callout.crt", "callout.key"}
    for name in LINES:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        access = config.control_plane.access
        found = list(callout_findings(config.identity, access, folder, NOW))
        (folder / name).write_bytes(content)
        assert len(found) == (name in needed)
        if found:
            with pytest.raises(ConfigError):
                judge(found, RUNS_HERE, ConfigText(IDENTITY, "gateway.yaml").problem)


@pytest.mark.parametrize("part", ["callout", "envoy"])
def test_the_control_plane_needs_the_tokens_of_all_parts(folder: Path, part: str) -> None:
    (folder / f"{part}.token").write_text("short")
    where = f"gateway.yaml:{2 + (part == 'envoy')}: identity.{part}.token_file: "
    for strictness in (RUNS_ON_THIS_MACHINE, MAY_RUN_ELSEWHERE):
        (error,), _ = check(folder, TOKENS, strictness)
        assert error.startswith(f"{where}the token must be one line of 16 to 1024 bytes")
    (folder / f"{part}.token").unlink()
    (error,), _ = check(folder, TOKENS, MAY_RUN_ELSEWHERE)
    assert error.startswith(f"{where}the file cannot be read: ")


def copied(name: str, source: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / source).read_bytes())


WRONG = {
    "no PEM": (
        lambda folder: (folder / "ca.crt").write_bytes(b"x"),
        "2: identity.ca: the file has no valid certificate in PEM; write a file that begins with",
    ),
    "a key as a certificate": (
        copied("envoy.crt", "envoy.key"),
        "10: identity.envoy.certificate: the file has no valid certificate in PEM; it has a "
        "private key; write a file that begins with -----BEGIN CERTIFICATE-----",
    ),
    "the key of another part": (
        copied("callout.key", "envoy.key"),
        "8: identity.callout.private_key: the private key does not belong to the first "
        "certificate of `certificate`; write both files of one certificate",
    ),
    "the certificate of another part": (
        lambda folder: (
            copied("callout.crt", "envoy.crt")(folder),
            copied("callout.key", "envoy.key")(folder),
        ),
        "7: identity.callout.certificate: the certificate has sluice-envoy, but not "
        "sluice-callout; write `name` as in it",
    ),
    "of another authority": (
        lambda folder: (
            copied("envoy.crt", "other/envoy.crt")(folder),
            copied("envoy.key", "other/envoy.key")(folder),
        ),
        "10: identity.envoy.certificate: no certificate of `identity.ca` has signed it; write",
    ),
}


@pytest.mark.parametrize(("change", "expected"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("strictness", [RUNS_HERE, RUNS_ON_THIS_MACHINE, MAY_RUN_ELSEWHERE])
def test_wrong_content_is_an_error_on_every_machine(
    folder: Path, change: Callable[[Path], object], expected: str, strictness: Strictness
) -> None:
    change(folder)
    errors, _ = check(folder, IDENTITY, strictness)
    assert errors[0].startswith(f"gateway.yaml:{expected}")


def test_certificates_of_both_authorities_are_accepted_while_one_replaces_the_other(
    folder: Path,
) -> None:
    list(make_certificates(folder, PARTS[:2], [], 90, NOW, new_authority=True))
    assert check(folder, IDENTITY, RUNS_HERE) == ([], [])


@pytest.mark.parametrize(
    ("days", "errors", "message"),
    [(80, 0, "expires on"), (91, 3, "has expired on"), (-1, 0, "is not valid before")],
)
def test_the_validity_of_every_certificate_is_checked(
    folder: Path, days: int, errors: int, message: str
) -> None:
    now = NOW + timedelta(days)
    refused, warned = check(folder, IDENTITY, RUNS_ON_THIS_MACHINE, now)
    assert len(refused) == errors
    assert [] != refused + warned == [each for each in refused + warned if message in each]
    assert check(folder, IDENTITY, MAY_RUN_ELSEWHERE, now)[0] == []


def test_the_control_plane_follows_the_files_that_it_reads(folder: Path) -> None:
    config = loads(IDENTITY)
    found = identity_files(config.identity, config.control_plane.access, folder)
    assert {file.name for file in found} == NEEDED
    config = loads(TOKENS)
    found = identity_files(config.identity, config.control_plane.access, folder)
    assert [file.name for file in found] == ["callout.token", "envoy.token"]
