"""What a model keeps about its versions, so that an edit of another model does not walk them."""

from functools import cached_property

from sluice.config import GatewayConfig, Model
from sluice.config.endpoints import Endpoint

PLAIN = {"endpoints": [{"address": "h:1"}]}
VERSIONS = {
    "plain": PLAIN,
    "tls": {**PLAIN, "tls": {"allow_any_server": True}},
    "header": {**PLAIN, "headers_from_secret": {"x-key": {"env": "KEY"}}, "tls": {}},
    "found": {"endpoints_from": {"dns": {"name": "h", "port": 2}}},
    "listed": {"endpoints_from": {"file": "endpoints.json"}},
}
CONFIG = {
    "models": {"a": {"versions": {"v1": PLAIN}}, "b": {"stable": "plain", "versions": VERSIONS}}
}


def test_the_versions_with_a_reference_have_their_key_paths() -> None:
    config = GatewayConfig.model_validate(CONFIG)
    found = dict(config.referring_versions())
    names = ("tls", "header", "found", "listed")
    assert list(found) == [("models", "b", "versions", name) for name in names]
    assert all(found[path] is config.models["b"].versions[path[3]] for path in found)


def test_a_changed_copy_of_a_model_keeps_nothing_of_the_original() -> None:
    original = GatewayConfig.model_validate(CONFIG).models["b"]
    kept = [name for name in vars(Model) if isinstance(vars(Model)[name], cached_property)]
    before = {name: getattr(original, name) for name in kept}
    version = original.versions["plain"].model_copy(
        update={"endpoints": (Endpoint(address="h:3"),), "protocol": "grpc"}
    )
    changed = original.model_copy(update={"versions": {"plain": version}, "stable": "plain"})
    assert {name for name in kept if getattr(changed, name) == before[name]} == set()
    assert {name: getattr(original, name) for name in kept} == before
