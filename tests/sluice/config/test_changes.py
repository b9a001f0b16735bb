"""The changes between two configs name each value that differs, and show no secret."""

from typing import Any

from sluice.config import GatewayConfig
from sluice.config.changes import Change, config_changes


def config(**sections: Any) -> GatewayConfig:
    return GatewayConfig.model_validate(sections)


def model(*ports: int, **fields: Any) -> dict[str, Any]:
    endpoints = [{"address": f"127.0.0.1:{port}"} for port in ports]
    return {"versions": {"v1": {"endpoints": endpoints}}, **fields}


def test_equal_configs_have_no_changes() -> None:
    old = config(models={"m": model(1)}, listener={"address": "127.0.0.1:8080"})
    assert config_changes(old, config(models={"m": model(1)})) == []


def test_a_value_is_named_by_its_path() -> None:
    old = config(models={"m": model(1, timeout="30s"), "n": model(2)})
    new = config(models={"n": model(2), "m": model(1, timeout="60s")}, placement="callout")
    assert config_changes(old, new) == [
        Change(("placement",), "auto", "callout"),
        Change(("models", "m", "timeout"), 30.0, 60.0),
    ]


def test_a_section_that_is_new_or_removed_is_shown_as_it_was_written() -> None:
    old, new = config(models={"m": model(1)}), config(models={"n": model(2)})
    v1 = {"endpoints": [{"address": "127.0.0.1:1"}]}
    v2 = {"endpoints": [{"address": "127.0.0.1:2"}]}
    assert config_changes(old, new) == [
        Change(("models", "m"), {"versions": {"v1": v1}}, None),
        Change(("models", "n"), None, {"versions": {"v1": v2}}),
    ]


def test_an_item_that_is_inserted_changes_no_other_item() -> None:
    old, new = config(models={"m": model(1, 2, 4)}), config(models={"m": model(1, 2, 3, 4)})
    path = ("models", "m", "versions", "v1", "endpoints", 2)
    assert config_changes(old, new) == [Change(path, None, {"address": "127.0.0.1:3"})]
    assert config_changes(new, old) == [Change(path, {"address": "127.0.0.1:3"}, None)]


def test_a_changed_item_is_compared_by_key() -> None:
    old, new = config(models={"m": model(1, 2)}), config(models={"m": model(1, 3)})
    path = ("models", "m", "versions", "v1", "endpoints", 1, "address")
    assert config_changes(old, new) == [Change(path, "127.0.0.1:2", "127.0.0.1:3")]


def test_a_list_of_texts_is_one_value() -> None:
    old = config(models={"m": model(1, methods=["POST"])})
    new = config(models={"m": model(1, methods=["GET", "POST"])})
    path = ("models", "m", "methods")
    assert config_changes(old, new) == [Change(path, ["POST"], ["GET", "POST"])]


def test_a_change_of_a_secret_is_seen_and_the_secret_is_not() -> None:
    def keys(secret: str, name: str = "n") -> GatewayConfig:
        key = {"name": name, "sha256": secret * 64, "claims": {"group": f"secret{secret}"}}
        return config(auth={"api_keys": [key]})

    path = ("auth", "api_keys", 0)
    assert config_changes(keys("1"), keys("2")) == [
        Change((*path, "sha256"), "(redacted)", "(redacted)"),
        Change((*path, "claims"), "(redacted)", "(redacted)"),
    ]
    added = config_changes(config(), keys("1"))
    assert "(redacted)" in str(added)
    assert "secret1" not in str(added)
    assert "1" * 64 not in str(added)
    assert added[0].path == path


def test_a_change_has_the_key_of_the_config_and_not_the_name_in_python() -> None:
    asserted = {"assert": [{"name": "closed", "refused": True}]}
    (change,) = config_changes(config(), config(**asserted))
    assert change.path == ("assert", 0)
