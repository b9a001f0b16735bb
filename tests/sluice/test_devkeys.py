"""The development key is one that this user has created."""

import os
from pathlib import Path

import pytest

from sluice.devkeys import DevKeyError, DevKeys


def keys(folder: Path) -> DevKeys:
    return DevKeys(folder / "sluice" / "dev-key.pem", folder / "sluice" / "dev-jwks.json")


def test_the_key_is_created_once(tmp_path: Path) -> None:
    created = keys(tmp_path)
    created.ensure()
    private, public = created.private_key.read_bytes(), created.jwks.read_bytes()
    created.ensure()
    assert created.private_key.stat().st_mode & 0o777 == 0o600
    assert (created.private_key.read_bytes(), created.jwks.read_bytes()) == (private, public)


def test_a_key_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created = keys(tmp_path)
    created.ensure()
    if os.geteuid() == 0:
        os.chown(created.private_key, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(DevKeyError, match="belongs to another user; set XDG_STATE_HOME"):
        created.ensure()


def test_a_pipe_in_place_of_the_key_does_not_block(tmp_path: Path) -> None:
    created = keys(tmp_path)
    created.private_key.parent.mkdir()
    os.mkfifo(created.private_key)
    with pytest.raises(DevKeyError, match="is not a regular file"):
        created.ensure()
