"""A config is checked together with all files that it names."""

from pathlib import Path

import pytest

from sluice.config import ConfigError
from sluice.config.checked import load_checked
from sluice.config.named_files import RUNS_ON_THIS_MACHINE
from tests.certificates import certificate, private_key

CONFIG = """
listener: {tls: {certificate: cert.pem, private_key: key.pem}}
auth:
  issuers:
    - {issuer: i, audiences: [a], algorithms: [RS256], jwks_file: one.json}
    - {issuer: j, audiences: [a], algorithms: [RS256], jwks_file: two.json}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG)
    return path


def test_the_errors_of_all_files_are_shown_in_the_order_of_the_config(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_checked(file, RUNS_ON_THIS_MACHINE)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (2, "listener.tls.certificate"),
        (2, "listener.tls.private_key"),
        (5, "auth.issuers.0.jwks_file"),
        (6, "auth.issuers.1.jwks_file"),
    ]


def test_an_empty_key_set_is_a_warning(file: Path) -> None:
    (file.parent / "cert.pem").write_bytes(certificate())
    (file.parent / "key.pem").write_bytes(private_key())
    for name in ("one.json", "two.json"):
        (file.parent / name).write_text('{"keys": []}')
    checked = load_checked(file, RUNS_ON_THIS_MACHINE)
    first, second = map(str, checked.warnings[-2:])
    assert first.startswith(
        f"{file}:5: auth.issuers.0: the key set of 'i' is empty: its tokens are refused; add "
    )
    assert first.endswith("[empty_key_set]")
    assert second.startswith(f"{file}:6: auth.issuers.1: ")
