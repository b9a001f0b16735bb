"""`sluice jwks` makes and shows key sets; `sluice token` signs with their keys."""

import json
import stat
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sluice.cli import main
from sluice.keys.key_set import KeySet
from sluice.keys.signing import ALGORITHMS, private_pem

PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "k"}


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out.strip()


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([*map(str, arguments)]) != 0
    return capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_new_key_signs_tokens_that_its_key_set_verifies(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "signing.pem"
    text = shown(capsys, "jwks", "--new", file, "--algorithm", algorithm)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = KeySet.parse(text).keys
    token = shown(
        capsys, "token", "--sub", "a", "--key-file", file, "--algorithm", algorithm
    ).strip()
    header = jwt.get_unverified_header(token)
    assert (header["kid"], header["alg"]) == (key.id, algorithm)
    assert jwt.decode(token, key.jwk, [algorithm], audience="sluice")["sub"] == "a"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_no_private_part_is_printed(
    algorithm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, "jwks", "--new", tmp_path / "key", "--algorithm", algorithm)
    (jwk,) = json.loads(text)["keys"]
    assert not PRIVATE_MEMBERS & set(jwk)
    (tmp_path / "leaked.json").write_text(json.dumps({"keys": [{**jwk, "p": "secret"}]}))
    assert "secret" not in shown(capsys, "jwks", tmp_path / "leaked.json")


def test_a_key_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown(capsys, "jwks", "--new", tmp_path / "key")
    before = (tmp_path / "key").read_bytes()
    assert f"{tmp_path / 'key'} exists" in refused(capsys, "jwks", "--new", tmp_path / "key")
    assert (tmp_path / "key").read_bytes() == before


def test_a_key_id_is_that_of_the_token_and_of_the_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "key"
    (key,) = KeySet.parse(shown(capsys, "jwks", "--new", file, "--kid", "2026-11")).keys
    assert key.id == "2026-11"
    token = shown(capsys, "token", "--sub", "a", "--key-file", file, "--kid", "2026-11")
    assert jwt.get_unverified_header(token)["kid"] == "2026-11"
    without = shown(capsys, "token", "--sub", "a", "--key-file", file, "--kid", "")
    assert "kid" not in jwt.get_unverified_header(without)


def test_a_rotation_adds_a_key_and_then_removes_the_old_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, keys = tmp_path / "old.pem", tmp_path / "new.pem", tmp_path / "jwks.json"
    shown(capsys, "jwks", "--new", old, "--kid", "old", "--output", keys)
    shown(capsys, "jwks", "--new", keys, new, "--output", keys, "--algorithm", "ES256")
    ids = [key.id for key in KeySet.parse(keys.read_text()).keys]
    assert ids[0] == "old"
    assert len(ids) == 2
    shown(capsys, "jwks", new, "--output", keys)
    assert [key.id for key in KeySet.parse(keys.read_text()).keys] == ids[1:]
    assert stat.S_IMODE(keys.stat().st_mode) == 0o644
    assert {path.name for path in tmp_path.iterdir()} == {"old.pem", "new.pem", "jwks.json"}


def test_a_public_key_in_pem_has_the_same_key_set_as_its_private_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "private").write_bytes(private_pem(key))
    (tmp_path / "public").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    assert shown(capsys, "jwks", tmp_path / "private") == shown(capsys, "jwks", tmp_path / "public")


def test_the_default_key_id_is_the_thumbprint_of_rfc_7638(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPe"
        "bWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY36"
        "8QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4l"
        "Fd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    public = jwt.PyJWK({"kty": "RSA", "n": modulus, "e": "AQAB", "alg": "RS256"}).key
    (tmp_path / "key").write_bytes(
        public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    (key,) = KeySet.parse(shown(capsys, "jwks", tmp_path / "key")).keys
    assert key.id == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "neither a key in PEM nor a JSON Web Key Set"),
        (b"{}", "has no list of keys"),
        (b'{"keys": [{"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}',
         "a symmetric key has no public part"),
        (b'{"keys": [{"kty": "RSA"}]}', "no key that can verify signatures"),
        (private_pem(rsa.generate_private_key(65537, 1024)), "2048 to 8192 bits"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a private key"),
    ],
)  # fmt: skip
def test_a_file_without_a_usable_key_is_refused_with_the_reason(
    content: bytes, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_bytes(content)
    error = refused(capsys, "jwks", tmp_path / "key")
    assert f"{tmp_path / 'key'}: " in error
    assert text in error


def test_an_encrypted_key_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encrypted = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    (tmp_path / "key").write_bytes(encrypted)
    for command in (["jwks"], ["token", "--sub", "a", "--key-file"]):
        assert "is encrypted: decrypt it first" in refused(capsys, *command, tmp_path / "key")


def test_an_algorithm_that_the_key_lacks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(capsys, "jwks", "--new", tmp_path / "key", "--algorithm", "ES384")
    for command in (["jwks"], ["token", "--sub", "a", "--key-file"]):
        error = refused(capsys, *command, tmp_path / "key", "--algorithm", "RS256")
        assert "the key can sign with ES384, not with RS256" in error


def test_two_keys_with_one_key_id_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(capsys, "jwks", "--new", tmp_path / "key")
    assert "two keys have the key ID" in refused(capsys, "jwks", tmp_path / "key", tmp_path / "key")


def test_a_file_that_cannot_be_read_or_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(capsys, "jwks", "--new", tmp_path / "key")
    for arguments in (
        ["jwks", tmp_path / "absent"],
        ["jwks", tmp_path / "key", "--output", tmp_path / "key" / "x"],
        ["jwks", "--new", tmp_path / "key" / "x"],
        ["token", "--sub", "a", "--key-file", tmp_path / "absent"],
    ):
        error = refused(capsys, *arguments)
        assert f"{arguments[-1]}: " in error
        assert "[Errno" not in error
