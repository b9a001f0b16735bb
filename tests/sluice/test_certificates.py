"""`sluice certs` makes certificates that the parts accept from each other, and renews them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from sluice.certificates import Part, UnusableAuthorityError, make_certificates
from sluice.cli import main
from sluice.config.load import loads

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SERVER, CLIENT = Part("server.test", "server", is_server=True), Part("client", "client", False)


def make(folder: Path, now: datetime = NOW, *, new_authority: bool = False) -> None:
    list(make_certificates(
        folder, (SERVER, CLIENT), ["gw.test", "10.0.0.7"], 90, now, new_authority=new_authority
    ))  # fmt: skip


def certificates(folder: Path, name: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates((folder / f"{name}.crt").read_bytes())


def test_a_certificate_is_signed_for_the_names_of_its_part(tmp_path: Path) -> None:
    make(tmp_path)
    (authority,), (server,) = certificates(tmp_path, "ca"), certificates(tmp_path, "server")
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"server.test", "localhost", "gw.test"}
    addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "10.0.0.7"}
    assert server.not_valid_after_utc == NOW + timedelta(days=90)
    (client,) = certificates(tmp_path, "client")
    names = client.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["client"]


def test_only_the_user_can_read_a_private_key(tmp_path: Path) -> None:
    make(tmp_path)
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    keys = {name for name in modes if name.endswith(".key")}
    assert keys == {"ca.key", "server.key", "client.key"}
    assert {modes[name] for name in keys} == {0o600}


def test_again_makes_new_certificates_with_the_same_authority(tmp_path: Path) -> None:
    make(tmp_path)
    before = (tmp_path / "ca.crt").read_bytes(), (tmp_path / "server.crt").read_bytes()
    make(tmp_path)
    assert (tmp_path / "ca.crt").read_bytes() == before[0]
    assert (tmp_path / "server.crt").read_bytes() != before[1]


@pytest.mark.parametrize(("years", "new"), [(0, True), (5, False)])
def test_a_new_authority_leaves_the_last_one_valid(tmp_path: Path, years: int, new: bool) -> None:
    make(tmp_path)
    (old,), (old_server,) = certificates(tmp_path, "ca"), certificates(tmp_path, "server")
    # After almost five years, the authority expires soon.
    make(tmp_path, NOW + timedelta(days=years * 365 - 10), new_authority=new)
    authority, kept = certificates(tmp_path, "ca")
    assert kept == old
    certificates(tmp_path, "server")[0].verify_directly_issued_by(authority)
    old_server.verify_directly_issued_by(kept)


def test_an_authority_without_its_key_is_not_replaced(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(UnusableAuthorityError, match="No such file"):
        make(tmp_path)
    (tmp_path / "ca.key").write_bytes((tmp_path / "server.key").read_bytes())
    with pytest.raises(UnusableAuthorityError, match="do not belong together"):
        make(tmp_path)


def test_the_command_prints_a_valid_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certs", str(tmp_path / "certs"), "--operator", "alice", "--days", "3"]) == 0
    shown = capsys.readouterr()
    config = loads(shown.out)
    assert config.identity is not None
    assert config.identity.mutual
    (operator,) = config.control_plane.access.certificates
    assert (operator.name, operator.role) == ("alice", "operator")
    named = yaml.safe_load(shown.out)["identity"]["envoy"].values()
    assert all(Path(each).exists() for each in named)
    end = datetime.now(UTC) + timedelta(days=3)
    assert f"alice.crt, valid until {end:%Y-%m-%d}" in shown.err


def test_an_operator_cannot_have_the_files_of_a_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["certs", str(tmp_path), "--operator", "envoy"]) == 1
    assert "cannot have the name of a part" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
